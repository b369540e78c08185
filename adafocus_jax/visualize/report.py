"""One self-contained HTML page: no script, nothing loaded from elsewhere, readable on a phone, light and dark."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

import numpy as np

from adafocus_jax.data.media.names import readable
from adafocus_jax.io import StrPath, write_text
from adafocus_jax.visualize.files import jpeg_bytes, png_bytes


@dataclass(frozen=True)
class Headline:
    """One large number with its label and a note to put it in perspective."""

    value: str
    label: str
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of cells, as text; columns of numbers are right-aligned."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Picture:
    """An image with its caption and alternative text."""

    image: np.ndarray
    """RGB ``uint8 [H, W, 3]``."""
    caption: str
    alt: str
    photo: bool = False
    """Embedded as JPEG, at a fraction of the size: for images with video frames."""


@dataclass(frozen=True)
class Section:
    """A heading, paragraphs, then tables and pictures in the order given."""

    title: str
    text: tuple[str, ...] = ()
    content: tuple[Table | Picture, ...] = ()


@dataclass(frozen=True)
class Report:
    """The page, top to bottom. All text is plain and is escaped."""

    title: str
    summary: tuple[str, ...]
    headlines: tuple[Headline, ...] = ()
    sections: tuple[Section, ...] = ()


def write_report(path: StrPath, report: Report) -> None:
    """Writes the report as one HTML file, pictures included."""
    write_text(path, readable(render_html(report)))


def render_html(report: Report) -> str:
    """The report as a complete HTML document.

    >>> "<h1>a &lt;b&gt;</h1>" in render_html(Report(title="a <b>", summary=()))
    True
    """
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">',
            f"<title>{escape(report.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>",
            f"<h1>{escape(report.title)}</h1>",
            *(f'<p class="lead">{escape(sentence)}</p>' for sentence in report.summary),
            *_headlines(report.headlines),
            *(part for section in report.sections for part in _section(section)),
            "</main>\n</body>\n</html>\n",
        ]
    )


def _headlines(headlines: tuple[Headline, ...]) -> Iterator[str]:
    if not headlines:
        return
    yield '<dl class="headlines">'
    for one in headlines:
        note = f'<dd class="note">{escape(one.note)}</dd>' if one.note else ""
        yield f"<div><dt>{escape(one.label)}</dt><dd>{escape(one.value)}</dd>{note}</div>"
    yield "</dl>"


def _section(section: Section) -> Iterator[str]:
    yield f"<section>\n<h2>{escape(section.title)}</h2>"
    yield from (f"<p>{escape(text)}</p>" for text in section.text)
    for item in section.content:
        yield from _table(item) if isinstance(item, Table) else _picture(item)
    yield "</section>"


def _table(table: Table) -> Iterator[str]:
    classes = [_cell_class([row[i] for row in table.rows]) for i in range(len(table.columns))]
    # Focusable, so that a keyboard can scroll it.
    yield f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.caption)}">'
    yield f"<table><caption>{escape(table.caption)}</caption>"
    heads = zip(table.columns, classes, strict=True)
    yield f"<thead><tr>{''.join(f'<th scope=col{c}>{escape(name)}</th>' for name, c in heads)}</tr></thead><tbody>"
    for row in table.rows:
        first, *rest = zip(row, classes, strict=True)
        cells = "".join(f"<td{c}>{escape(text)}</td>" for text, c in rest)
        yield f"<tr><th scope=row{first[1]}>{escape(first[0])}</th>{cells}</tr>"
    yield "</tbody></table></div>"


def _cell_class(column: list[str]) -> str:
    figures = all(text[:1].isdigit() or text[:1] in "+-−–." for text in column)
    return " class=figure" if figures else ""


def _picture(picture: Picture) -> Iterator[str]:
    height, width = picture.image.shape[:2]
    kind, encode = ("jpeg", jpeg_bytes) if picture.photo else ("png", png_bytes)
    data = base64.b64encode(encode(picture.image)).decode()
    yield f'<figure><img src="data:image/{kind};base64,{data}" width="{width}" height="{height}"'
    yield f' alt="{escape(picture.alt)}"><figcaption>{escape(picture.caption)}</figcaption></figure>'


STYLE = """
:root { --page: #fff; --card: #f6f8fa; --ink: #1b1f24; --muted: #57606a; --line: #d8dee4; --accent: #0072b2 }
@media (prefers-color-scheme: dark) {
  :root { --page: #0f1317; --card: #191f25; --ink: #e6eaee; --muted: #a3adb8; --line: #313a43; --accent: #6cc3f2 }
}
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--ink); font: 1rem/1.55 system-ui, sans-serif;
  overflow-wrap: break-word }
main { max-width: 46rem; margin: 0 auto; padding: 1.5rem 1rem 4rem }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .8rem }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 2.6rem 0 .6rem; padding-top: 1rem;
  border-top: 1px solid var(--line) }
p { margin: 0 0 .8rem }
.lead { font-size: 1.06rem }
.headlines { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .7rem;
  margin: 1.4rem 0 0 }
.headlines div { display: flex; flex-direction: column; background: var(--card);
  border: 1px solid var(--line); border-radius: .6rem; padding: .8rem .9rem }
.headlines dt { order: 1; font-size: .9rem; line-height: 1.35 }
.headlines dd { margin: 0; font-size: 1.7rem; font-weight: 650; line-height: 1.25; color: var(--accent) }
.headlines .note { order: 2; font-size: .85rem; font-weight: 400; line-height: 1.35; color: var(--muted);
  margin-top: .2rem }
.scroll { overflow-x: auto; margin: 1.2rem 0 }
.scroll:focus-visible { outline: 2px solid var(--accent) }
table { border-collapse: collapse; width: 100%; font-size: .94rem }
caption { text-align: left; color: var(--muted); font-size: .9rem; padding-bottom: .4rem }
th, td { text-align: left; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top }
thead th { color: var(--muted); font-weight: 600; vertical-align: bottom; min-width: 4.5em }
tbody th { font-weight: 400; min-width: 6.5rem }
tbody th, tbody td { overflow-wrap: anywhere }
.figure { text-align: right; font-variant-numeric: tabular-nums }
td.figure { white-space: nowrap }
th:last-child, td:last-child { padding-right: 0 }
figure { margin: 1.4rem 0 }
img { display: block; width: 100%; height: auto; background: #fff; border: 1px solid var(--line);
  border-radius: .6rem }
figcaption { color: var(--muted); font-size: .9rem; line-height: 1.45; margin-top: .5rem }
"""
