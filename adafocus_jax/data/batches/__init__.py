"""Records or videos become batches: sampled, cut, put together."""

from typing import TYPE_CHECKING

from adafocus_jax.lazy import lazy_exports

if TYPE_CHECKING:
    from adafocus_jax.data.batches.clips import ClipSpec as ClipSpec
    from adafocus_jax.data.batches.clips import ClipWriter as ClipWriter
    from adafocus_jax.data.batches.cuts import Cut as Cut
    from adafocus_jax.data.batches.cuts import eval_cut as eval_cut
    from adafocus_jax.data.batches.cuts import random_cut as random_cut
    from adafocus_jax.data.batches.dataset import clip_dataset as clip_dataset
    from adafocus_jax.data.batches.pipeline import eval_batches as eval_batches
    from adafocus_jax.data.batches.pipeline import train_batches as train_batches
    from adafocus_jax.data.batches.sampling import segment_indices as segment_indices
    from adafocus_jax.data.batches.single import Clip as Clip
    from adafocus_jax.data.batches.single import LazyClip as LazyClip
    from adafocus_jax.data.batches.single import as_video as as_video
    from adafocus_jax.data.batches.single import read_clip as read_clip
    from adafocus_jax.data.batches.sources import ArrayVideo as ArrayVideo
    from adafocus_jax.data.batches.sources import Source as Source
    from adafocus_jax.data.batches.sources import Video as Video
    from adafocus_jax.data.batches.sources import VideoData as VideoData
    from adafocus_jax.data.batches.sources import VideoSource as VideoSource
    from adafocus_jax.data.batches.sources import open_data as open_data
    from adafocus_jax.data.batches.transforms import make_transforms as make_transforms
    from adafocus_jax.data.batches.transforms import register_transform as register_transform

__all__, __getattr__, __dir__ = lazy_exports(__name__, __file__)
