"""The one look of all pictures: colours, text, and figures measured in pixels.

The palette is Okabe and Ito's, which colour-blind readers can tell apart; nothing is told by colour alone.
Widths are chosen so that the text stays legible when a picture fills a phone's screen.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from adafocus_jax.data.media.names import readable

WIDTH_PX = 960
TEXT_PX = 27
INK, MUTED, GRID = "#1b1f24", "#57606a", "#dfe3e8"
GLANCE, CHOSEN, TRUTH = "#0072b2", "#d55e00", "#009e73"
"""What was glanced at, what was chosen, and what is known to be true."""
GLANCE_LIGHT = "#56b4e9"
"""``GLANCE`` on a dark ground."""
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#1b1f24", "#8c6d31")
MARKERS = "osD^vPXp"


def rgb(colour: str) -> tuple[int, int, int]:
    """A colour ``#rrggbb`` as numbers in 0…255.

    >>> rgb(CHOSEN)
    (213, 94, 0)
    """
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue


def new_figure(height_px: int, width_px: int = WIDTH_PX) -> Figure:
    """A figure in which a point is a pixel, so that font sizes and line widths are pixels."""
    layout = ConstrainedLayoutEngine(w_pad=12 / 72, h_pad=12 / 72)
    figure = Figure((width_px / 72, height_px / 72), dpi=72, facecolor="white", layout=layout)
    FigureCanvasAgg(figure)
    return figure


def cover(figure: Figure, image: np.ndarray) -> Axes:
    """Axes over the whole figure that show ``image`` pixel by pixel, in its pixels, y downwards."""
    height, width = image.shape[:2]
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(image, extent=(0, width, height, 0), interpolation="nearest", aspect="auto")
    axes.axis("off")
    return axes


def write_text(
    axes: Axes, x: float, y: float, text: str, size: float, colour: str = INK, **kwargs: Any
) -> None:
    """Plain text with its baseline at (x, y): a dollar in a class name is a dollar, and any file name is drawn."""
    axes.text(x, y, readable(text), fontsize=size, color=colour, parse_math=False, **kwargs)


def to_image(figure: Figure) -> np.ndarray:
    """The drawn figure as RGB ``uint8 [H, W, 3]``."""
    with warnings.catch_warnings():
        # A class may be named in a script that the bundled font lacks; its boxes are better than no picture.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()  # type: ignore[attr-defined]


def dress(axes: Axes, xlabel: str, ylabel: str) -> None:
    """Labels, a light grid, and no more frame than the two axes need."""
    axes.set_xlabel(xlabel, fontsize=TEXT_PX, color=INK)
    axes.set_ylabel(ylabel, fontsize=TEXT_PX, color=INK)
    axes.tick_params(labelsize=TEXT_PX - 2, colors=MUTED, length=6, width=1.5)
    axes.grid(color=GRID, linewidth=1.5)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set(visible=side in ("left", "bottom"), color=MUTED, linewidth=1.5)


def add_legend(parent: Figure | Axes, handles: Sequence[Artist], columns: int) -> None:
    """A legend under the axes of a figure, or above one axes; its labels are taken as plain text."""
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1)}
    legend = parent.legend(
        handles=list(handles),
        **({"loc": "outside lower center"} if isinstance(parent, Figure) else place),
        ncols=columns,
        fontsize=TEXT_PX - 2,
        labelcolor=INK,
        frameon=False,
        handlelength=1.6,
        columnspacing=1.4,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def shorten(text: str, most: int) -> str:
    """``text`` on one line of at most ``most`` characters.

    >>> shorten("playing\\nthe trombone", 12)
    'playing the…'
    """
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"
