"""Wrapping text to a number of terminal cells, wide characters counted as two."""

from __future__ import annotations

from rich.cells import cell_len, chop_cells


def wrap(text: str, width: int) -> list[str]:
    """Return `text` in lines of at most `width` cells, broken at spaces where there are any; at least one line.

    Newlines in `text` begin new lines. Wrapping a text piece by piece (the last line again with the next piece)
    gives the same lines as wrapping it whole.
    """
    return [line for paragraph in text.split("\n") for line in _wrap_paragraph(paragraph, width)]


def _wrap_paragraph(text: str, width: int) -> list[str]:
    lines = []
    while cell_len(text) > width:
        head = chop_cells(text[: width + 1], width)[0] if not text[: width + 1].isascii() else text[:width]
        if text[len(head)] != " ":
            space = head.rfind(" ")
            if space > 0:
                head = head[:space]
        lines.append(head)
        text = text[len(head) :]
        text = text[1:] if text.startswith(" ") else text
    lines.append(text)
    return lines
