"""A scrolling view whose content grows and shrinks without the whole screen being laid out again."""

from __future__ import annotations

from rich.style import Style
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.scrollbar import ScrollBar

from tunedesk.tui.widgets.line_scrollbar import LineScrollBar


class Scrolled(ScrollView):
    """A view of lines, drawn by `render_line`, with a vertical scrollbar that is always there."""

    DEFAULT_CSS = """
    Scrolled { height: 1fr; overflow-x: hidden; overflow-y: scroll; scrollbar-size-vertical: 1; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        """Know no style yet."""
        super().__init__(id=id)
        self._line_styles: dict[str, Style] = {}

    @property
    def vertical_scrollbar(self) -> ScrollBar:
        """The scrollbar, made when it is first asked for."""
        if self._vertical_scrollbar is None:
            bar = LineScrollBar(vertical=True, name="vertical", thickness=self.scrollbar_size_vertical)
            bar.display = False
            self._vertical_scrollbar = bar
            self.app._start_widget(self, bar)
        return self._vertical_scrollbar

    def notify_style_update(self) -> None:
        """Forget the styles of lines when a rule, a class or the focus changed."""
        super().notify_style_update()
        self._line_styles.clear()

    def line_style(self, name: str = "") -> Style:
        """Return the style of a component class over the view's own, worked out once: Textual does it for each call."""
        style = self._line_styles.get(name)
        if style is None:
            style = self.rich_style
            if name:
                style += self.get_component_rich_style(name, partial=True)
            self._line_styles[name] = style
        return style

    @property
    def line_width(self) -> int:
        """Cells between the borders, without the scrollbar."""
        return self.scrollable_content_region.width

    def set_lines(self, count: int) -> None:
        """Have `count` lines to scroll through.

        Setting `virtual_size` itself asks for a layout of the screen, which paints every cell of it; where the height
        follows the content (`height: auto`) that is what is wanted.
        """
        size = Size(self.line_width, count)
        if size == self.virtual_size:
            return
        if self.styles.is_auto_height:
            self.virtual_size = size
            return
        self.set_reactive(ScrollView.virtual_size, size)
        self._scroll_update(size)
