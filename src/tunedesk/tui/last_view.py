"""What was shown, kept as it changes, so that the next start after any end of this one shows it again."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tunedesk.errors import StoreError
from tunedesk.paths import Paths, write_whole

if TYPE_CHECKING:
    from tunedesk.tui.desk import Desk

_NAMES = ("dataset", "query", "profile", "model", "mode")
_EVERY = 0.5
"""Seconds between two looks at what is shown: the most that a kill may lose."""


@dataclass(frozen=True, slots=True)
class LastView:
    """The dataset, the filter, who trains what, and the screens."""

    dataset: str
    """Id of the dataset."""
    query: str = ""
    profile: str = ""
    model: str = ""
    mode: str = "data"
    screens: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What each screen shows, by its mode, in its own words."""


def read_last_view(paths: Paths) -> LastView | None:
    """Return what was shown last; None at the first start, or when the note is not one of ours."""
    try:
        values = json.loads(paths.last_view.read_text(encoding="utf-8"))
        screens = values.get("screens", {})
        known = {mode: state for mode, state in screens.items() if isinstance(state, dict)}
        view = LastView(**{name: str(values[name]) for name in _NAMES}, screens=known)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return view


def view_of_start(last: LastView | None, dataset: str, name: str, page: Mapping[str, Any]) -> LastView | None:
    """Return what to show while `dataset` (its id) is being opened by its name: the rows of its first `page`.

    What was shown last where that was this dataset, or where nothing is known of its rows.
    """
    rows = page.get("rows")
    if not rows or (last is not None and last.screens.get("data", {}).get("dataset") == dataset):
        return last
    texts = [
        {
            "line": f"{one['line']:,}", "marks": "  ⚙" if one["tools"] else "", "turns": str(one["turns"]),
            "intent": one["intent"], "tags": " ".join(one["tags"]), "preview": one["preview"],
        }
        for one in rows
    ]  # fmt: skip
    words = [
        f"Conversation, line {texts[0]['line']}",
        texts[0]["intent"],
        *map("#{}".format, rows[0]["tags"]),
    ]
    state = {
        "dataset": dataset, "name": name, "row": 0, "sort": None, "top": 0, "rows": texts,
        "conversation": page.get("conversation"), "title": " · ".join(filter(None, words)),
    }  # fmt: skip
    return replace(
        last or LastView(dataset), mode="data", screens={**(last.screens if last else {}), "data": state}
    )


def keep_last_view(paths: Paths, view: LastView) -> None:
    """Note what is shown; a full disk costs no more than the note."""
    with contextlib.suppress(StoreError):
        write_whole(paths.last_view, json.dumps(asdict(view)))


class ViewKeeper:
    """Notes what an app shows while it runs: a process that is killed says nothing any more."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._kept: LastView | None = None
        self.screens: dict[str, dict[str, Any]] = {}
        """What each screen showed last, by its mode."""

    def take(self, mode: str, state: dict[str, Any]) -> None:
        """Note what a screen shows."""
        if mode and state:
            self.screens[mode] = state

    def now(self) -> LastView | None:
        """Return what is shown, None before a dataset is open."""
        desk = self._desk
        shown = desk.latest
        if desk.workbench is None or shown is None:
            return None
        for screen in desk.screen_stack:
            self.take(getattr(screen, "MODE", ""), getattr(screen, "view_state", dict)())
        return LastView(
            shown.dataset.id,
            shown.query.text,
            desk.profile,
            desk.model,
            str(desk.current_mode),
            dict(self.screens),
        )

    async def keep(self) -> None:
        """Write the note whenever it has changed, until cancelled."""
        while True:
            await asyncio.sleep(_EVERY)
            view, workbench = self.now(), self._desk.workbench
            if view is not None and view != self._kept and workbench is not None:
                await asyncio.to_thread(keep_last_view, workbench.paths, view)
                self._kept = view

    def keep_now(self) -> None:
        """Write the note at once."""
        view, workbench = self.now(), self._desk.workbench
        if view is not None and workbench is not None:
            keep_last_view(workbench.paths, view)
