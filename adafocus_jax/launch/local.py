"""Several processes of one run on this machine, watched, and started again until the run is done."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from adafocus_jax.errors import UserError
from adafocus_jax.launch.commands import after_all, check_command, for_process, newest_step, workdir_of
from adafocus_jax.launch.restarts import MAX_RESTARTS, Decision, Restarts
from adafocus_jax.signals import collected_signals
from adafocus_jax.watchdog import watched

log = logging.getLogger(__name__)

GRACE_SEC = 90.0
"""For a process to save and end after SIGTERM, before it is killed."""
_POLL_SEC = 0.2


@dataclass(frozen=True)
class LocalProcesses:
    """How many processes, and what each may use."""

    count: int
    devices: int | None = None
    """Simulated CPU devices of each process; None: accelerators and cores are divided among them."""

    def __post_init__(self) -> None:
        for name in ("count", "devices"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(
                    f"{'processes' if name == 'count' else name}={value} is not valid: give 1 or more"
                )

    def environment(self, index: int) -> dict[str, str]:
        """What a process's environment says of its devices."""
        if self.devices is not None:
            flags = os.environ.get("XLA_FLAGS", "")
            flags += f" --xla_force_host_platform_device_count={self.devices}"
            return {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags.strip()}
        if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
            return {"CUDA_VISIBLE_DEVICES": ",".join(_share(visible.split(","), index, self.count))}
        if gpus := _count_gpus():
            own = _share([str(gpu) for gpu in range(gpus)], index, self.count)
            return {"CUDA_VISIBLE_DEVICES": ",".join(own)}
        return {}

    def cores(self, index: int) -> set[int]:
        """The cores of a process: its share, or all where there are fewer cores than processes."""
        cores = sorted(os.sched_getaffinity(0))
        return set(cores if self.count > len(cores) else cores[index :: self.count])


def launch_local(
    words: Sequence[str],
    processes: LocalProcesses,
    *,
    max_restarts: int = MAX_RESTARTS,
    dry_run: bool = False,
) -> int:
    """Runs a command in several processes until it is done, or cannot be.

    A process that ends badly ends the others, who save first where they can. SIGTERM and Ctrl-C end all of them in
    good order, and nothing is started again.

    Returns:
      The status: 0, or that of the process which decided.

    Raises:
      UserError: the command cannot be launched.
    """
    check_command(words)
    for_process(words, 0, processes.count, "")  # refuses what runs in one process alone
    if dry_run:
        for index in range(processes.count):
            print(shlex.join(_command(for_process(words, index, processes.count, "127.0.0.1:PORT"))))
        if last := after_all(words, processes.count):
            print(shlex.join(_command(last)))
        return 0
    restarts, workdir = Restarts(max_restarts), workdir_of(words)
    with collected_signals() as received, _log_folder(workdir) as logs:
        while True:
            statuses = _run_once(words, processes, received, logs)
            if received:
                return 128 + received[0]
            decision = restarts.decide(statuses, newest_step(workdir))
            if decision.action == "restart":
                log.warning("process %d %s: starting again", decision.worker, decision.reason)
                continue
            if decision.action == "stop":
                log.error("process %d: %s%s", decision.worker, decision.reason, _last_line(logs, decision))
                return decision.status
            last = after_all(words, processes.count)
            return subprocess.run(_command(last), check=False).returncode if last else 0


def _run_once(
    words: Sequence[str], processes: LocalProcesses, received: list[int], logs: Path
) -> dict[int, int]:
    """Starts all processes and waits until they have ended: process to status."""
    coordinator = f"127.0.0.1:{_free_port()}"
    running: dict[int, subprocess.Popen[bytes]] = {}
    with contextlib.ExitStack() as files:
        for index in range(processes.count):
            own = for_process(words, index, processes.count, coordinator)
            # The first one speaks for all; what the others print is kept where it can be read.
            output = None if index == 0 else files.enter_context(open(_log_path(logs, index), "ab"))
            running[index] = subprocess.Popen(
                _command(own),
                env={**os.environ, **processes.environment(index)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C reaches this process alone, which passes it on once.
                start_new_session=True,
            )
            if processes.count > 1:
                with contextlib.suppress(OSError):
                    os.sched_setaffinity(running[index].pid, processes.cores(index))
        try:
            return _wait(running, received)
        finally:
            for process in running.values():
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                with watched(
                    "a killed process to end"
                ):  # not while it waits for storage that does not respond
                    process.wait()


def _wait(running: dict[int, subprocess.Popen[bytes]], received: list[int]) -> dict[int, int]:
    asked, deadline = False, float("inf")
    while True:
        statuses = {index: process.poll() for index, process in running.items()}
        if all(status is not None for status in statuses.values()):
            return {index: _status(status) for index, status in statuses.items() if status is not None}
        if (received or any(statuses.values())) and not asked:
            asked, deadline = True, time.monotonic() + GRACE_SEC
            for index, process in running.items():
                if statuses[index] is None:
                    process.send_signal(received[0] if received else signal.SIGTERM)
        if time.monotonic() > deadline:
            return {i: _status(status) if status is not None else 137 for i, status in statuses.items()}
        time.sleep(_POLL_SEC)


def _status(returncode: int) -> int:
    return returncode if returncode >= 0 else 128 - returncode


def _command(words: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "adafocus_jax", *words]


def _share(names: Sequence[str], index: int, count: int) -> Sequence[str]:
    if len(names) < count:
        raise UserError(
            f"processes={count} is more than the {len(names)} GPUs here: give {len(names)} or less"
        )
    return names[index::count]


def _count_gpus() -> int:
    """GPUs of this machine, as NVIDIA's driver lists them; 0 where JAX is told to leave them alone."""
    folder = Path("/proc/driver/nvidia/gpus")
    hidden = os.environ.get("JAX_PLATFORMS", "").startswith("cpu")
    return 0 if hidden or not folder.is_dir() else len(list(folder.iterdir()))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _log_folder(workdir: Path | None) -> Iterator[Path]:
    """Where the other processes print: in the workdir; of a command without one, in a folder that goes in the end."""
    if workdir is None:
        with tempfile.TemporaryDirectory(prefix="adafocus-launch-") as folder:
            yield Path(folder)
    else:
        (workdir / "launch").mkdir(parents=True, exist_ok=True)
        yield workdir / "launch"


def _log_path(logs: Path, index: int) -> Path:
    return logs / f"process-{index}.log"


def _last_line(logs: Path, decision: Decision) -> str:
    """What the process that decided said last; the first one said it on this terminal."""
    if not decision.worker:
        return ""
    text = _log_path(logs, decision.worker).read_text(encoding="utf-8", errors="replace")
    lines = text.strip().splitlines()
    return f": {lines[-1]}" if lines else ""
