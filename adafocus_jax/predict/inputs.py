"""The videos that words on a command line stand for."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from adafocus_jax.data.datasets.list_files import read_lines
from adafocus_jax.data.media.kinds import VIDEO_SUFFIXES, VOLUME_SUFFIXES, Search, find_media, image_number
from adafocus_jax.errors import UserError

STANDARD_INPUT = "-"


def expand_videos(words: Iterable[str]) -> Iterator[str]:
    """Paths of videos, one at a time, in the order of the words.

    A word is a video file, a volume or a folder of frames; a folder that holds such, at any depth; a pattern
    (``clips/**/*.mp4``); ``@FILE``, a text file with a path per line; or ``-``, such lines from standard input as they
    arrive. A word that is none of these is passed on, so that reading it says what is wrong.

    Raises:
      UserError: a text file that is not there.
    """
    for word in words:
        if word == STANDARD_INPUT:
            yield from _paths(map(os.fsdecode, sys.stdin.buffer))  # Names need not be UTF-8.
        elif os.path.isdir(word):
            yield from _below(word)
        elif word.startswith("@") and not os.path.exists(word):
            if not os.path.isfile(word[1:]):
                raise UserError(f"no such list of videos: {word[1:]}")
            yield from _paths(read_lines(Path(word[1:])))
        elif glob.has_magic(word) and not os.path.exists(word):
            yield from sorted(glob.glob(word, recursive=True)) or [word]
        else:
            yield word


def _paths(lines: Iterable[str]) -> Iterator[str]:
    return (line.rstrip("\r\n") for line in lines if line.strip())


def _below(folder: str) -> Iterator[str]:
    names = os.listdir(folder)
    has_videos = any(name.lower().endswith((*VIDEO_SUFFIXES, *VOLUME_SUFFIXES)) for name in names)
    if any(map(image_number, names)) and not has_videos:
        return iter([folder])
    search = Search(f"looking for videos in {folder}")
    found = find_media(folder, search)
    search.end()
    return map(str, found) if found else iter([folder])
