"""The checkpoints of one run: the latest two and the best are kept, written in the background."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax.serialization import from_state_dict, to_state_dict
from flax.traverse_util import flatten_dict
from jax.experimental import multihost_utils
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, LatestN, PreservationPolicy

from adafocus_jax.checkpoint.manifest import is_listed, write_listed
from adafocus_jax.checkpoint.read import (
    CHECKSUM,
    CONFIG_FILE,
    FOLDER,
    METRICS,
    STATE,
    DamagedCheckpointError,
    checksum,
    one_line,
    read_config,
    read_metrics,
    read_step,
    require_same_arrays,
    step_numbers,
)
from adafocus_jax.errors import UserError, remedy
from adafocus_jax.io import json_text
from adafocus_jax.watchdog import watched

log = logging.getLogger(__name__)
State = TypeVar("State")

# Orbax logs what it then raises, with hundreds of lines of tracebacks of its threads.
logging.getLogger("absl").addFilter(lambda record: not (record.exc_info and "orbax" in record.pathname))


class Checkpoints:
    """Saves and restores the state of the run that owns ``folder``.

    Use it in a ``with`` block, or call ``close``: saving is asynchronous. A save that is killed halfway leaves the
    earlier checkpoints intact; a damaged checkpoint is set aside, never deleted.

    All processes of a run make the same calls on one shared folder: process 0 writes, all restore.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        config: Mapping[str, Any],
        *,
        free_keys: Collection[str] = (),
        complete: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict,
    ) -> None:
        """Opens or creates ``folder`` for a run of ``config``.

        Args:
          folder: ``WORKDIR/checkpoints``.
          config: the whole configuration, of what JSON can hold.
          free_keys: dotted keys that may change when a run is resumed.
          complete: gives a stored configuration the keys that versions after its own added.

        Raises:
          UserError: the folder belongs to a run of another configuration, or all its checkpoints are damaged.
        """
        self.folder = Path(folder).resolve()
        self._check_config(dict(config), free_keys, complete)
        refuse_if_all_damaged(self.folder)
        for step in step_numbers(self.folder):
            try:
                read_metrics(self.folder / str(step))
            except DamagedCheckpointError as error:
                self._set_aside(step, error)
        # Orbax would do so in the background, and a disk that is full of it would fail what is written meanwhile.
        if jax.process_index() == 0:
            for left in self.folder.glob(f"*{ocp.utils.TMP_DIR_SUFFIX}*"):
                shutil.rmtree(left, ignore_errors=True)
        self._manager = ocp.CheckpointManager(self.folder, options=_options(self.folder))
        self._saving: int | None = None
        path = self.folder / CONFIG_FILE
        if jax.process_index() == 0 and not (
            step_numbers(self.folder) and is_listed(path) and read_config(self.folder) == config
        ):
            try:
                write_listed(path, json_text(config))
            except OSError:
                self._manager.close()
                raise

    def save(self, step: int, state: Any) -> None:
        """Writes ``state`` (NumPy arrays) in the background; returns when it need not stay as it is.

        Args:
          step: updates done; a step that was saved before is left alone.
          state: any pytree that flax can turn into dictionaries.

        Raises:
          UserError: this save or the one before could not be written, as on a full disk.
        """
        if step in self._manager.all_steps():
            return
        tree = to_state_dict(state)
        tree = {**tree, CHECKSUM: np.asarray(checksum(tree), np.uint32)}
        with self._explained():
            self._manager.wait_until_finished()
        self._saving = step
        with self._explained():
            self._manager.save(step, args=ocp.args.Composite(**{STATE: ocp.args.StandardSave(tree)}))

    def record(self, step: int, metrics: Mapping[str, float], *, score: float | None = None) -> None:
        """Adds what evaluation measured to the checkpoint of ``step``, once that is written.

        Args:
          step: of the last ``save``.
          metrics: name to number.
          score: by which the best checkpoint is chosen, higher is better; None: this one is not.

        Raises:
          UserError: the checkpoint or the metrics could not be written, as on a full disk.
        """
        with self._explained():
            self._manager.wait_until_finished()
            if jax.process_index() == 0:
                found = {**metrics} if score is None else {**metrics, "score": score}
                path = self.folder / str(step) / METRICS / METRICS
                write_listed(path, json_text(found))
        _wait_for_all(f"the metrics of step {step} are written")

    def restore_latest(self, expected: State) -> State | None:
        """The latest readable state, NumPy arrays in the structure of ``expected``; None if there is none.

        A damaged checkpoint is set aside with a warning, and the one before it is used.

        Raises:
          UserError: the checkpoint's names, shapes or dtypes are not those of ``expected``; or all are damaged.
        """
        steps = self.steps
        for step in reversed(steps):
            try:
                tree = read_step(self.folder / str(step))
            except DamagedCheckpointError as error:
                self._set_aside(step, error)
                self._manager.reload()
                continue
            require_same_arrays(tree, to_state_dict(expected), f"checkpoint {self.folder / str(step)}")
            return from_state_dict(expected, tree)
        refuse_if_all_damaged(self.folder)
        return None

    @property
    def steps(self) -> list[int]:
        """Steps with a finished checkpoint, increasing."""
        return sorted(self._manager.all_steps())

    def metrics(self, step: int) -> dict[str, float]:
        """What was saved with ``step``, without the score."""
        return {key: value for key, value in read_metrics(self.folder / str(step)).items() if key != "score"}

    def close(self) -> None:
        """Waits until all is on disk. Raises UserError where the last save could not be written."""
        try:
            with self._explained():
                self._manager.wait_until_finished()
        finally:
            self._manager.close()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Names the step that is being saved: where that takes long, and where it fails, which Orbax reports late."""
        try:
            with watched(f"the checkpoint of step {self._saving} to be written"):
                yield
        except jax.errors.JaxRuntimeError:  # of other processes, not of the disk
            raise
        except (OSError, ValueError, RuntimeError) as error:
            kept = f"step {self.steps[-1]}" if self.steps else "the start"
            raise UserError(
                f"the checkpoint of step {self._saving} could not be written ({one_line(error, 400)}): "
                f"{remedy(error) or 'mend this'} and start again to resume from {kept}, which is intact"
            ) from error

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, jax.errors.JaxRuntimeError) and jax.process_count() > 1:
            return  # Where one of them is lost, closing would wait for it.
        try:
            self.close()
        except UserError:
            if error is None:  # else it may well hide what went wrong first
                raise

    def _check_config(
        self,
        config: dict[str, Any],
        free_keys: Collection[str],
        complete: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    ) -> None:
        path = self.folder / CONFIG_FILE
        if path.exists() and step_numbers(self.folder):  # without a checkpoint there is no run to lose
            differing = differing_keys(complete(read_config(self.folder)), config, free_keys)
            if differing:
                raise UserError(
                    f"{self.folder.parent} holds a run of another config ({'; '.join(differing)}): take the same "
                    f"config to resume (only {', '.join(sorted(free_keys)) or 'nothing'} may change), or another "
                    f"workdir, where --init-from {self.folder.parent} starts from what this run has learned"
                )

    def _set_aside(self, step: int, error: DamagedCheckpointError) -> None:
        _wait_for_all(f"all have seen that step {step} is damaged")
        if jax.process_index() == 0:
            target = self.folder / f"damaged-{step}-{time.time_ns()}"
            (self.folder / str(step)).rename(target)
            log.warning("checkpoint of step %d is damaged (%s): set aside as %s", step, error, target)
        _wait_for_all(f"step {step} is set aside")


def refuse_if_all_damaged(folder: Path) -> None:
    """Raises UserError where ``folder`` holds no checkpoint any more, but some that were set aside as damaged."""
    if _are_all_damaged(folder):
        raise UserError(
            f"every checkpoint in {folder} is damaged and set aside: take another workdir, or start_over=True to move "
            "this run aside and begin a new one"
        )


def move_damaged_run(workdir: Path, names: Sequence[str]) -> None:
    """Where all checkpoints in ``workdir`` are damaged, moves what the run left (``names``) to a folder of its own."""
    if not _are_all_damaged(workdir / FOLDER):
        return
    _wait_for_all("all have seen that every checkpoint is damaged")
    if jax.process_index() == 0:
        target = workdir / f"damaged-run-{time.time_ns()}"
        target.mkdir()
        for name in names:
            if (workdir / name).exists():
                (workdir / name).rename(target / name)
        log.warning("the run in %s, of which every checkpoint is damaged, lies in %s now", workdir, target)
    _wait_for_all("the damaged run is moved aside")


def _are_all_damaged(folder: Path) -> bool:
    return not step_numbers(folder) and any(folder.glob("damaged-*"))


def differing_keys(
    old: Mapping[str, Any], new: Mapping[str, Any], free_keys: Collection[str] = ()
) -> list[str]:
    """Differences between two configurations, by dotted key, after a round trip through JSON.

    >>> differing_keys({"a": {"b": [1, 2], "c": 0}}, {"a": {"b": (1, 2), "c": 3}})
    ['a.c is 0 there, 3 here']
    """
    before, after = (flatten_dict(json.loads(json.dumps(config)), sep=".") for config in (old, new))
    names = sorted((before.keys() | after.keys()) - set(free_keys))
    shown = {
        name: [json.dumps(side[name]) if name in side else "absent" for side in (before, after)]
        for name in names
    }
    return [f"{name} is {was} there, {now} here" for name, (was, now) in shown.items() if was != now]


def _wait_for_all(event: str) -> None:
    if jax.process_count() > 1:
        with watched(f"the other processes of the run ({event})"):
            multihost_utils.sync_global_devices(event)


def _options(folder: Path) -> ocp.CheckpointManagerOptions:
    # Two of the latest, so that there is one to fall back on when the newest is damaged.
    keep = AnyPreservationPolicy([LatestN(2), _Best(folder=folder)])
    # Else threads of Orbax wait ten minutes for a folder that a full disk cannot hold, and the exit waits for them.
    at_once = ocp.AsyncOptions(create_directories_asynchronously=False)
    return ocp.CheckpointManagerOptions(preservation_policy=keep, async_options=at_once)


@dataclass(kw_only=True)
class _Best(PreservationPolicy):
    """Keeps the step with the highest score. Orbax's BestN knows only metrics that are there when a step is saved."""

    folder: Path

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        scores = [_score(self.folder / str(checkpoint.step)) for checkpoint in checkpoints]
        best = max(scores, default=-np.inf)
        last = max((place for place, score in enumerate(scores) if score == best > -np.inf), default=None)
        return [place == last for place in range(len(scores))]


def _score(step_folder: Path) -> float:
    with contextlib.suppress(DamagedCheckpointError):
        return read_metrics(step_folder).get("score", -np.inf)
    return -np.inf
