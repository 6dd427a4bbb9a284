"""Blocks of text one below the other: each with a head, wrapped, long ones folded, a cursor over blocks, a search."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip

from tunedesk.tui.widgets.plain import fit
from tunedesk.tui.widgets.scrolled import Scrolled
from tunedesk.tui.widgets.wrapping import wrap

FOLD_ABOVE = 14
"""Lines of a block that are shown whole."""
_FOLDED_TO = 10
MOST_CHARACTERS = 400_000
"""Of one unfolded block: more would make a pane wait."""
_PIECE = 4_000
_CLUSTER = re.compile(
    r"[\x00-\x7f]+(?![\u0300-\u036f])|.[\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u064b-\u065f\u3099\u309a]*",
    re.DOTALL,
)
"""ASCII as long as nothing is put upon it, else one character with the accents upon it."""


@dataclass(frozen=True, slots=True)
class Block:
    """One block; its texts are safe to paint (see plain.py)."""

    head: str
    body: str
    kind: str = ""
    """Component class of the head: "", "first", "second" or "quiet"."""
    gutter: str = "  "
    """What stands before every line of the body, two cells wide."""
    scope: str = ""
    """What kind of text it is, for needles that are about one kind."""
    tail: tuple[int, str] | None = None
    """From which character of the body on it is of another kind, and of which."""
    left_out: int = 0
    """Characters of it that are not in the body, as it shows no more than `MOST_CHARACTERS`."""


@dataclass(frozen=True, slots=True)
class Needle:
    """What is marked in the bodies of blocks."""

    pattern: re.Pattern[str]
    scope: str = ""
    """The kind of blocks it is looked for in, empty for all."""


def needle(source: str, scope: str = "") -> Needle | None:
    """Return the needle of a regular expression, whatever the case; None when it is none here."""
    try:
        return Needle(re.compile(source, re.IGNORECASE), scope)
    except (re.error, OverflowError, RecursionError):
        return None


@dataclass(slots=True)
class _Line:
    block: int
    text: str
    kind: str
    """head, body, fold or gap."""
    start: int = 0
    """Place of its first character in the body of its block."""


@dataclass(slots=True)
class _Laid:
    """Lines of all blocks at one width."""

    lines: list[_Line] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    """First line of each block."""


class BlockView(Scrolled, can_focus=True):
    """A scrolling view of blocks."""

    DEFAULT_CSS = """
    BlockView {
        & .block-view--head { text-style: bold; }
        & .block-view--first { text-style: bold; color: $text-primary; }
        & .block-view--second { text-style: bold; color: $text-accent; }
        & .block-view--quiet { text-style: bold; color: $text-muted; }
        & .block-view--fold { text-style: italic; color: $text-muted; }
        & .block-view--match { text-style: bold underline reverse; }
        & .block-view--cursor { text-style: reverse bold; }
    }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        f"block-view--{name}" for name in ("head", "first", "second", "quiet", "fold", "match", "cursor")
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "next(1)", "Next", show=False, id="blocks.next", tooltip="Next message, or further down"),
        Binding("up,k", "next(-1)", "Before", show=False, id="blocks.before", tooltip="Message before, or further up"),
        Binding("pagedown", "scroll(1)", "Page down", show=False, id="blocks.page_down", tooltip="Scroll down"),
        Binding("pageup", "scroll(-1)", "Page up", show=False, id="blocks.page_up", tooltip="Scroll up"),
        Binding("home", "edge(0)", "First", show=False, id="blocks.first", tooltip="First message"),
        Binding("end,G", "edge(1)", "Last", show=False, id="blocks.last", tooltip="Last message"),
        Binding("enter", "fold", "Fold", show=False, id="blocks.fold", tooltip="Unfold or fold a long message"),
        Binding("n", "match(1)", "Next match", show=False, id="blocks.match", tooltip="Next match of the filter"),
        Binding("N", "match(-1)", "Match before", show=False, id="blocks.match_before",
                tooltip="Match of the filter before"),
    ]  # fmt: skip

    @dataclass
    class CursorMoved(Message):
        """Another block is under the cursor."""

        view: BlockView
        block: int

    def __init__(self, *, empty: str = "", id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        """Show `empty` until there are blocks."""
        super().__init__(id=id)
        self.cursor = 0
        """Number of the block under the cursor."""
        self._empty = empty
        self._blocks: tuple[Block, ...] = ()
        self._needles: tuple[Needle, ...] = ()
        self._unfolded: set[int] = set()
        self._laid = _Laid()
        self._hit = -1
        """Line of the match gone to last."""
        self._found: dict[int, list[tuple[int, int]]] = {}
        """Where the needles are in the body of each block that was looked at."""

    def show(
        self, blocks: Iterable[Block], *, needles: Sequence[Needle] = (), keep_place: bool = False
    ) -> None:
        """Show `blocks`, occurrences of the `needles` marked; from the start unless `keep_place`."""
        before, self._blocks = self._blocks, tuple(blocks)
        self._needles = tuple(needles)
        self._found.clear()
        if keep_place and before is self._blocks:  # laid already: of a long conversation that takes a while
            self.refresh()
            return
        if not keep_place:
            self._unfolded.clear()
            self.cursor, self._hit = 0, -1
        self.cursor = min(self.cursor, max(0, len(self._blocks) - 1))
        self._lay()
        if not keep_place:
            self.scroll_to(0, 0, animate=False, force=True)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """What is shown."""
        return self._blocks

    # --- layout

    def on_resize(self, event: events.Resize) -> None:
        """Wrap again at the new width."""
        self._lay()

    def _lay(self) -> None:
        laid = _Laid()
        width = max(8, self.line_width - 3)
        for number, block in enumerate(self._blocks):
            laid.starts.append(len(laid.lines))
            laid.lines.append(_Line(number, block.head, "head"))
            body = _wrapped(block.body, width, None if number in self._unfolded else FOLD_ABOVE)
            hidden = 0
            if number not in self._unfolded and len(body) > FOLD_ABOVE:
                body = body[:_FOLDED_TO]
                hidden = len(block.body) + block.left_out - sum(map(len, body))
            at = 0
            for line in body:
                # What wrapping drops between two lines, a space or a line feed, is passed over.
                at = block.body.find(line, at)
                laid.lines.append(_Line(number, line, "body", at))
                at += len(line)
            if hidden:
                laid.lines.append(_Line(number, f"… {hidden:,} more characters: Enter unfolds", "fold"))
            elif more := block.left_out + max(0, len(block.body) - MOST_CHARACTERS):
                laid.lines.append(
                    _Line(number, f"… {more:,} more characters are not shown: e opens all", "fold")
                )
            laid.lines.append(_Line(number, "", "gap"))
        self._laid = laid
        self.set_lines(len(laid.lines))
        self.refresh()

    # --- painting

    def render_line(self, y: int) -> Strip:
        """Paint one line."""
        width, number = self.line_width, self.scroll_offset.y + y
        if number >= len(self._laid.lines):
            text = self._empty if not self._blocks and y == 1 else ""
            return Strip([Segment(fit("  " + text, width), self._style("fold"))], width)
        line = self._laid.lines[number]
        block = self._blocks[line.block]
        here = line.block == self.cursor and self.has_focus
        if line.kind == "head":
            style = self._style("cursor" if here else block.kind or "head")
            return Strip([Segment(fit(("▶ " if here else "  ") + line.text, width), style)], width)
        if line.kind == "gap":
            return Strip([Segment(" " * width, self.line_style())], width)
        if line.kind == "fold":
            return Strip([Segment(fit(block.gutter + " " + line.text, width), self._style("fold"))], width)
        return Strip(
            [
                Segment(block.gutter + " ", self._style("quiet")),
                *self._marked(line, width - 3),
            ],
            width,
        )

    def _style(self, name: str) -> Style:
        return self.line_style(f"block-view--{name}")

    def _matches(self, number: int) -> list[tuple[int, int]]:
        """Return [start, end) of all that the needles match in the body of a block."""
        if number not in self._found:
            block = self._blocks[number]
            body, (end, scope) = block.body[:MOST_CHARACTERS], block.tail or (len(block.body), "")
            self._found[number] = _spans(body[:end], block.scope, self._needles)
            later = _spans(body[end:], scope, self._needles)
            self._found[number] += [(start + end, stop + end) for start, stop in later]
        return self._found[number]

    def _marked(self, line: _Line, width: int) -> list[Segment]:
        """Return a line of a body in `width` cells, marked where it holds a match or its share of one."""
        plain, match = self.line_style(), self._style("match")
        text, end = line.text, line.start + len(line.text)
        segments, at = [], 0
        spans = self._matches(line.block)
        for first, last in spans[bisect_right(spans, line.start, key=_end_of) :]:
            if first >= end:
                break
            start, stop = max(0, first - line.start), min(len(text), last - line.start)
            segments += [Segment(text[at:start], plain), Segment(text[start:stop], match)]
            at = stop
        return [*segments, Segment(text[at:] + " " * (width - cell_len(text)), plain)]

    def _match_lines(self) -> list[int]:
        """Return the lines on which a match begins."""
        found = []
        for number, start in enumerate(self._laid.starts):
            lines = range(start + 1, self._extent(number)[1] + 1)
            bodies = [one for one in lines if self._laid.lines[one].kind == "body"]
            starts = [self._laid.lines[one].start for one in bodies]
            found += sorted({bodies[bisect_right(starts, first) - 1] for first, _ in self._matches(number)})
        return found

    # --- moving

    def action_next(self, step: int) -> None:
        """Go to the next block (or the one before); within a block taller than the view, scroll first."""
        if not self._blocks:
            return
        top, height = self.scroll_offset.y, self.size.height
        start, end = self._extent(self.cursor)
        if step > 0 and end > top + height and start <= top + height:
            self._scroll(min(end - height, top + max(1, height - 2)))
        elif step < 0 and start < top:
            self._scroll(max(start, top - max(1, height - 2)))
        else:
            self._go(self.cursor + step)

    def _extent(self, block: int) -> tuple[int, int]:
        starts = self._laid.starts
        end = starts[block + 1] if block + 1 < len(starts) else len(self._laid.lines)
        return starts[block], end - 1

    def _scroll(self, y: int) -> None:
        self.scroll_to(0, max(0, y), animate=False, force=True)

    def _go(self, block: int) -> None:
        block = max(0, min(len(self._blocks) - 1, block))
        if block != self.cursor:
            self.cursor = block
            self.post_message(self.CursorMoved(self, block))
        start, end = self._extent(block)
        top, height = self.scroll_offset.y, self.size.height
        if start < top or end - start >= height:
            self._scroll(start)
        elif end > top + height:
            self._scroll(end - height)
        self.refresh()

    def action_scroll(self, pages: int) -> None:
        """Scroll by pages; the cursor follows to the first block in sight."""
        self._scroll(self.scroll_offset.y + pages * max(1, self.size.height - 1))
        lines = self._laid.lines
        if lines:
            self.cursor = lines[min(self.scroll_offset.y, len(lines) - 1)].block
            self.refresh()

    def action_edge(self, last: int) -> None:
        """Go to the first block, or to the end of the last one."""
        if self._blocks:
            self._go(len(self._blocks) - 1 if last else 0)
        if last:
            self._scroll(len(self._laid.lines) - self.size.height)

    def action_fold(self) -> None:
        """Unfold the block under the cursor, or fold it again."""
        self._unfolded ^= {self.cursor}
        self._lay()

    def action_match(self, step: int) -> None:
        """Go to the next line that holds a needle, unfolding its block; what is beyond the last is up to `passed`."""
        self._unfolded |= {number for number in range(len(self._blocks)) if self._matches(number)}
        self._lay()
        hits = self._match_lines()
        begun = self._hit >= 0
        after = [hit for hit in hits if not begun or (hit > self._hit if step > 0 else hit < self._hit)]
        if not after and (self.passed(step) or not hits):
            return
        self._hit = chosen = (after[0] if step > 0 else after[-1]) if after else hits[0 if step > 0 else -1]
        self.cursor = self._laid.lines[chosen].block
        self._scroll(chosen - 2)
        self.refresh()

    def passed(self, step: int) -> bool:
        """Go on beyond the last match, or before the first, where there is more than is shown: here there is not."""
        return False

    def on_focus(self) -> None:
        """Show the cursor."""
        self.refresh()

    def on_blur(self) -> None:
        """Hide the cursor."""
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        """Move the cursor to the clicked block; a second click folds it."""
        number = self.scroll_offset.y + event.y
        if number < len(self._laid.lines):
            self.cursor = self._laid.lines[number].block
            if event.chain == 2:
                self.action_fold()
            self.refresh()


def _wrapped(text: str, width: int, most: int | None) -> list[str]:
    """Return `text` wrapped; with `most`, at least that many lines and one more when there are more."""
    text = text[:MOST_CHARACTERS]
    if most is not None:
        text = text[: (most + 2) * width]
    lines: list[str] = []
    for paragraph in text.split("\n"):
        for at in range(0, len(paragraph) or 1, _PIECE):
            lines += wrap(paragraph[at : at + _PIECE], width)
    return lines


def _end_of(span: tuple[int, int]) -> int:
    return span[1]


def _spans(text: str, scope: str, needles: Sequence[Needle]) -> list[tuple[int, int]]:
    """Return [start, end) of all needles of a scope, in order, none overlapping."""
    wanted = [one for one in needles if not one.scope or one.scope == scope]
    folded, places = _folded(text) if wanted else ("", None)
    found = [
        found.span()
        for one in wanted
        for found in one.pattern.finditer(folded)
        if found.end() > found.start()
    ]
    spans: list[tuple[int, int]] = []
    for start, end in sorted(found) if places is None else (_unfolded(one, places) for one in sorted(found)):
        if not spans or start >= spans[-1][1]:
            spans.append((start, end))
    return spans


def _unfolded(span: tuple[int, int], places: Sequence[int]) -> tuple[int, int]:
    """Return where a span of a folded text lies in the text itself; `places` holds the text's length at its end."""
    start, end = span
    while places[end] == places[end - 1]:
        end += 1
    return places[start], places[end]


def _folded(text: str) -> tuple[str, list[int] | None]:
    """Return `text` as queries compare it (case-folded, accents composed), and where each character came from.

    None where all are in the same places; the case of ASCII is left to the needles.
    """
    if text.isascii():
        return text, None
    pieces: list[str] = []
    places: list[int] = []
    for cluster in _CLUSTER.finditer(text):
        piece = cluster.group()
        if piece.isascii():
            places += range(*cluster.span())
        else:
            piece = unicodedata.normalize("NFC", piece.casefold())
            places += [cluster.start()] * len(piece)
        pieces.append(piece)
    return "".join(pieces), [*places, len(text)]
