"""The one door by which data enters a widget: as text, never as markup and never as control.

A `str` given to Textual may be read as markup (`[@click=…]` runs actions, `[/x]` raises) and its control characters
reach the terminal. Whatever comes from a file, a model, a provider or an exception passes through here first.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from textual.color import Color
from textual.content import Content
from textual.filter import LineFilter

from tunedesk.terminal import visible


def plain(text: str, style: str = "") -> Content:
    """Return `text` as content with line breaks kept, tabs widened and acting characters made visible."""
    return Content.styled(visible(text.replace("\r\n", "\n").expandtabs(4)), style)


def plain_line(text: str, style: str = "") -> Content:
    """Return `text` as content of one line, its line breaks shown as ⏎."""
    return Content.styled(one_line(text), style)


def one_line(text: str) -> str:
    """Return `text` on one line: line breaks as ⏎, tabs as spaces, acting characters made visible."""
    if not text.isprintable():
        text = text.replace("\r\n", "\n").replace("\n", "⏎").replace("\t", " ")
    return visible(text, keep="")


def fit(text: str, width: int, *, right: bool = False) -> str:
    """Return `text` on one line in exactly `width` terminal cells, cut with … or padded (`right`: on the left)."""
    if width <= 0:
        return ""
    text = one_line(text[: 4 * width + 8])
    length = len(text) if text.isascii() else cell_len(text)
    if length > width:
        return set_cell_size(text, width - 1) + "…"
    return " " * (width - length) + text if right else text + " " * (width - length)


class VisibleFilter(LineFilter):
    """The net under the door: takes acting characters out of every painted line.

    At this point the layout is done and such characters count no cells, so they are dropped, not replaced.
    """

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Return `segments` without characters that a terminal would obey."""
        return [
            segment
            if segment.control or segment.text.isprintable()
            else Segment(_without_acting(segment.text), segment.style)
            for segment in segments
        ]


def _without_acting(text: str) -> str:
    marked = visible(text, keep="")
    kept: Sequence[str] = [
        old if old == new else "\N{REPLACEMENT CHARACTER}" * cell_len(old)
        for old, new in zip(text, marked, strict=True)
    ]
    return "".join(kept)
