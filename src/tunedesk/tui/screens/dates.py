"""The calendar of what ends when: providers that take no more jobs, models that shut down, and what that hits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from textual import on
from textual.widget import Widget
from textual.widgets import Static

from tunedesk.core.fine_tuning import base_model
from tunedesk.providers.limits import today
from tunedesk.tui.screens.dialogs import Dialog
from tunedesk.tui.widgets.plain import plain
from tunedesk.tui.widgets.virtual_list import Column, ListRow, VirtualList

if TYPE_CHECKING:
    from tunedesk.workbench import Workbench

_COLUMNS = (Column("when", "when", 11), Column("left", "", 13), Column("what", "what ends"))


@dataclass(frozen=True, slots=True)
class Ending:
    """Something that ends."""

    day: str
    """YYYY-MM-DD."""
    what: str
    mine: bool = False
    """Whether a model of the user's own is hit by it."""


def calendar(workbench: Workbench) -> list[Ending]:
    """Return what is known to end, by date."""
    mine: dict[str, list[str]] = {}
    used: set[str] = set()
    for known in workbench.store.jobs():
        used.add(known.profile)
        if known.job.fine_tuned_model:
            mine.setdefault(base_model(known.job.model), []).append(known.job.fine_tuned_model)
    endings = [
        Ending(one.date, f"{profile.label.split(' (')[0] or profile.name}: {one.words}", profile.name in used)
        for profile in workbench.profiles().values()
        for one in profile.closing
    ]
    for name, price in workbench.prices.items():
        if price.shutdown:
            models = mine.get(name, [])
            hit = f" · yours: {', '.join(models)}" if models else ""
            endings.append(
                Ending(price.shutdown, f"{name} and what is tuned from it shut down{hit}", bool(models))
            )
    return sorted(endings, key=lambda one: (one.day, one.what))


def left_text(day: str, today: date) -> str:
    """Return how far away a day is, in words."""
    try:
        days = (date.fromisoformat(day) - today).days
    except ValueError:
        return ""
    if days == 0:
        return "today"
    return f"{'in ' if days > 0 else ''}{abs(days)} day{'' if abs(days) == 1 else 's'}{'' if days > 0 else ' ago'}"


class DatesDialog(Dialog[None]):
    """All endings by date; ! marks those that hit the user's own models or providers."""

    def __init__(self, endings: Sequence[Ending]) -> None:
        """Show `endings`."""
        super().__init__("What ends when", "! touches your jobs · Esc closes")
        self._endings = tuple(endings)

    def compose_body(self) -> Iterable[Widget]:
        """Yield the list."""
        yield VirtualList(_COLUMNS, self._rows, empty="no date is known", id="dates")
        yield Static("", id="dates-whole", markup=False)

    @on(VirtualList.CursorMoved)
    def _moved(self, event: VirtualList.CursorMoved) -> None:
        """Tell the whole of what the line may cut."""
        if event.index is not None:
            self.query_one("#dates-whole", Static).update(plain(self._endings[event.index].what))

    def on_mount(self) -> None:
        """Begin at the first that is still to come."""
        listing = self.query_one(VirtualList)
        listing.show(range(len(self._endings)))
        day = today().isoformat()
        listing.go_to(next((n for n, one in enumerate(self._endings) if one.day >= day), 0))

    def _rows(self, indexes: Sequence[int]) -> list[ListRow]:
        day = today()
        return [
            ListRow(
                (one.day, left_text(one.day, day), ("! " if one.mine else "  ") + one.what),
                "bad" if one.mine and one.day >= day.isoformat() else "",
            )
            for one in (self._endings[index] for index in indexes)
        ]
