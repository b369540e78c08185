import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import struct

from adafocus_jax.checkpoint import Checkpoints, load_checkpoint, require_same_arrays
from adafocus_jax.checkpoint.manager import differing_keys, move_damaged_run
from adafocus_jax.errors import UserError

CONFIG = {"model": {"num_classes": 3}, "classes": ["a", "b", "c"]}


@struct.dataclass
class State:
    step: np.ndarray
    params: dict
    batch_stats: dict
    opt_state: tuple


def state(step: int, classes: int = 3) -> State:
    rng = np.random.default_rng(step)
    kernel = rng.standard_normal((999, classes), dtype=np.float32)
    stats = {"norm": {"mean": np.full(4, step, np.float32)}}
    return State(np.asarray(step, np.int32), {"head": {"kernel": kernel}}, stats, ({"trace": -kernel}, ()))


def save_all(folder: Path, scores: dict[int, float | None]) -> None:
    with Checkpoints(folder, CONFIG) as checkpoints:
        for step, score in scores.items():
            checkpoints.save(step, state(step))
            if score is not None:
                checkpoints.record(step, {"top1": score}, score=score)


@pytest.fixture
def workdir(tmp_path) -> Path:
    """Steps 3 (best), 5 and 6 (without a score) of six."""
    save_all(tmp_path / "checkpoints", {1: None, 2: 50.0, 3: 90.0, 4: 70.0, 5: 60.0, 6: None})
    return tmp_path


def assert_equal(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_the_latest_two_and_the_best_are_kept_also_over_a_restart(workdir):
    folder = workdir / "checkpoints"
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["3", "5", "6", "SHA256SUMS", "config.json"]
    save_all(folder, {7: None, 8: 80.0})
    assert sorted(path.name for path in folder.glob("[0-9]*")) == ["3", "7", "8"]
    save_all(folder, {9: 95.0, 10: None, 11: None})
    assert sorted(path.name for path in folder.glob("[0-9]*")) == ["10", "11", "9"]


def test_the_newest_is_restored_in_its_structure_and_bit_for_bit(workdir):
    with Checkpoints(workdir / "checkpoints", CONFIG) as checkpoints:
        restored = checkpoints.restore_latest(jax.eval_shape(lambda: state(0)))
        assert isinstance(restored, State)
        assert_equal(restored, state(6))
        assert checkpoints.metrics(3) == {"top1": 90.0}
        assert checkpoints.metrics(6) == {}


def test_an_empty_folder_restores_nothing(tmp_path):
    with Checkpoints(tmp_path / "new", CONFIG) as checkpoints:
        assert checkpoints.restore_latest(state(0)) is None


@pytest.mark.parametrize(
    ("place", "which", "step"),
    [(".", "best", 3), (".", "latest", 6), ("checkpoints", "best", 3), ("checkpoints/5", "best", 5)],
)
def test_a_checkpoint_is_found_by_any_of_its_folders(workdir, place, which, step, monkeypatch):
    monkeypatch.chdir(workdir)
    config, variables, found = load_checkpoint(place, which)
    assert (config, found) == (CONFIG, step)
    assert_equal(variables, {"params": state(step).params, "batch_stats": state(step).batch_stats})


def test_the_latest_is_best_where_none_was_evaluated(tmp_path):
    save_all(tmp_path, {1: None, 2: None})
    assert load_checkpoint(tmp_path).step == 2


def largest_file(folder: Path) -> Path:
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def damage_cut(step: Path) -> None:
    file = largest_file(step)
    os.truncate(file, file.stat().st_size // 2)


def damage_flip(step: Path) -> None:
    """One bit of a number, which neither Orbax nor tensorstore notices."""
    file = largest_file(step)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def damage_missing(step: Path) -> None:
    (step / "state" / "manifest.ocdbt").unlink()


def damage_empty(step: Path) -> None:
    for file in [path for path in (step / "state").rglob("*") if path.is_file()]:
        file.unlink()


def damage_metrics(step: Path) -> None:
    (step / "metrics").mkdir(exist_ok=True)
    (step / "metrics" / "metrics").write_text("{")


def damage_metrics_list(step: Path) -> None:
    """JSON still, but not what was written."""
    (step / "metrics").mkdir(exist_ok=True)
    (step / "metrics" / "metrics").write_text("[1]")


DAMAGES = [damage_cut, damage_flip, damage_missing, damage_empty, damage_metrics, damage_metrics_list]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_is_set_aside_and_the_one_before_restored(workdir, damage, caplog):
    folder = workdir / "checkpoints"
    damage(folder / "6")
    with Checkpoints(folder, CONFIG) as checkpoints:
        assert_equal(checkpoints.restore_latest(state(0)), state(5))
        checkpoints.save(6, state(6))
    assert "checkpoint of step 6 is damaged" in caplog.text
    assert len(list(folder.glob("damaged-6-*"))) == 1
    assert_equal(load_checkpoint(folder, "latest").variables["params"], state(6).params)


@pytest.mark.parametrize("damage", DAMAGES[:-2])
def test_reading_takes_the_next_where_the_best_is_damaged_and_touches_nothing(workdir, damage, caplog, capfd):
    damage(workdir / "checkpoints" / "3")
    assert load_checkpoint(workdir).step == 5
    assert "3 is damaged" in caplog.text
    assert (workdir / "checkpoints" / "3").is_dir()
    assert "Traceback" not in capfd.readouterr().err


def test_when_all_are_damaged_one_line_says_so(workdir):
    for step in (3, 5, 6):
        damage_missing(workdir / "checkpoints" / str(step))
    with pytest.raises(UserError, match=r"no readable checkpoint in .*6: .*5: ") as caught:
        load_checkpoint(workdir, "latest")
    assert "\n" not in str(caught.value)
    with (
        Checkpoints(workdir / "checkpoints", CONFIG) as checkpoints,
        pytest.raises(UserError, match=r"every checkpoint .* is damaged and set aside"),
    ):
        checkpoints.restore_latest(state(0))
    folder = workdir / "checkpoints"
    for config in (CONFIG, {"classes": []}):  # until a person decides
        with pytest.raises(
            UserError, match="set aside: take another workdir, or start_over=True to move this run"
        ):
            Checkpoints(folder, config)
    (workdir / "metrics.jsonl").write_text("")
    move_damaged_run(workdir, ["checkpoints", "metrics.jsonl", "tensorboard"])
    (aside,) = workdir.iterdir()
    assert len(list((aside / "checkpoints").glob("damaged-*"))) == 3
    with Checkpoints(folder, CONFIG) as checkpoints:
        assert checkpoints.restore_latest(state(0)) is None


def test_a_run_that_can_be_resumed_is_not_moved_aside(workdir):
    move_damaged_run(workdir, ["checkpoints"])
    assert load_checkpoint(workdir).step == 3


def test_what_a_killed_save_left_makes_room_before_anything_is_written(workdir, monkeypatch):
    folder = workdir / "checkpoints"
    left = folder / "7.orbax-checkpoint-tmp-1"
    left.mkdir()

    def full(*_):
        assert not left.exists()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("adafocus_jax.checkpoint.manager.write_listed", full)
    Checkpoints(folder, CONFIG).close()  # nothing new to write
    left.mkdir(exist_ok=True)
    with pytest.raises(OSError, match="No space left"):
        Checkpoints(folder, {**CONFIG, "seed": 1}, free_keys=["seed"])


def test_a_half_written_checkpoint_is_ignored(workdir):
    folder = workdir / "checkpoints"
    os.rename(folder / "6", folder / "6.orbax-checkpoint-tmp")
    assert load_checkpoint(workdir, "latest").step == 5
    with Checkpoints(folder, CONFIG) as checkpoints:
        assert checkpoints.steps == [3, 5]


def test_another_model_is_named_by_its_differences(workdir):
    folder = workdir / "checkpoints"
    with Checkpoints(folder, CONFIG) as checkpoints, pytest.raises(UserError) as caught:
        checkpoints.restore_latest(jax.eval_shape(lambda: state(0, classes=5)))
    assert f"checkpoint {folder / '6'} belongs to another model" in str(caught.value)
    assert "params/head/kernel is (999, 3) float32, the model wants (999, 5) float32" in str(caught.value)
    assert (folder / "6").is_dir()


def test_only_the_first_differences_are_listed():
    found = {"a": {str(i): np.zeros(1) for i in range(5)}}
    expected = {"a": {"0": np.zeros(2)}, "b": np.zeros(3)}
    with pytest.raises(UserError) as caught:
        require_same_arrays(found, expected, "file x")
    assert str(caught.value) == (
        "file x belongs to another model: b is missing; a/1 is not in the model; a/2 is not in the model; and 3 more"
    )
    require_same_arrays(found, found, "file x")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: d / "nowhere", "no such checkpoint folder"),
        (lambda d: d, "is not a checkpoint: give the workdir of a training run"),
        (lambda d: (d / "config.json").write_text("{}") and d, "no checkpoint yet"),
        (lambda d: (d / "config.json").write_text("{") and d, "cannot read the configuration"),
    ],
)
def test_what_is_no_checkpoint_is_one_clear_line(tmp_path, make, message):
    with pytest.raises(UserError, match=message):
        load_checkpoint(make(tmp_path))


def test_an_unknown_choice_is_refused(workdir):
    with pytest.raises(UserError, match="'newest': choose best or latest"):
        load_checkpoint(workdir, "newest")


def test_a_folder_of_another_config_is_refused_but_for_free_keys(workdir):
    folder = workdir / "checkpoints"
    other = {"model": {"num_classes": 4}, "classes": ("a", "b", "c")}
    with pytest.raises(UserError, match=r"another config \(model.num_classes is 3 there, 4 here\)"):
        Checkpoints(folder, other)
    assert json.loads((folder / "config.json").read_text()) == CONFIG
    Checkpoints(folder, other, free_keys=["model.num_classes"]).close()


def test_a_folder_without_a_checkpoint_is_no_run_yet(tmp_path):
    """A start that failed must not keep the next one from another config."""
    Checkpoints(tmp_path, CONFIG).close()
    Checkpoints(tmp_path, {"classes": []}).close()
    assert json.loads((tmp_path / "config.json").read_text()) == {"classes": []}


def test_every_difference_is_listed():
    old, new = {"a": {"b": 1}, "c": None, "d": (1, 2)}, {"c": "x", "d": [1, 2], "e": 0}
    assert differing_keys(old, new, free_keys=["e"]) == [
        "a.b is 1 there, absent here",
        'c is null there, "x" here',
    ]
