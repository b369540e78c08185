"""A video that does not decode is read once more: what storage could not give is not taken for damage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from adafocus_jax.errors import UserError, remedy

Read = TypeVar("Read")

_CHUNK = 2**20


def read_video_or_fail(read: Callable[[], Read], path: str) -> Read:
    """Calls ``read`` of the video at ``path``; where it fails although storage gives all bytes, once more.

    Raises:
      UserError: storage does not give all bytes; or an error of the user, of ``read``.
      Exception: what ``read`` raises the second time: the video is damaged.
    """
    try:
        return read()
    except UserError:
        raise
    except Exception:  # decoders raise whatever they like, also where reading failed
        for file in sorted(Path(path).iterdir()) if Path(path).is_dir() else [Path(path)]:
            _require_readable(file)
    return read()


def _require_readable(path: Path) -> None:
    try:
        if path.is_file():
            with open(path, "rb", buffering=0) as file:
                while file.read(_CHUNK):
                    pass
    except PermissionError:
        pass  # this one is not for us to read
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror}: {remedy(error) or 'mend this'} and run the same command again"
        ) from error
