"""The dialog that shows what an edit of many conversations would do, before it is made."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from tunedesk.core.editing.edits import MARKS
from tunedesk.tui.screens.dialogs import Dialog
from tunedesk.tui.widgets.plain import plain_line

if TYPE_CHECKING:
    from tunedesk.curation import EditPreview, RowChange

_BESIDE = 30
"""Characters shown on both sides of what differs in a long text."""
_LONGEST = 400


class EditDialog(Dialog[bool]):
    """Returns True when the edit is to be made."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "y,enter", "answer", "Apply", id="preview.apply", tooltip="Make the edit (one undo takes it back)"
        ),
    ]

    def __init__(self, title: str, preview: EditPreview, note: str = "") -> None:
        """Show the first changed rows of `preview`, and `note` above them."""
        super().__init__(title, "Enter apply · ↑ ↓ scroll · Esc cancel")
        self._preview, self._note = preview, note

    def compose_body(self) -> Iterable[Widget]:
        """Yield what will change."""
        told = self._preview
        words = [f"{told.rows:,} conversations"]
        words += [f"{told.excluded:,} more are left out"] if told.excluded else []
        words += [self._note] if self._note else []
        yield Static(plain_line(" · ".join(words), "bold"), id="preview-note")
        with VerticalScroll(id="preview-rows"):
            yield Static(Content("\n").join(_lines(told)), markup=False)

    def on_mount(self) -> None:
        """Let the arrows scroll."""
        self.query_one(VerticalScroll).focus()

    def action_answer(self) -> None:
        """Make the edit."""
        self.dismiss(True)


def _lines(told: EditPreview) -> Iterator[Content]:
    for sample in told.samples:
        yield plain_line(f"line {sample.line:,}", "bold underline")
        yield from _row_lines(sample) if told.edit.kind not in MARKS else [plain_line("  " + sample.preview)]
    left = told.rows - len(told.samples)
    if left > 0 and told.samples:
        yield plain_line(f"… and up to {left:,} more", "italic")
    if not told.samples:
        yield plain_line("the rows themselves stay as they are", "italic")


def _row_lines(sample: RowChange) -> Iterator[Content]:
    for change in sample.messages:
        was, now = _shortened(change.was, change.now)
        if change.was == change.now:
            for key, (before, after) in change.keys.items():
                yield plain_line(f"  {change.role}: {key} {_value(before)} → {_value(after)}")
            continue
        if change.was:
            yield Content.assemble(("- ", "$text-error"), plain_line(f"{change.role}: {was}", "$text-error"))
        if change.now:
            yield Content.assemble(
                ("+ ", "$text-success"), plain_line(f"{change.role}: {now}", "$text-success")
            )
    if not sample.messages:
        yield plain_line("  keys beside the messages change", "italic")


def _value(value: object) -> str:
    """Return what stands under a key of a message."""
    return "none" if value is None else _cut(json.dumps(value, ensure_ascii=False).strip('"'))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def _shortened(was: str, now: str) -> tuple[str, str]:
    """Return both texts without what they share far from where they differ."""
    if len(was) <= _LONGEST and len(now) <= _LONGEST:
        return was, now
    pairs = enumerate(zip(was, now, strict=False))
    start = max(0, next((at for at, (a, b) in pairs if a != b), min(len(was), len(now))) - _BESIDE)
    lead = "…" if start else ""
    return tuple(
        lead + text[start : start + _LONGEST] + ("…" if len(text) > start + _LONGEST else "")
        for text in (was, now)
    )  # type: ignore[return-value]
