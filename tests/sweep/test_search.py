import pytest

from adafocus_jax.errors import UserError
from adafocus_jax.sweep import launch, parse_objectives
from adafocus_jax.sweep.search import SAMPLERS, ask

pytest.importorskip("optuna", reason="searches need Optuna (pip install '.[sweep]')")


def suggest(trial):
    return {"optimizer.lr": trial.suggest_float("lr", 0.01, 1.0, log=True)}


def search(sweep, stub, sampler, count):
    objectives = parse_objectives("top1")

    def propose():
        with sweep.lock():
            if len(sweep.trials()) >= count:
                return None
            return sweep.add(*ask(sweep, suggest, objectives, sampler=sampler, seed=0))

    return launch(sweep, objectives, run=stub, ask=propose, poll_sec=0.01)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_ends_with_its_trials_and_is_replayed_from_the_folders(make_sweep, stub, sampler):
    sweep = make_sweep(space="x")
    assert search(sweep, stub, sampler, 6).states == {"done": 6}
    half = make_sweep(name="again", space="x")
    search(half, stub, sampler, 3)
    assert search(half, stub, sampler, 6).states == {"done": 6}
    drawn = [[trial.overrides["optimizer.lr"] for trial in one.trials()] for one in (sweep, half)]
    assert drawn[0] == drawn[1], "a search that was interrupted draws what it would have drawn"
    assert len(set(drawn[0])) == 6


def test_tpe_finds_the_place(make_sweep, stub):
    sweep = make_sweep(space="x")
    search(sweep, lambda words: stub(words), "tpe", 30)
    late = [abs(trial.overrides["optimizer.lr"] - 0.3) for trial in sweep.trials()[20:]]
    assert sorted(late)[len(late) // 2] < 0.2


def test_running_and_failed_trials_are_replayed_too(make_sweep):
    sweep = make_sweep(space="x")
    objectives = parse_objectives("top1,gflops")
    for _ in range(3):
        sweep.add(*ask(sweep, suggest, objectives, sampler="nsga2", seed=0))
    sweep.claim(0, None)
    sweep.claim(1, None).finish({"state": "failed", "objectives": {}})
    sweep.claim(2, None).finish({"state": "done", "objectives": {"top1": 1.0, "gflops": 2.0}})
    overrides, _ = ask(sweep, suggest, objectives, sampler="nsga2", seed=0)
    assert 0.01 <= overrides["optimizer.lr"] <= 1


def test_a_broken_space_is_named(make_sweep):
    with pytest.raises(UserError, match="suggest\\(trial\\) fails: ZeroDivisionError"):
        ask(make_sweep(), lambda trial: 1 / 0, parse_objectives("top1"), sampler="tpe", seed=0)
