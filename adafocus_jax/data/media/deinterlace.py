"""Interlaced video: frames whose odd and even lines were taken at two moments become frames of one moment."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import pairwise
from typing import cast

import av
from av.filter import Graph

from adafocus_jax.data.media.frames import Shown


def deinterlaced(frames: Iterator[Shown[av.VideoFrame]]) -> Iterator[Shown[av.VideoFrame]]:
    """The same frames at the same times; from the first interlaced one on, through FFmpeg's filter ``bwdif``.

    The filter rebuilds one field of each interlaced frame from its neighbours, and leaves other frames as they are.
    """
    graph, shape = None, None
    waiting: deque[tuple[float, float]] = deque()
    for frame in frames:
        picture = frame.picture
        now = picture.format.name, picture.width, picture.height
        if graph is not None and now != shape:
            yield from _drain(graph, waiting, None)
            graph = None
        if graph is None:
            if not picture.interlaced_frame:
                yield frame
                continue
            graph, shape = _graph(picture), now
        waiting.append((frame.time_sec, frame.until_sec))
        yield from _drain(graph, waiting, picture)
    if graph is not None:
        yield from _drain(graph, waiting, None)


def _graph(frame: av.VideoFrame) -> Graph:
    graph = Graph()
    graph.threads = 1  # Parallelism is over videos.
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    filters = source, graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink")
    for left, right in pairwise(filters):
        left.link_to(right)
    graph.configure()
    return graph


def _drain(
    graph: Graph, waiting: deque[tuple[float, float]], frame: av.VideoFrame | None
) -> Iterator[Shown[av.VideoFrame]]:
    """Puts a frame in (None: the last was), and takes out those that are ready: one for one, in order."""
    graph.push(frame)
    while True:
        try:
            picture = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        yield Shown(*waiting.popleft(), cast(av.VideoFrame, picture))
