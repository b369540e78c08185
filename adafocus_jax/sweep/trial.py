"""Runs one trial: claims it, trains in its folder, measures its objectives, and leaves a result."""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from adafocus_jax.errors import ProcessLostError, UserError
from adafocus_jax.io import read_json_lines
from adafocus_jax.sweep.folder import Claim, SweepFolder, Trial
from adafocus_jax.sweep.objectives import Objective, at_budget, parse_objectives
from adafocus_jax.sweep.overrides import flags

log = logging.getLogger(__name__)

Run = Callable[[Sequence[str]], Any]
"""Runs ``adafocus WORD…`` in this process and returns its figures; failures are exceptions."""

BEAT_SEC = 10.0
MAX_FRUITLESS = 3
"""Attempts without a new checkpoint step after which a trial whose process was killed counts as failed."""
PRUNE_MARK = "prune"
"""File in a trial's folder: a signal that comes now ends it for good."""
USER_ERROR, TAKEN, TRY_AGAIN = 2, 3, 75
"""Statuses: of a user error; another process runs the trial; it is given back unfinished."""


def run_trial(
    sweep: SweepFolder,
    number: int,
    run: Run,
    observed: tuple[str, int] | None = None,
    *,
    beat_sec: float = BEAT_SEC,
) -> int:
    """Runs a trial to its result, or to a signal.

    Args:
      sweep: its sweep.
      number: which trial.
      run: runs a command.
      observed: the claim that it takes over (token and counter); None: the trial has to be unclaimed.
      beat_sec: between signs of life.

    Returns:
      0: there is a result, also of a failed trial. 3: it is somebody else's. 130, 143, 75: it was stopped, and can be
      taken up where it stands.
    """
    claim = sweep.claim(number, observed)
    if claim is None:
        return TAKEN
    spec, trial = sweep.spec(), claim.trial
    if claim.attempts > MAX_FRUITLESS and _fruitless(trial, claim):
        claim.finish(
            _failed(trial, f"killed {claim.attempts - 1} times without progress, perhaps for want of memory")
        )
        return 0
    with _beating(claim, beat_sec):
        try:
            figures = _train(spec, trial, run)
            found = _objectives(spec, trial, figures, run, claim)
        except SystemExit as stop:
            if isinstance(stop.code, int) and stop.code > 128:
                return _stopped(trial, claim, stop.code)
            result = _failed(trial, str(stop.code))
        except KeyboardInterrupt:
            return _stopped(trial, claim, 128 + signal.SIGINT)
        except ProcessLostError:
            claim.release()
            return TRY_AGAIN
        except UserError as error:
            result = {**_failed(trial, str(error)), "user_error": True}
        except Exception as error:  # one trial that fails does not end the sweep
            traceback.print_exc()
            out_of_memory = isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)
            text = " ".join(str(error).split())[:300]
            result = _failed(trial, "out of memory" if out_of_memory else f"{type(error).__name__}: {text}")
        else:
            result = found
    claim.finish(result)
    return 0


def train_words(spec: dict[str, Any], trial: Trial) -> list[str]:
    """The command that trains a trial; started again it resumes."""
    train = ["train", "--config", spec["config"], "--workdir", str(trial.workdir)]
    train += [*spec["settings"], *flags(trial.overrides)]
    return [*spec["launch"], "--", *train] if spec["launch"] else train


def evaluations(trial: Trial, metric: str) -> list[tuple[int, float]]:
    """(step, value) of a metric at each evaluation of the trial's run so far."""
    path = trial.workdir / "metrics.jsonl"
    rows = read_json_lines(path) if path.is_file() else []
    return [
        (int(row["step"]), float(row[metric])) for row in rows if row.get("split") == "eval" and metric in row
    ]


def _train(spec: dict[str, Any], trial: Trial, run: Run) -> dict[str, Any]:
    words = train_words(spec, trial)
    if not spec["launch"]:
        figures = run(words)
        return dict(figures) if isinstance(figures, dict) else {}
    path = trial.folder / "figures.json"
    status = int(run([*words, "--json", str(path)]).get("status", 0))
    if status == USER_ERROR:
        raise UserError("the launched training ends as a user error: see log.txt in the trial's folder")
    if status == TRY_AGAIN:
        raise ProcessLostError("the launched training lost a process")
    if status:
        raise SystemExit(status if status > 128 else f"the launched training ends with status {status}")
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _objectives(
    spec: dict[str, Any], trial: Trial, figures: dict[str, Any], run: Run, claim: Claim
) -> dict[str, Any]:
    """The result of a trained trial."""
    objectives = parse_objectives(",".join(spec["objectives"]))
    values: dict[str, float] = {}
    measured: dict[str, Any] = {}
    if any(one.budget for one in objectives):
        measured = run(["evaluate", "--checkpoint", str(trial.workdir), "--early-exit"])
    for one in objectives:
        values[one.name] = _value(one, trial, figures, measured, claim)
    if not_finite := [name for name, value in values.items() if not math.isfinite(value)]:
        return _failed(trial, f"{', '.join(not_finite)} is not finite")
    metrics = {name: value for name, value in figures.items() if isinstance(value, int | float)}
    return {"state": "done", "objectives": values, "metrics": metrics}


def _value(
    one: Objective, trial: Trial, figures: dict[str, Any], measured: dict[str, Any], claim: Claim
) -> float:
    if one.name == "seconds":
        return claim.seconds
    if one.name == "gflops":
        return _gflops(trial)
    if one.budget is not None:
        curve = measured["early_exit"][one.criterion]
        metric = next(name for name in curve if name != "gflops")
        if metric != one.metric:
            raise UserError(f"objective {one.name}: the runs are judged by {metric} (train.best_metric)")
        return at_budget(curve, one.metric, one.budget, measured["gflops"])
    seen = evaluations(trial, one.metric)
    if one.metric not in figures and not seen:
        raise UserError(f"objective {one.name}: the runs do not measure it; they need a validation split")
    return float(figures[one.metric]) if one.metric in figures else seen[-1][1]


def _gflops(trial: Trial) -> float:
    """The full cost of the trial's model, per video."""
    # These start JAX, which a launcher need not wait for.
    from adafocus_jax.config import make_model
    from adafocus_jax.flops import model_cost
    from adafocus_jax.visualize.run import read_run

    return float(model_cost(make_model(read_run(trial.workdir).config)).exit_gflops[-1])


def _failed(trial: Trial, reason: str) -> dict[str, Any]:
    log.warning("trial %d failed: %s", trial.number, reason)
    return {"state": "failed", "reason": reason, "objectives": {}}


def _stopped(trial: Trial, claim: Claim, status: int) -> int:
    """After a signal: a pruned trial has its result, any other one is given back."""
    if (trial.folder / PRUNE_MARK).exists():
        objectives = {}
        for name in ("top1", "top5", "mAP"):
            if seen := evaluations(trial, name):
                objectives[name] = seen[-1][1]
        claim.finish({"state": "pruned", "reason": "stopped early", "objectives": objectives})
        return 0
    claim.release()
    return status


def _fruitless(trial: Trial, claim: Claim) -> bool:
    """Whether the attempts since the last mark left no new checkpoint; moves the mark."""
    folder = trial.workdir / "checkpoints"
    steps = (
        [int(path.name) for path in folder.glob("[0-9]*") if path.name.isdigit()] if folder.is_dir() else []
    )
    mark = trial.folder / "progress"
    before = int(mark.read_text()) if mark.exists() else 0
    mark.write_text(str(max(steps, default=0)))
    if max(steps, default=0) > before:
        claim.attempts = 1
        return False
    return True


@contextmanager
def _beating(claim: Claim, beat_sec: float) -> Iterator[None]:
    done = threading.Event()

    def beat() -> None:
        while not done.wait(beat_sec):
            if not claim.beat():
                log.warning("trial %d was taken over by another process: stopping", claim.trial.number)
                os.kill(os.getpid(), signal.SIGTERM)
                return

    thread = threading.Thread(target=beat, name="sweep-claim", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(beat_sec)  # not longer: its last heartbeat may hang on storage that does not answer
