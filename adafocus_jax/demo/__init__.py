"""The demonstration task: synthetic videos with known truth, and scores of where and when a policy looked."""

from typing import TYPE_CHECKING

from adafocus_jax.lazy import lazy_exports

if TYPE_CHECKING:
    from adafocus_jax.demo.score import PolicyScore as PolicyScore
    from adafocus_jax.demo.score import score_policy as score_policy
    from adafocus_jax.demo.videos import DemoTask as DemoTask
    from adafocus_jax.demo.videos import write_videos as write_videos

__all__, __getattr__, __dir__ = lazy_exports(__name__, __file__)
