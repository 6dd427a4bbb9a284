"""The split dialog: how much is held back for validation, and what stays together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from textual import on
from textual.widget import Widget
from textual.widgets import Input, Static

from tunedesk.tui.screens.dialogs import Dialog
from tunedesk.tui.widgets.plain import plain_line
from tunedesk.tui.widgets.text_fields import TextField


@dataclass(frozen=True, slots=True)
class SplitRequest:
    """What to split by."""

    validation: float
    """Share of the conversations held back, between 0 and 1."""
    seed: int
    by: str | None
    """A metadata key whose values get the same share on both sides."""


class SplitDialog(Dialog[SplitRequest]):
    """Returns what to split by; near-duplicates always stay on one side."""

    def __init__(self, conversations: int, fields: Iterable[str], *, seed: int = 42) -> None:
        """Offer a split of `conversations`, which can be balanced by one of the metadata `fields`."""
        super().__init__(
            "Split into training and validation", "Tab next · Enter write the files · Esc cancel"
        )
        self._conversations = conversations
        self._fields = tuple(fields)
        self._seed = seed

    def compose_body(self) -> Iterable[Widget]:
        """Yield the three fields."""
        yield Static("validation share, in percent", classes="label", markup=False)
        yield TextField("20", id="split-share", type="number", select_on_focus=False)
        yield Static("seed: the same seed gives the same split", classes="label", markup=False)
        yield TextField(str(self._seed), id="split-seed", type="integer", select_on_focus=False)
        names = ", ".join(self._fields[:8])
        hint = f"balance by a key ({names}), or leave empty" if names else "balance by a key, or leave empty"
        yield Static(plain_line(hint), classes="label", markup=False)
        yield TextField("", id="split-by", select_on_focus=False)
        yield Static("", id="split-note", markup=False, classes="note")

    def on_mount(self) -> None:
        """Say what the first values give."""
        self._check()

    @on(Input.Changed)
    def _changed(self) -> None:
        self._check()

    def _value(self, name: str) -> str:
        return self.query_one(f"#split-{name}", Input).value.strip()

    def _check(self) -> SplitRequest | None:
        note = self.query_one("#split-note", Static)
        try:
            share, seed = float(self._value("share")) / 100, int(self._value("seed"))
        except ValueError:
            note.update("✗ share and seed are numbers")
            return None
        by = self._value("by") or None
        if not 0 < share < 1:
            note.update("✗ the share is between 0 and 100 percent")
            return None
        if by is not None and self._fields and by not in self._fields:
            note.update(plain_line(f"✗ no metadata key {by!r}"))
            return None
        held = round(self._conversations * share)
        note.update(
            f"about {self._conversations - held:,} to train on, {held:,} held back;"
            " near-duplicates stay on one side"
        )
        return SplitRequest(share, seed, by)

    @on(Input.Submitted)
    def _submitted(self) -> None:
        request = self._check()
        if request is not None:
            self.dismiss(request)
