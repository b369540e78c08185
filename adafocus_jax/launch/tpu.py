"""A run on a Cloud TPU slice: asked for, set up, started on every worker, watched, and given back."""

from __future__ import annotations

import logging
import shlex
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from adafocus_jax.errors import UserError
from adafocus_jax.launch.bundle import Bundle
from adafocus_jax.launch.commands import check_command, for_process, workdir_of
from adafocus_jax.launch.gcloud import ACTIVE, FINAL, GONE, WAITING, CallError, Gcloud
from adafocus_jax.launch.restarts import MAX_RESTARTS, Restarts
from adafocus_jax.launch.slices import Slice

log = logging.getLogger(__name__)

RUNNER = Path(__file__).with_name("runner.sh")
SETUP = "python3 -m pip install --quiet -e '.[tpu,gs]'"
POLL_SEC = 30.0
_FOLDER = ".adafocus-runs"
_RETRIES = 3
_GCSFUSE = "command -v gcsfuse >/dev/null || (sudo apt-get update -qq && sudo apt-get install -y -qq gcsfuse)"


@dataclass(frozen=True)
class TpuRun:
    """What is run where."""

    gcloud: Gcloud
    slice_: Slice
    words: tuple[str, ...]
    """The command of every worker; TPU workers find each other by themselves."""
    bundle: Bundle
    setup: str = SETUP
    """Shell command that installs the code, once per worker and version of it."""
    runtime: str = ""
    spot: bool = False
    bucket: str = ""
    """``BUCKET:PATH``, mounted by gcsfuse on every worker: where records and workdir lie if no disk is shared."""

    def __post_init__(self) -> None:
        check_command(self.words)
        if self.bucket and ":" not in self.bucket:
            raise UserError(
                f"bucket={self.bucket!r} is not valid: give BUCKET:PATH, such as my-bucket:/mnt/data"
            )
        if self.slice_.vm_hosts > 1:
            for_process(self.words, 0, self.slice_.vm_hosts, "")

    @property
    def folder(self) -> str:
        """Of the run, in the home of every worker."""
        return f"{_FOLDER}/{self.gcloud.name}"

    def worker_words(self, worker: int) -> list[str]:
        """The command of one worker."""
        words = list(self.words)
        if words[0] == "prepare":
            words = for_process(words, worker, self.slice_.vm_hosts, "")
        return ["adafocus", *words]

    def runner(self, *words: str) -> str:
        """A call of the runner, as a shell command."""
        return shlex.join(["bash", f"{self.folder}/runner.sh", *words])

    def prepare_commands(self) -> list[str]:
        """Shell commands for every worker: mount the bucket, name the workdir, unpack and install the code."""
        commands = []
        if self.bucket:
            name, path = (shlex.quote(part) for part in self.bucket.split(":", 1))
            mount = f"mountpoint -q {path} || gcsfuse --implicit-dirs {name} {path}"
            commands.append(f'{_GCSFUSE}; sudo mkdir -p {path} && sudo chown "$USER" {path} && ({mount})')
        workdir = str(workdir_of(self.words) or "")
        commands.append(f"printf %s {shlex.quote(workdir)} >{self.folder}/workdir")
        commands.append(self.runner("setup", self.bundle.digest, self.setup))
        return commands


def launch_tpu(
    run: TpuRun, *, max_restarts: int = MAX_RESTARTS, keep: bool = False, poll_sec: float = POLL_SEC
) -> int:
    """Sees a run to its end, through preemptions and failures, and gives the slice back on every way out.

    Ctrl-C detaches: the run goes on, and the message says how to watch and how to end it. Run this where it may stay:
    on a small VM, or in tmux on a machine that does not sleep. Started again, it takes the run up where it is.

    Args:
      run: what and where.
      max_restarts: failures without a new checkpoint in between; preemptions are not failures.
      keep: leave the slice when the run is over.
      poll_sec: between looks.

    Returns:
      0, or the status of the worker that ended the run.

    Raises:
      UserError: no gcloud, or it refuses (rights, quota, names).
    """
    watcher = _Watcher(run, Restarts(max_restarts), poll_sec)
    try:
        status = watcher.watch()
    except KeyboardInterrupt:
        log.warning("%s", how_to_go_on(run))
        raise
    except BaseException:
        if not keep:
            _delete(run.gcloud)
        raise
    if not keep:
        _delete(run.gcloud)
    return status


def how_to_go_on(run: TpuRun) -> str:
    """What to type after detaching."""
    place = f"{run.gcloud.name} --zone {run.gcloud.zone}"
    return (
        f"detached; {run.gcloud.name} runs on, and costs. Watch: adafocus launch tpu {place} --status. "
        f"Read: adafocus launch tpu {place} --logs all. End: adafocus launch tpu {place} --down"
    )


def dry_run(run: TpuRun) -> list[list[str]]:
    """The calls of gcloud of a run that meets no trouble."""
    cloud = run.gcloud
    commands = [cloud.create(run.slice_, runtime=run.runtime, spot=run.spot), cloud.describe()]
    for worker in range(run.slice_.vm_hosts):
        commands.append(cloud.ssh(worker, f"mkdir -p {run.folder}"))
        commands.append(cloud.scp(["code.tar", "runner.sh"], f"{run.folder}/", worker))
        commands += [cloud.ssh(worker, command) for command in run.prepare_commands()]
    for worker in range(run.slice_.vm_hosts):
        commands.append(cloud.ssh(worker, run.runner("start", "1", *run.worker_words(worker))))
    commands += [cloud.ssh(worker, run.runner("poll")) for worker in range(run.slice_.vm_hosts)]
    return [*commands, cloud.delete()]


class _Watcher:
    """Brings the slice and the run to where they belong, look after look."""

    def __init__(self, run: TpuRun, restarts: Restarts, poll_sec: float) -> None:
        self.run, self.cloud, self.restarts, self.poll_sec = run, run.gcloud, restarts, poll_sec
        self.attempt = 0
        self.step = -1
        self.said = ""

    def watch(self) -> int:
        while True:
            self._await_slice()
            try:
                self._install()
                self._start()
                statuses = self._await_end()
                if statuses is None:
                    continue  # preempted: the state of the slice says what comes next
                decision = self.restarts.decide(statuses, self.step)
                if decision.action == "done":
                    return 0
                line = self._last_line(decision.worker or 0)
                if decision.action == "stop":
                    log.error("worker %d: %s: %s", decision.worker, decision.reason, line)
                    return decision.status
                log.warning("worker %d %s: starting again (%s)", decision.worker, decision.reason, line)
                self._each(self.run.runner("stop"))
            except CallError as error:
                if self.cloud.state() == ACTIVE:
                    failure = self.restarts.decide({0: 255}, self.step)
                    if failure.action == "stop":
                        raise UserError(f"gcloud fails again and again: {error}") from error
                    log.warning("gcloud: %s; trying again", error)
                    time.sleep(self.poll_sec)

    def _await_slice(self) -> None:
        """Returns when the slice is there: asks for it, and asks anew where a request has come to nothing."""
        while (state := self.cloud.state()) != ACTIVE:
            self._say(f"{self.cloud.name}: {state}")
            if state in FINAL:
                self.cloud.run(self.cloud.delete())
            elif state == GONE:
                try:
                    self.cloud.run(
                        self.cloud.create(self.run.slice_, runtime=self.run.runtime, spot=self.run.spot)
                    )
                except CallError as error:
                    if "already exists" not in str(error).lower():
                        raise UserError(f"no slice: {error}") from error
            elif state not in (*WAITING, "SUSPENDING", "DELETING"):
                raise UserError(f"{self.cloud.name} is in the unknown state {state!r}: see the Cloud console")
            time.sleep(self.poll_sec)
        self._say(f"{self.cloud.name}: {ACTIVE}, {self.run.slice_.vm_hosts} workers")

    def _install(self) -> None:
        """The same code on all workers, checked by its hash; cheap where it is there already."""
        with tempfile.TemporaryDirectory() as scratch:
            code = Path(scratch, "code.tar")
            code.write_bytes(self.run.bundle.data)
            Path(scratch, "runner.sh").write_bytes(RUNNER.read_bytes())
            files = [str(code), str(Path(scratch, "runner.sh"))]

            def install(worker: int) -> None:
                self._call(self.cloud.ssh(worker, f"mkdir -p {self.run.folder}"))
                self._call(self.cloud.scp(files, f"{self.run.folder}/", worker))
                for command in self.run.prepare_commands():
                    self._call(self.cloud.ssh(worker, command))

            self._map(install)

    def _start(self) -> None:
        """A new attempt on every worker; a call that gcloud repeats changes nothing."""
        self.attempt = max([self.attempt, *self._attempts()]) + 1
        name = str(self.attempt)

        def start(worker: int) -> None:
            command = self.run.runner("start", name, *self.run.worker_words(worker))
            self._call(self.cloud.ssh(worker, command))

        self._map(start)

    def _attempts(self) -> Iterable[int]:
        """What earlier launchers of this slice started."""
        found = self._each(f"cat {self.run.folder}/attempt 2>/dev/null || echo 0")
        return [int(text) for text in found if text.strip().isdigit()]

    def _await_end(self) -> dict[int, int] | None:
        """Worker to status when all have ended, the others stopped when one ends badly; None: preempted."""
        while True:
            if self.cloud.state() != ACTIVE:
                return None
            found = [line.split() for line in self._each(self.run.runner("poll"))]
            self.step = max([self.step, *(int(words[2]) for words in found)])
            ended = {worker: int(words[1]) for worker, words in enumerate(found) if words[0] != "running"}
            if len(ended) == len(found):
                return ended
            self._say(
                f"{len(found) - len(ended)} of {len(found)} workers run; newest checkpoint: {self.step}"
            )
            if any(ended.values()):
                # The others notice by themselves within a minute; what hangs is stopped.
                time.sleep(self.poll_sec)
                self._each(self.run.runner("stop"))
            time.sleep(self.poll_sec)

    def _last_line(self, worker: int) -> str:
        lines = self._call(self.cloud.ssh(worker, self.run.runner("tail", "20"))).strip().splitlines()
        return lines[-1] if lines else "it printed nothing"

    def _each(self, command: str) -> list[str]:
        return self._map(lambda worker: self._call(self.cloud.ssh(worker, command)))

    def _map(self, work: Callable[[int], str | None]) -> list[str]:
        workers = range(self.run.slice_.vm_hosts)
        with ThreadPoolExecutor(len(workers)) as pool:
            return [text or "" for text in pool.map(work, workers)]

    def _call(self, command: Sequence[str]) -> str:
        """One call, tried again: ssh to a fresh VM fails now and then."""
        for attempt in range(_RETRIES):
            try:
                return self.cloud.run(command)
            except CallError:
                if attempt == _RETRIES - 1:
                    raise
                time.sleep(min(self.poll_sec, 5 * (attempt + 1)))
        raise AssertionError  # not reached

    def _say(self, text: str) -> None:
        if text != self.said:
            self.said = text
            log.info("%s", text)


def status(gcloud: Gcloud, slice_: Slice | None) -> list[str]:
    """One line per worker, and the state of the slice first."""
    state = gcloud.state()
    lines = [f"{gcloud.name}: {state}"]
    if state == ACTIVE:
        workers = range(slice_.vm_hosts) if slice_ else ["all"]
        for worker in workers:
            text = gcloud.run(gcloud.ssh(worker, f"bash {_FOLDER}/{gcloud.name}/runner.sh poll")).strip()
            lines += [f"worker {worker}: {line}" for line in text.splitlines()]
    return lines


def logs(gcloud: Gcloud, worker: str, lines: int = 100) -> str:
    """The end of the log of one worker, or of ``all``."""
    return gcloud.run(gcloud.ssh(worker, f"bash {_FOLDER}/{gcloud.name}/runner.sh tail {lines}"))


def down(gcloud: Gcloud) -> None:
    """Ends the run and gives the slice back, also one that was not granted yet."""
    _delete(gcloud)


def _delete(gcloud: Gcloud) -> None:
    for attempt in range(_RETRIES):
        try:
            if gcloud.state() == GONE:
                return
            gcloud.run(gcloud.delete())
        except CallError as error:
            if "NOT_FOUND" in str(error):
                return
            if attempt == _RETRIES - 1:
                log.error(
                    "%s is NOT given back, and costs: %s; see adafocus launch tpu --down", gcloud.name, error
                )
                return
            time.sleep(1)
