"""Keeps trials running: in this process, or as processes of this machine with cores or devices of their own."""

from __future__ import annotations

import contextlib
import glob
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from adafocus_jax.errors import UserError
from adafocus_jax.signals import collected_signals
from adafocus_jax.sweep.folder import STALE_SEC, SweepFolder, Trial, Watch
from adafocus_jax.sweep.objectives import Objective
from adafocus_jax.sweep.overrides import describe
from adafocus_jax.sweep.pruning import PRUNERS, Scores
from adafocus_jax.sweep.trial import PRUNE_MARK, TAKEN, Run, evaluations, run_trial
from adafocus_jax.watchdog import Watchdog, watched

log = logging.getLogger(__name__)

Ask = Callable[[], int | None]
"""Makes one more trial and returns its number; None: there are enough."""

POLL_SEC = 0.5
NOTICE_SEC = 30.0
_SAME_ERROR = 2


@dataclass(frozen=True)
class Finished:
    """How a launcher's run of a sweep ended."""

    states: dict[str, int]
    """Number of trials by state."""
    signal: int | None = None
    """What stopped it."""


@dataclass
class _Child:
    """A trial that runs as a process of this launcher."""

    number: int
    process: subprocess.Popen[bytes]
    slot: int
    stopping: bool = field(default=False)


def launch(
    sweep: SweepFolder,
    objectives: Sequence[Objective],
    *,
    run: Run | None = None,
    jobs: int = 1,
    ask: Ask | None = None,
    prune: str | None = None,
    poll_sec: float = POLL_SEC,
    stale_sec: float = STALE_SEC,
) -> Finished:
    """Runs the trials that nobody runs, until all have a result; any number of launchers may do so at once.

    Args:
      sweep: the sweep; its trials are made already, or by ``ask``.
      objectives: what pruning looks at.
      run: runs a command in this process, one trial at a time; None: ``jobs`` processes.
      jobs: processes at a time, each with its share of the cores, or of the accelerators.
      ask: of a search.
      prune: a key of ``PRUNERS``, on evaluations during training; None: every trial trains to its end.
      poll_sec: between looks at processes and folders.
      stale_sec: after which a claim of another host is given up.

    Raises:
      UserError: every trial fails alike, by an error of the user.
    """
    crew = _Crew(sweep, _slots(jobs)) if run is None else _Here(sweep, run)
    watch, told, waited = Watch(stale_sec), set[int](), 0.0
    running = crew.numbers
    with collected_signals() as received, contextlib.closing(crew), Watchdog() as watchdog:
        while True:
            crew.reap()
            trials = sweep.trials()
            _tell(trials, told, objectives)
            _stop_if_all_fail_alike(trials)
            if received:
                crew.close()
                return Finished(_count(sweep.trials()), received[0])
            if prune:
                _prune(trials, crew, objectives, prune)
            ready = [
                trial for trial in trials if trial.number not in crew.numbers and _nobody_runs(trial, watch)
            ]
            if not ready and crew.free and ask and (number := ask()) is not None:
                ready = [sweep.trial(number)]
            for trial in ready[: crew.free]:
                if not received:
                    crew.start(trial)
            if not ready and not crew.numbers:
                others = [trial for trial in trials if trial.result is None]
                if not others:
                    return Finished(_count(trials))
                waited = _say_who_runs(others, waited)
            if running != crew.numbers:
                running = crew.numbers
                listed = ", ".join(map(str, sorted(running)))
                watchdog.expect(
                    f"trials {listed} (each writes to log.txt in its folder)" if running else None
                )
            if crew.numbers or not ready:
                time.sleep(poll_sec)


def _nobody_runs(trial: Trial, watch: Watch) -> bool:
    return trial.result is None and (trial.claim is None or watch.is_stale(trial))


def _say_who_runs(trials: Sequence[Trial], last: float) -> float:
    """Says every now and then for whom this launcher waits; returns when it last did."""
    if time.monotonic() - last < NOTICE_SEC:
        return last
    hosts = sorted({trial.claim["host"] for trial in trials if trial.claim})
    log.info("waiting for %d trials that others run, on %s", len(trials), ", ".join(hosts))
    return time.monotonic()


class _Here:
    """Runs trials in this process, one at a time."""

    numbers: frozenset[int] = frozenset()
    """Trials that are running while the launcher looks: none."""

    def __init__(self, sweep: SweepFolder, run: Run) -> None:
        self.sweep, self.run = sweep, run
        self.free = 1
        """Trials that are started, one after the other, before the next look at the folders."""

    def start(self, trial: Trial) -> None:
        """Runs a trial to its end, or to a signal."""
        log.info("trial %d: %s", trial.number, describe(trial.overrides))
        status = run_trial(self.sweep, trial.number, self.run, trial.observed)
        if status > 128:
            signal.raise_signal(status - 128)

    def reap(self) -> None:
        """Looks at the folders less often as trials go by: few if they all fail alike, many if they are short."""
        self.free = min(2 * self.free, 32)

    def stop_one(self, number: int) -> None:
        """Nothing to stop."""

    def close(self) -> None:
        """Nothing to end."""


class _Crew:
    """The trials that run as processes of this machine."""

    def __init__(self, sweep: SweepFolder, slots: Sequence[dict[str, Any]]) -> None:
        self.sweep, self.slots = sweep, slots
        self.children: list[_Child] = []

    @property
    def numbers(self) -> frozenset[int]:
        """The trials that run."""
        return frozenset(child.number for child in self.children)

    @property
    def free(self) -> int:
        """Slots without a trial."""
        return len(self.slots) - len(self.children)

    def start(self, trial: Trial) -> None:
        """Starts a trial in a free slot; what it prints goes to ``log.txt`` in its folder."""
        slot = min(set(range(len(self.slots))) - {child.slot for child in self.children})
        words = [
            sys.executable,
            "-m",
            "adafocus_jax",
            "sweep",
            str(self.sweep.path),
            "--trial",
            str(trial.number),
        ]
        if trial.observed:
            words += ["--observed", f"{trial.observed[0]}:{trial.observed[1]}"]
        env = {**os.environ, **self.slots[slot].get("env", {})}
        with open(trial.folder / "log.txt", "ab") as output:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env)
        if cores := self.slots[slot].get("cores"):
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(process.pid, cores)
        log.info("trial %d: %s", trial.number, describe(trial.overrides))
        self.children.append(_Child(trial.number, process, slot))

    def reap(self) -> None:
        """Forgets the processes that have ended; says so of those that ended without a result."""
        for child in [child for child in self.children if child.process.poll() is not None]:
            self.children.remove(child)
            status = child.process.returncode
            if status not in (0, TAKEN) and not child.stopping:
                trial = self.sweep.trial(child.number)
                log.warning("trial %d ended with status %d: %s", child.number, status, _last_line(trial))
                if trial.result is None and trial.claim is None and status in (1, 2):
                    raise UserError(f"trial {child.number} does not start: {_last_line(trial)}")

    def stop_one(self, number: int) -> None:
        """Has a trial of this launcher save and end."""
        for child in self.children:
            if child.number == number and not child.stopping:
                child.stopping = True
                child.process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """Has all of them save and end, and waits for them."""
        for child in self.children:
            child.stopping = True
            if child.process.poll() is None:
                child.process.send_signal(signal.SIGTERM)
        for child in self.children:
            with watched(f"trial {child.number} to save and end (another Ctrl-C does not wait)"):
                child.process.wait()
        self.children.clear()


def _prune(trials: Sequence[Trial], crew: _Crew | _Here, objectives: Sequence[Objective], name: str) -> None:
    scores = _scores(trials, objectives)
    for trial in trials:
        if trial.number in crew.numbers and scores[trial.number] and PRUNERS[name](scores, trial.number):
            (trial.folder / PRUNE_MARK).touch()  # so that the trial's end by a signal is a result
            crew.stop_one(trial.number)


def _scores(trials: Sequence[Trial], objectives: Sequence[Objective]) -> Scores:
    """Trial to its evaluations; of the objectives those that an evaluation measures."""
    measured = [one for one in objectives if not one.minimize]
    found = {}
    for trial in trials:
        series = [evaluations(trial, one.metric) for one in measured]
        found[trial.number] = [
            (points[0][0], tuple(value for _, value in points)) for points in zip(*series, strict=False)
        ]
    return found


def _slots(jobs: int) -> list[dict[str, Any]]:
    """What each of ``jobs`` processes may use: its share of the accelerators, else of the cores.

    Raises:
      UserError: more jobs than accelerators.
    """
    if jobs < 1:
        raise UserError(f"jobs={jobs} is not valid: give 1 or more")
    variable, devices = _accelerators()
    if devices and jobs > len(devices):
        raise UserError(
            f"jobs={jobs} is more than the {len(devices)} accelerators here: give {len(devices)} or less"
        )
    if jobs == 1:
        return [{}]
    if devices:
        return [{"env": {variable: ",".join(devices[job::jobs])}} for job in range(jobs)]
    cores = sorted(os.sched_getaffinity(0))
    if jobs >= len(cores):
        return [{} for _ in range(jobs)]
    return [{"cores": set(cores[job::jobs])} for job in range(jobs)]


def _accelerators() -> tuple[str, list[str]]:
    """The variable that says which accelerators a process sees, and their names."""
    if os.environ.get("JAX_PLATFORMS", "").startswith("cpu"):
        return "", []
    if chips := glob.glob("/dev/accel[0-9]*"):
        return "TPU_VISIBLE_CHIPS", [str(number) for number in range(len(chips))]
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        return "CUDA_VISIBLE_DEVICES", visible.split(",")
    if shutil.which("nvidia-smi"):
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60)
        count = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
        return "CUDA_VISIBLE_DEVICES", [str(number) for number in range(count)]
    return "", []


def _tell(trials: Sequence[Trial], told: set[int], objectives: Sequence[Objective]) -> None:
    """One line for each trial that has a result since the last look."""
    for trial in trials:
        if trial.result and trial.number not in told:
            told.add(trial.number)
            result = trial.result
            values = " ".join(
                f"{one.name} {result['objectives'][one.name]:.4g}"
                for one in objectives
                if one.name in result["objectives"]
            )
            text = f"{values} {result.get('reason', '')}".strip()
            log.info(
                "trial %d %s after %.0f s: %s", trial.number, result["state"], result.get("seconds", 0), text
            )


def _stop_if_all_fail_alike(trials: Sequence[Trial]) -> None:
    results = [trial.result for trial in trials if trial.result]
    reasons = {result.get("reason") for result in results}
    alike = len(reasons) == 1 and all(result.get("user_error") for result in results)
    if results and alike and len(results) >= min(_SAME_ERROR, len(trials)):
        raise UserError(
            f"every trial fails alike: {reasons.pop()}; mend it, and remove the folders of those trials"
        )


def _count(trials: Sequence[Trial]) -> dict[str, int]:
    return dict(Counter(trial.state for trial in trials))


def _last_line(trial: Trial) -> str:
    try:
        lines = (trial.folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1] if lines else "it printed nothing"
