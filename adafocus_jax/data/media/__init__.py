"""One video on disk becomes frames: files, folders of frames, volumes."""

from typing import TYPE_CHECKING

from adafocus_jax.lazy import lazy_exports

if TYPE_CHECKING:
    from adafocus_jax.data.media.frame_folder import iter_folder as iter_folder
    from adafocus_jax.data.media.frames import Frame as Frame
    from adafocus_jax.data.media.kinds import Media as Media
    from adafocus_jax.data.media.kinds import find_media as find_media
    from adafocus_jax.data.media.kinds import media_kind as media_kind
    from adafocus_jax.data.media.kinds import media_stem as media_stem
    from adafocus_jax.data.media.resize import resize as resize
    from adafocus_jax.data.media.video import DecodedVideo as DecodedVideo
    from adafocus_jax.data.media.video import DecodeError as DecodeError
    from adafocus_jax.data.media.video import iter_frames as iter_frames
    from adafocus_jax.data.media.video import read_video as read_video
    from adafocus_jax.data.media.volume import iter_slices as iter_slices

__all__, __getattr__, __dir__ = lazy_exports(__name__, __file__)
