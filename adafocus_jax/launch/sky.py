"""A task file for SkyPilot, which finds machines on many clouds: written, not imported."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import yaml

from adafocus_jax.errors import UserError
from adafocus_jax.io import StrPath, write_text
from adafocus_jax.launch.commands import COORDINATOR_PORT, JOINED, check_command, for_process


def write_task(path: StrPath, text: str) -> None:
    """Writes a task file.

    Raises:
      UserError: it cannot be written.
    """
    try:
        write_text(path, text)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def sky_task(
    words: Sequence[str], *, accelerators: str, nodes: int = 1, spot: bool = False, setup: str = ""
) -> str:
    """The YAML of a task: ``sky jobs launch FILE`` runs it, and recovers it after preemptions.

    Args:
      words: the command.
      accelerators: as SkyPilot names them, such as ``H100:8`` or ``tpu-v6e-8``.
      nodes: machines.
      spot: of the preemptible kind.
      setup: shell commands that install the package; empty: the repository's, for TPUs or CUDA.

    Raises:
      UserError: the command cannot be launched so.
    """
    check_command(words)
    extra = "tpu" if accelerators.startswith("tpu") else "cuda13"
    command = shlex.join(["adafocus", *words])
    if nodes > 1:
        for_process(words, 0, nodes, "")
        if words[0] in JOINED:
            command += (
                f' --coordinator "$(head -n 1 <<<"$SKYPILOT_NODE_IPS"):{COORDINATOR_PORT}"'
                ' --num-processes "$SKYPILOT_NUM_NODES" --process-id "$SKYPILOT_NODE_RANK"'
            )
        elif words[0] == "prepare":
            command += f' --shard "$SKYPILOT_NODE_RANK/{nodes}"'
    task = {
        "name": "adafocus",
        "workdir": ".",
        "num_nodes": nodes,
        "resources": {
            "accelerators": accelerators,
            "use_spot": spot,
            # Statuses with which a run asks to be started again; a killed one (137) may be out of memory: counted.
            "job_recovery": {"max_restarts_on_errors": 3, "recover_on_exit_codes": [75, 134, 143]},
        },
        "setup": setup or f"pip install -e '.[{extra}]'",
        "run": command,
    }
    return yaml.safe_dump(task, sort_keys=False, width=1000)
