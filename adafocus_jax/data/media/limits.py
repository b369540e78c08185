"""How large a file may be before it is refused, so that reading a stranger's file ends."""

from __future__ import annotations

from dataclasses import dataclass, fields

from adafocus_jax.data.media.frames import DecodeError
from adafocus_jax.errors import UserError


@dataclass(frozen=True)
class ReadLimits:
    """The most that a video may have; what has more is refused with the limit that it passes.

    The defaults suit one's own files on one's own machine: they stop what is no video, not what is long.

    Raises:
      UserError: a limit that is not positive.
    """

    max_pixels: int = 2**26
    """Of one frame, 67 million: twice 8K."""
    max_frames: int = 2**24
    """Of one video: six days at 30 frames per second."""
    max_packets: int = 2**25
    """Of its video stream, which may hold many that show no frame."""
    max_seconds: float = 7 * 86400.0
    """From the first frame to the last."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if not (value := getattr(self, field.name)) > 0:
                raise UserError(f"{field.name} {value} is not valid: give more than 0")

    @classmethod
    def strict(cls) -> ReadLimits:
        """For a server that decodes what strangers send: 4K, 10 minutes, 60 frames per second."""
        return cls(max_pixels=2**24, max_frames=36_000, max_packets=72_000, max_seconds=600.0)

    def check_size(self, height: int, width: int) -> None:
        """Refuses a frame of ``height × width`` pixels that is too large: a ``DecodeError``."""
        if height * width > self.max_pixels:
            raise DecodeError(f"too large: {height} × {width} pixels, more than max_pixels {self.max_pixels}")

    def check_length(self, num_frames: int, seconds: float) -> None:
        """Refuses a video that is too long: a ``DecodeError``."""
        if num_frames > self.max_frames:
            raise DecodeError(f"too long: more frames than max_frames {self.max_frames}")
        if seconds > self.max_seconds:
            raise DecodeError(f"too long: {seconds:.1f} s, more than max_seconds {self.max_seconds:g}")

    def check_packets(self, num_packets: int) -> None:
        """Refuses a video of too many packets: a ``DecodeError``."""
        if num_packets > self.max_packets:
            raise DecodeError(f"too long: more packets than max_packets {self.max_packets}")
