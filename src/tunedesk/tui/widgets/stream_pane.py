"""A pane of wrapped lines that text streams into: cheap to feed, follows the end, pauses when scrolled up.

Text arrives in pieces of any size and is painted at most `FLUSHES` times a second. What is shown is plain text,
never markup; control characters are made visible at the door.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.timer import Timer

from tunedesk.terminal import visible
from tunedesk.tui.widgets.wrapping import wrap

FLUSHES = 15
"""Most repaints a second."""


@dataclass(slots=True)
class _Block:
    """Text of one kind, wrapped on its own."""

    kind: str
    text: str
    first_line: int
    """Index of its first wrapped line in the pane."""


class StreamPane(ScrollView, can_focus=True):
    """Blocks of text, one below the other, the last of which may still grow.

    `kind` of a block picks its component class: "", "head", "quiet", "bad" or "good".
    """

    DEFAULT_CSS = """
    StreamPane {
        height: 1fr; scrollbar-size-vertical: 1; overflow-x: hidden; overflow-y: scroll;
        & .stream-pane--head { text-style: bold; color: $text-primary; }
        & .stream-pane--quiet { color: $text-muted; }
        & .stream-pane--bad { color: $text-error; text-style: bold; }
        & .stream-pane--good { color: $text-success; text-style: bold; }
        & .stream-pane--notice { background: $warning; color: $background; text-style: bold; }
    }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "stream-pane--head",
        "stream-pane--quiet",
        "stream-pane--bad",
        "stream-pane--good",
        "stream-pane--notice",
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "f", "follow", "Follow", id="stream.follow", tooltip="Follow the end again, or stop following"
        ),
    ]

    following: reactive[bool] = reactive(True, repaint=False, init=False)
    """Whether the end stays in sight as text comes; scrolling up ends it, scrolling to the end begins it again."""

    @dataclass
    class FollowChanged(Message):
        """The pane began to follow its end, or stopped."""

        pane: StreamPane
        following: bool

        @property
        def control(self) -> StreamPane:
            """The pane it came from."""
            return self.pane

    def __init__(self, *, jumps: bool = False, tails: bool = True) -> None:
        """Make an empty pane.

        With `jumps` it follows by half pages, which repaints far less while text streams. Without `tails` it shows
        a text from its beginning and never follows.
        """
        super().__init__()
        self._jumps = jumps
        self._tails = tails
        if not tails:
            self.set_reactive(StreamPane.following, False)
        self._blocks: list[_Block] = []
        self._lines: list[tuple[str, str]] = []
        """Wrapped lines with their kind."""
        self._wrapped_at = 0
        self._painted = 0
        """Number of lines at the last flush."""
        self._dirty_from: int | None = None
        """First line that changed since the last flush, None when nothing did."""
        self._timer: Timer | None = None
        self._unseen = 0

    # -- feeding

    @property
    def text(self) -> str:
        """Everything in the pane, blocks joined by newlines, as it is shown."""
        return "\n".join(block.text for block in self._blocks)

    @property
    def unseen(self) -> int:
        """Lines that came since following was paused."""
        return self._unseen

    def add(self, text: str = "", kind: str = "") -> None:
        """Begin a new block below the others."""
        self._blocks.append(_Block(kind, "", len(self._lines)))
        self._lines.append(("", kind))
        self._touch(len(self._lines) - 1)
        self.feed(text)

    def feed(self, text: str) -> None:
        """Add text to the last block; only its last line is wrapped again."""
        if not text:
            return
        if not self._blocks:
            self.add()
        block = self._blocks[-1]
        shown = visible(text.replace("\r\n", "\n").replace("\t", "    "))
        block.text += shown
        last, _ = self._lines.pop()
        self._touch(len(self._lines))
        self._lines.extend((line, block.kind) for line in wrap(last + shown, self._width))

    def replace_last(self, text: str, kind: str = "") -> None:
        """Put another text in place of the last block."""
        if self._blocks:
            del self._lines[self._blocks.pop().first_line :]
            self._touch(len(self._lines))
        self.add(text, kind)

    def clear(self) -> None:
        """Forget everything and follow again."""
        self._blocks.clear()
        self._lines.clear()
        self._unseen = 0
        self._painted = 0
        if self._tails:
            self.following = True
        else:
            self._go(0)
        self._touch(0)

    @property
    def _room(self) -> int:
        """Cells between the borders, without the scrollbar."""
        return self.scrollable_content_region.width

    @property
    def _width(self) -> int:
        return max(10, self._wrapped_at or self._room)

    def _touch(self, line: int) -> None:
        self._dirty_from = line if self._dirty_from is None else min(self._dirty_from, line)
        if self._timer is None and self.is_attached:
            self._timer = self.set_timer(1 / FLUSHES, self._flush)

    # -- painting

    def _flush(self) -> None:
        self._timer = None
        if self._dirty_from is None or not self.size.height:
            return
        dirty, self._dirty_from = self._dirty_from, None
        count, height, width = len(self._lines), self.size.height, self._room
        grown, self._painted = max(0, count - self._painted), count
        top = self.scroll_offset.y
        if not self.following:
            self._unseen += grown
            self.virtual_size = Size(width, max(count, top + height) if self._tails else count)
            self.refresh()
        elif count - top > height or top > count:
            top = max(0, count - height + (height // 2 if self._jumps else 0))
            self.virtual_size = Size(width, top + height)
            self._go(top)
            self.refresh()
        else:
            self.virtual_size = Size(width, top + height)
            self.refresh(Region(0, max(0, dirty - top), width, height))

    def _go(self, top: int) -> None:
        self._going = True
        self.scroll_to(0, top, animate=False, force=True, immediate=True)
        self._going = False

    _going = False

    def on_resize(self, event: events.Resize) -> None:
        """Wrap everything to the new width."""
        width = max(10, self._room)
        if width != self._wrapped_at:
            self._wrapped_at = width
            self._lines.clear()
            for block in self._blocks:
                block.first_line = len(self._lines)
                self._lines.extend((line, block.kind) for line in wrap(block.text, width))
            self._painted = min(self._painted, len(self._lines))
        self._touch(0)

    def render_line(self, y: int) -> Strip:
        """Return one line of the pane; while following is paused, the lowest says so."""
        width = self._room
        if self._tails and not self.following and y == self.size.height - 1:
            more = f"{self._unseen} new · " if self._unseen else ""
            notice = f" paused · {more}f follows again "
            return Strip([Segment(notice[:width].ljust(width), self._kind_style("notice"))], width)
        index = y + self.scroll_offset.y
        if index >= len(self._lines):
            return Strip.blank(width, self.rich_style)
        line, kind = self._lines[index]
        style = self._kind_style(kind) if kind else self.rich_style
        return Strip([Segment(line, style)], cell_len(line)).adjust_cell_length(width, self.rich_style)

    def _kind_style(self, kind: str) -> Style:
        return self.get_component_rich_style(f"stream-pane--{kind}")

    # -- following

    def action_follow(self) -> None:
        """Follow the end, or stop following."""
        self.following = self._tails and not self.following

    def rest_at(self, top: int) -> None:
        """Stop following, with the line `top` as the first that is shown."""
        if self._tails:
            self.following = False
            self.virtual_size = Size(self._room, max(len(self._lines), top + self.size.height))
            self._go(top)

    def watch_following(self, following: bool) -> None:
        """Catch up with the end, or stay where the reader is."""
        if not self.is_attached:
            return
        self._unseen = 0
        if following:
            self._go(max(0, len(self._lines) - self.size.height))
        self._touch(0)
        self.refresh()
        self.post_message(self.FollowChanged(self, following))

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Pause when the reader scrolls up, follow again when the end is reached."""
        super().watch_scroll_y(old_value, new_value)
        if self._going or not self._tails:
            return
        end = max(0, len(self._lines) - self.size.height)
        if new_value < old_value and new_value < end:
            self.following = False
        elif new_value > old_value and round(new_value) >= end:
            self.following = True
