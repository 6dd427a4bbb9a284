"""Paint only what changed: the widgets and lines under dirty regions, and of these what is not covered.

Textual renders every widget whose lines are dirty, also those beside and beneath, and cuts all their lines to pieces.
`DirtyCompositor` asks a widget only for lines that the terminal is about to be sent: half the time of a page of a
table. It overrides `Compositor.render_partial_update`, which is private to Textual, under the rule of cell_diff.py:
on any version but the one it was compared with, Textual paints by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from textual import _compositor
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget


class DirtyCompositor(_compositor.Compositor):
    """A compositor whose partial updates hold what is dirty and nothing else."""

    def render_partial_update(self) -> _compositor.ChopsUpdate | None:
        """Return what the dirty regions show, None where there are none."""
        screen = self.size.region
        regions = [region.intersection(screen) for region in self._dirty_regions]
        self._dirty_regions.clear()
        spans = list(self._regions_to_spans(region for region in regions if region))
        if not spans:
            return None
        cuts = self.cuts
        canvas = _Canvas(cuts, spans)
        for widget, (region, clip) in self.visible_widgets.items():
            canvas.paint(widget, region, region.intersection(clip))
            if canvas.done:
                break
        return _compositor.ChopsUpdate(canvas.chops, spans, [line[1:] for line in cuts])


class _Canvas:
    """The dirty lines, cut where widgets begin and end; what is painted first is in front."""

    def __init__(self, cuts: list[list[int]], spans: Iterable[tuple[int, int, int]]) -> None:
        self._cuts = cuts
        self.chops: list[dict[int, Strip | None]] = [{} for _ in cuts]
        """For each line of the screen, its pieces by the column they begin in; lines that are not dirty have none."""
        self._bare: dict[int, set[int]] = {}
        """For each dirty line, where pieces begin that are not painted yet."""
        for y, left, right in spans:
            if not self.chops[y]:
                self.chops[y] = dict.fromkeys(cuts[y][:-1])
            wanted = (start for start, end in pairwise(cuts[y]) if start < right and end > left)
            self._bare.setdefault(y, set()).update(wanted)
        self._area = Region(0, min(self._bare), cuts[0][-1], max(self._bare) - min(self._bare) + 1)

    @property
    def done(self) -> bool:
        """Whether nothing bare is left."""
        return not self._bare

    def paint(self, widget: Widget, region: Region, seen: Region) -> None:
        """Paint what is bare with the part of a widget that is seen, asking it only for the lines concerned."""
        if not seen.overlaps(self._area):
            return
        left, right = seen.column_span
        concerned = {}
        for y in seen.line_range:
            starts = self._bare.get(y)
            if starts and (mine := [start for start in starts if left <= start < right]):
                concerned[y] = mine
        if not concerned:
            return
        first, last = min(concerned), max(concerned)
        strips = widget.render_lines(Region(left - region.x, first - region.y, seen.width, last - first + 1))
        for y, mine in concerned.items():
            edges = [cut for cut in self._cuts[y] if left <= cut <= right]
            pieces = strips[y - first].divide([cut - left for cut in edges[1:]])
            whole = dict(zip(edges, pieces, strict=False))
            line, bare = self.chops[y], self._bare[y]
            for start in mine:
                if start in whole:
                    line[start] = whole[start]
                    bare.discard(start)
            if not bare:
                del self._bare[y]
