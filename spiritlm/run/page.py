"""A self-contained HTML page: text, tables, figures and sounds in one file that can be mailed."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from spiritlm.run.files import write_text

_HEAD = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>{title}</title>"""
_STYLE = """
:root { --ink: #1d2433; --soft: #5d6678; --line: #dfe3ea; --paper: #fff; --back: #f5f6f8; --accent: #2457c5; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1000px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { margin: 0 0 4px; font-size: 28px; }
h2 { margin: 0 0 12px; font-size: 19px; }
p { margin: 0 0 12px; } .soft { color: var(--soft); font-size: 14px; }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 10px; }
section { padding: 20px; margin-top: 20px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 6px 10px; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } th { color: var(--soft); font-weight: 600; }
img { max-width: 100%; display: block; } audio { width: 100%; height: 36px; margin: 6px 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; }
.card { border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px; }
.card b { display: block; font-size: 22px; } .card span { color: var(--soft); font-size: 13px; }
.sample { border-top: 1px solid var(--line); padding: 14px 0; } .sample:first-of-type { border-top: 0; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(280px, 1fr)); gap: 16px; }
"""


class Page:
    """Sections in the order they are added; `save` writes the file whole or not at all."""

    def __init__(self, title: str, subtitle: str) -> None:
        self._title, self._subtitle = title, subtitle
        self._sections: list[str] = []

    def section(self, heading: str, *parts: str, note: str = "") -> None:
        """`parts` are HTML; `note` is plain text shown under the heading."""
        soft = f'<p class="soft">{escape(note)}</p>' if note else ""
        self._sections.append(f"<section><h2>{escape(heading)}</h2>{soft}{''.join(parts)}</section>")

    def save(self, path: Path) -> None:
        title, subtitle = escape(self._title), escape(self._subtitle)
        body = f'<main><h1>{title}</h1><p class="soft">{subtitle}</p>{"".join(self._sections)}</main>'
        write_text(path, f"{_HEAD.format(title=title)}<style>{_STYLE}</style></head><body>{body}</body></html>\n")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Plain-text cells; the first column is set left, the others right."""
    lines = ["".join(f"<th>{escape(cell)}</th>" for cell in header)]
    lines += ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    return f'<div class="scroll"><table>{"".join(f"<tr>{line}</tr>" for line in lines)}</table></div>'


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same as lines of Markdown, in columns."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [header, ["-" * width for width in widths], *rows]
    return "".join(f"| {' | '.join(map(str.ljust, line, widths))} |\n" for line in lines)


def cards(values: Sequence[tuple[str, str]]) -> str:
    """Headline numbers: (figure, what it is)."""
    found = "".join(f'<div class="card"><b>{escape(b)}</b><span>{escape(label)}</span></div>' for b, label in values)
    return f'<div class="cards">{found}</div>'


def figure(picture: Figure, description: str) -> str:
    """A matplotlib figure as an embedded PNG with `description` for those who cannot see it."""
    file = io.BytesIO()
    picture.savefig(file, format="png", dpi=110, bbox_inches="tight")
    return f'<img alt="{escape(description)}" src="{_data_url("image/png", file.getvalue())}">'


def audio(path: Path) -> str:
    """A player that holds the wav file."""
    return f'<audio controls preload="metadata" src="{_data_url("audio/wav", path.read_bytes())}"></audio>'


def _data_url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
