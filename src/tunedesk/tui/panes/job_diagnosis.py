"""What the curve of the followed job says, in plain words: what happened, the numbers that say so, what to do."""

from __future__ import annotations

from dataclasses import dataclass

from textual.message import Message
from textual.reactive import reactive

from tunedesk.core.diagnosis import Diagnosis
from tunedesk.tui.widgets.block_view import Block, BlockView
from tunedesk.tui.widgets.plain import plain

_SIGNS = {"healthy": "✓", "still_falling": "↘"}


class JobDiagnosis(BlockView):
    """One block a finding, the gravest first; Enter goes to where on the curve it is, on a spike to its rows."""

    BORDER_TITLE = "Diagnosis"

    found: reactive[tuple[Diagnosis, ...]] = reactive((), init=False)

    @dataclass
    class Chosen(Message):
        """Enter on a finding that has a place on the curve."""

        found: Diagnosis

    def __init__(self) -> None:
        """Show nothing yet."""
        super().__init__(empty="nothing can be told yet: a curve of six points is the least")

    def watch_found(self, old: tuple[Diagnosis, ...], new: tuple[Diagnosis, ...]) -> None:
        """Show what is found now; the cursor stays while the findings are of the same kinds."""
        if old != new:
            same = [one.code for one in old] == [one.code for one in new]
            self.show([diagnosis_block(one) for one in new], keep_place=same)

    def action_fold(self) -> None:
        """Tell which finding was chosen."""
        if self.cursor < len(self.found) and self.found[self.cursor].steps:
            self.post_message(self.Chosen(self.found[self.cursor]))


def diagnosis_block(one: Diagnosis) -> Block:
    """Return a finding as a block: what happened over the evidence and the advice."""
    advice = f"→ {one.advice}"
    if one.code == "spike":
        advice += "\n⏎ Enter opens them"
    sign = _SIGNS.get(one.code, "!")
    return Block(f"{sign} {plain(one.text).plain}", plain(f"{one.evidence}\n{advice}").plain, "first")
