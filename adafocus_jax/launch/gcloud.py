"""Cloud TPU through gcloud: short calls that may be repeated, each with a bound."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from adafocus_jax.errors import UserError
from adafocus_jax.launch.slices import Slice

GONE = "NOT_FOUND"
WAITING = ("CREATING", "ACCEPTED", "WAITING_FOR_RESOURCES", "PROVISIONING")
ACTIVE = "ACTIVE"
FINAL = ("SUSPENDED", "FAILED")
"""States that a request does not leave: it is deleted, and made anew."""


class CallError(RuntimeError):
    """A call of gcloud failed; what it said last is the message."""


@dataclass(frozen=True)
class Gcloud:
    """The calls for one queued resource, which bears the name of its TPU."""

    name: str
    zone: str
    project: str = ""
    program: str = "gcloud"
    timeout_sec: float = 900.0

    def create(self, slice_: Slice, *, runtime: str = "", spot: bool = False) -> list[str]:
        """The command that asks for the slice."""
        words = ["queued-resources", "create", self.name, "--node-id", self.name]
        words += [
            "--accelerator-type",
            slice_.name,
            "--runtime-version",
            runtime or slice_.generation.runtime,
        ]
        return self._tpus(*words, *(["--spot"] if spot else []))

    def delete(self) -> list[str]:
        """The command that gives the slice back, also one that still waits to be granted."""
        return self._tpus("queued-resources", "delete", self.name, "--force", "--quiet")

    def describe(self) -> list[str]:
        """The command that prints the state."""
        return self._tpus("queued-resources", "describe", self.name, "--format", "value(state.state)")

    def ssh(self, worker: int | str, command: str) -> list[str]:
        """The command that runs a shell command on one worker, or on ``all``."""
        return self._tpus("tpu-vm", "ssh", self.name, "--worker", str(worker), "--command", command)

    def scp(self, files: Sequence[str], folder: str, worker: int | str) -> list[str]:
        """The command that copies files to a folder of one worker, or of ``all``."""
        return self._tpus("tpu-vm", "scp", *files, f"{self.name}:{folder}", "--worker", str(worker))

    def state(self) -> str:
        """The state of the request; ``NOT_FOUND``: there is none.

        Raises:
          CallError: gcloud fails otherwise.
        """
        try:
            return self.run(self.describe()).strip()
        except CallError as error:
            if "NOT_FOUND" in str(error):
                return GONE
            raise

    def run(self, command: Sequence[str]) -> str:
        """Runs one of the commands above; returns what it prints.

        Raises:
          CallError: it fails, or takes longer than ``timeout_sec``.
          UserError: there is no gcloud here.
        """
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=self.timeout_sec,
                check=False,
            )
        except FileNotFoundError as error:
            raise UserError(
                f"{self.program} is not here: install the Google Cloud CLI, or see dry_run=True"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise CallError(
                f"no answer within {self.timeout_sec:.0f} s: {shlex.join(command[:6])}"
            ) from error
        if done.returncode:
            lines = done.stderr.strip().splitlines() or done.stdout.strip().splitlines()
            raise CallError(f"{' '.join(lines[-3:])} (status {done.returncode})")
        return done.stdout

    def _tpus(self, *words: str) -> list[str]:
        project = ["--project", self.project] if self.project else []
        return [self.program, "compute", "tpus", *words, "--zone", self.zone, *project]
