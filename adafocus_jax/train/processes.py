"""Several processes as one run: JAX's own multi-controller runtime, and what they have to agree on."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from adafocus_jax.errors import ProcessLostError, UserError
from adafocus_jax.watchdog import watched

log = logging.getLogger(__name__)

HEARTBEAT_SEC = 30
"""A process that was not heard of for so long has died, and the others end too."""
START_SEC = 1800
"""For all processes to find each other: the machines of a large slice do not come up together."""
NOTICE_SEC = 10.0
"""Before a line says that others are waited for."""
_SLURM_STEP = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID")


def connect(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Joins the processes of a run, before anything else that uses JAX. One process alone joins nothing.

    Args:
      coordinator: ``HOST:PORT`` of process 0, reachable from all.
      num_processes: how many there are.
      process_id: which one this is, 0…num_processes−1. None for all three: as Slurm or a TPU pod says, if one of them
        started this process.

    Raises:
      UserError: only some are given, they do not fit together, or the processes do not find each other.
    """
    if (
        jax.distributed.is_initialized()
    ):  # a command that follows another one in the same process, as in a sweep
        return
    given = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
    missing = [f"`{name}`" for name, value in given.items() if value is None]
    if len(missing) == 3 and not in_cluster(os.environ):
        refuse_unknown_ranks(os.environ)
        return
    if len(missing) in (1, 2):
        raise UserError(
            f"{' and '.join(missing)} missing: several processes need `coordinator`, `num_processes` and `process_id`"
        )
    if num_processes is not None and not 0 <= (process_id or 0) < num_processes:
        raise UserError(f"process_id={process_id} is not one of 0…{num_processes - 1}")
    # JAX's own notifier would take SIGTERM for itself, and tell nobody until the first step is done.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        with watched(f"the other processes of the run ({coordinator or 'as the cluster says'})", NOTICE_SEC):
            jax.distributed.initialize(
                coordinator,
                num_processes,
                process_id,
                initialization_timeout=START_SEC,
                heartbeat_timeout_seconds=HEARTBEAT_SEC,
                shutdown_timeout_seconds=HEARTBEAT_SEC,
            )
    except (RuntimeError, ValueError) as error:
        port = (coordinator or ":8476 or 8482").rpartition(":")[2]
        raise UserError(
            f"the processes of the run do not find each other: {error}; is port {port} of process 0 open, and does "
            "nothing of an earlier run hold the devices (on TPUs: /tmp/libtpu_lockfile, /dev/accel*, /dev/vfio/*)?"
        ) from error
    log.info("process %d of %d", jax.process_index(), jax.process_count())


def refuse_unknown_ranks(environ: Mapping[str, str]) -> None:
    """Raises UserError for one of several pods or MPI ranks: each would train alone, all in one workdir.

    >>> refuse_unknown_ranks({"OMPI_COMM_WORLD_SIZE": "1"})
    """
    ranks = {"OMPI_COMM_WORLD_SIZE": "OMPI_COMM_WORLD_RANK", "PMI_SIZE": "PMI_RANK"}
    for size, rank in ranks.items():
        if int(environ.get(size, 1)) > 1:
            raise UserError(
                f"one of {environ[size]} MPI ranks ({size}), which JAX does not join by itself: give `coordinator`, "
                f"`num_processes` ${size} and `process_id` ${rank}"
            )
    if int(environ.get("JOB_COMPLETION_INDEX", 0)) > 0:
        raise UserError(
            f"pod {environ['JOB_COMPLETION_INDEX']} of a Kubernetes job of several (JOB_COMPLETION_INDEX): give "
            "`coordinator`, `num_processes` and `process_id`, as adafocus launch gke does"
        )


def in_cluster(environ: Mapping[str, str]) -> bool:
    """Whether Slurm started this process as one of several tasks, or it runs on a TPU machine, which may be of a pod.

    >>> in_cluster({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8"})  # the batch script itself, not a task of srun
    False
    """
    slurm = all(name in environ for name in _SLURM_STEP) and int(environ.get("SLURM_NTASKS", 1)) > 1
    hosts = environ.get("TPU_PROCESS_ADDRESSES") or environ.get("TPU_WORKER_HOSTNAMES", "")
    # JAX sets the first where it finds TPUs; without the second it asks the machine's metadata for the pod.
    asks = "TPU_ML_PLATFORM" in environ and "TPU_SKIP_MDS_QUERY" not in environ
    return slurm or "," in hosts or asks


@contextlib.contextmanager
def naming_lost_processes() -> Iterator[None]:
    """Raises ProcessLostError for what JAX says in the block where another process of the run has died.

    Where JAX says nothing, as it waits for what will not come, it ends this process ``HEARTBEAT_SEC`` later.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1 or "RESOURCE_EXHAUSTED" in str(error):
            raise
        said = str(error).partition("\n")[0][:300]
        raise ProcessLostError(
            f"another process of the run ended or cannot be reached ({said}): see what it said, and start the same "
            "command on all of them to resume from the last checkpoint"
        ) from error


def require_same(value: int, message: str) -> None:
    """Raises UserError with ``message`` unless ``value`` is the same in all processes."""
    if jax.process_count() > 1:
        with watched("the other processes of the run to start"):
            values = multihost_utils.process_allgather(np.asarray(value))
        if len(np.unique(values)) > 1:
            raise UserError(message)


def largest_over_processes() -> Callable[[int], jax.Array]:
    """From a number of this process, 0 or more, to the largest of all, int32, still under way when it returns."""
    mesh = Mesh(np.array(jax.devices()), ("processes",))
    everywhere, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("processes"))
    largest = jax.jit(lambda values: values.max(), out_shardings=everywhere)

    def start(value: int) -> jax.Array:
        local = np.full(jax.local_device_count(), value, np.int32)
        return largest(jax.make_array_from_process_local_data(split, local))

    return start
