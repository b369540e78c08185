"""Starting runs where they belong, and starting them again until they are done: this machine, Slurm, GKE, TPU slices.

The engines are Slurm, JobSet and gcloud; what is here renders what they take, and watches where they do not.
"""

from typing import TYPE_CHECKING

from adafocus_jax.lazy import lazy_exports

if TYPE_CHECKING:
    from adafocus_jax.launch.gke import GkeJob as GkeJob
    from adafocus_jax.launch.gke import jobset as jobset
    from adafocus_jax.launch.local import LocalProcesses as LocalProcesses
    from adafocus_jax.launch.local import launch_local as launch_local
    from adafocus_jax.launch.slurm import SlurmJob as SlurmJob
    from adafocus_jax.launch.slurm import batch_script as batch_script
    from adafocus_jax.launch.tpu import TpuRun as TpuRun
    from adafocus_jax.launch.tpu import launch_tpu as launch_tpu

__all__, __getattr__, __dir__ = lazy_exports(__name__, __file__)
