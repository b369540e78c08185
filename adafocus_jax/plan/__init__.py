"""What a configuration needs of a slice of TPUs: compiled for it ahead of time, on any machine."""

from adafocus_jax.plan.chips import CHIPS, Chip, Topology, open_topology
from adafocus_jax.plan.planner import plan_training
from adafocus_jax.plan.search import largest_batch
from adafocus_jax.plan.steps import Estimate, StepPlan, estimate, lower_evaluation, plan_step

__all__ = [
    "CHIPS",
    "Chip",
    "Estimate",
    "StepPlan",
    "Topology",
    "estimate",
    "largest_batch",
    "lower_evaluation",
    "open_topology",
    "plan_step",
    "plan_training",
]
