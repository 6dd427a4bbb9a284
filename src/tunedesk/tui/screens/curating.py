"""Keys of the Data screen that look at all conversations: fixes, personal data, duplicates, coverage, findings."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tunedesk.core.known_rows import index_of, with_duplicates, with_findings, with_personal_data, with_topics
from tunedesk.tui.messages import FindingsFound
from tunedesk.tui.panes.conversation_list import ConversationList
from tunedesk.tui.panes.conversation_view import ConversationView
from tunedesk.tui.panes.filter_bar import FilterBar
from tunedesk.tui.panes.findings import FindingsPane
from tunedesk.tui.screens.choices import ChoicesScreen
from tunedesk.tui.screens.curation import conversations
from tunedesk.tui.screens.dialogs import Dialog
from tunedesk.tui.screens.duplicates import DuplicatesDialog
from tunedesk.tui.screens.edit_preview import EditDialog
from tunedesk.tui.widgets.plain import plain_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from textual.widget import Widget

    from tunedesk.core.checking.findings import Finding
    from tunedesk.core.editing.edits import Edit
    from tunedesk.core.grouping.coverage import Coverage
    from tunedesk.core.workspace import Workspace
    from tunedesk.tui.desk import OnProgress

_QUIETLY = 20_000
"""Rows up to which personal data is looked for unasked: some seconds; of more, a check or M tells."""
_QUIETLY_BYTES = 50_000_000
"""The size of the file up to which it is: one long message holds up every key while it is looked at."""
_REST_S = 1.0
"""Seconds without an edit before that."""
_UNNAMED = "(none)"
"""Instead of an intent, where conversations have none (coverage.NONE)."""
_ASKED_CODE = re.compile(r"(?<!\S)check:(\w+)")
Make = Callable[["Workspace", "OnProgress"], "Workspace"]


def _key(key: str, action: str, label: str, tooltip: str) -> Binding:
    return Binding(key, action, label, show=False, id=f"data.{action}", tooltip=tooltip)


class CuratingScreen(ChoicesScreen):
    """A screen whose edits of many rows are shown before they are made."""

    BINDINGS: ClassVar[list[BindingType]] = [
        _key("F", "fix_code", "Fix this", "Apply the safe fixes of the code under the cursor in Findings"),
        _key(
            "full_stop",
            "fix_one",
            "Fix one",
            "Apply the safe fix of the finding that n went to, or of this row's findings",
        ),
        _key("n", "finding(1)", "Next finding", "Go to the next finding"),
        _key("N", "finding(-1)", "Finding before", "Go to the finding before"),
        _key("M", "mask", "Mask", "Mask personal data in the selection, or in all conversations shown"),
        _key("D", "duplicates", "Duplicates", "Show what says the same, and keep one of each"),
        _key("C", "coverage", "Coverage", "Show which intents are covered, and which are thin"),
    ]

    def __init__(self) -> None:
        """Begin before the first finding."""
        super().__init__()
        self._at_finding = -1
        self._rows_of_findings: tuple[object, list[int]] = (None, [])
        """The row of each finding (-1 of the file as a whole), for the findings it was made of."""
        self.wanted_message: int | None = None
        """The message to go to once its row is shown."""

    # --- an edit shown before it is made

    async def ask_and_edit(
        self,
        title: str,
        edit: Edit,
        label: str,
        *,
        make: Make | None = None,
        note: str = "",
        first: int | None = None,
    ) -> bool:
        """Show what `edit` would do; when it is confirmed make it (by `make` if given). Returns whether it was."""
        bench, workspace = self.workbench, self.workspace
        assert workspace is not None
        shown = await self.desk.in_thread(
            lambda on_progress: bench.curation.preview(workspace, edit, first, on_progress),
            name="looking ahead",
        )
        if not await self.app.push_screen_wait(EditDialog(title, shown, note)):
            self.say("nothing was changed")
            return False
        self.desk.edit(label, make or (lambda latest, _: bench.edit(latest, edit)))
        return True

    # --- fixes

    def action_fix(self) -> None:
        """Show what all safe fixes would do, then apply them and check again."""
        self._fix(self.findings or (), "all safe fixes")

    def action_fix_code(self) -> None:
        """Show what the safe fixes of one code would do, then apply them and check again."""
        code = self.query_one(FindingsPane).code
        self._fix([one for one in self.findings or () if one.code == code], code)

    def _fix(self, findings: Sequence[Finding], what: str) -> None:
        wanted = [one for one in findings if one.fix is not None]

        async def fixing() -> None:
            bench, workspace = self.workbench, self.workspace
            assert workspace is not None
            edit = await self.desk.in_thread(
                lambda _: bench.curation.fixing(workspace, wanted), name="looking ahead"
            )
            if await self.ask_and_edit(f"Fix {what}", edit, f"fixed {len(wanted):,} findings"):
                self.desk.change("", self.checked_again)

        self.desk.work(fixing(), name="fixing", group="ask", exclusive=True)

    def action_fix_one(self) -> None:
        """Show what the safe fix of one finding would do, then apply it and check again."""
        wanted = [one for one in self._findings_here() if one.fix is not None]
        if not wanted:
            self.say("no finding here has a safe fix: n goes to the next finding")
            return
        what = wanted[0].code if len(wanted) == 1 else "the findings of this conversation"
        self._fix(wanted, what)

    def _findings_here(self) -> list[Finding]:
        """Return the finding that was gone to when its row is still under the cursor, else all of the row."""
        findings, rows = self.findings or (), self._finding_rows()
        index = self.query_one(ConversationList).index
        if index is None:
            return []
        at = self._at_finding
        if 0 <= at < len(findings) and rows[at] == index:
            return [findings[at]]
        return [one for one, row in zip(findings, rows, strict=True) if row == index]

    def _finding_rows(self) -> list[int]:
        """Return the row of each finding, worked out once for a check."""
        workspace, findings = self.workspace, self.findings or ()
        if workspace is None:
            return []
        if self._rows_of_findings[0] is not findings:
            rows = [index_of(workspace, one.line) if one.line else -1 for one in findings]
            self._rows_of_findings = (findings, rows)
        return self._rows_of_findings[1]

    def checked_again(self, workspace: Workspace, on_progress: Any) -> Workspace:
        """Return the workspace with the findings it has now."""
        bench = self.workbench
        found = bench.check(workspace, self.desk.model, on_progress, bench.profile(self.desk.profile))
        self.post_message(FindingsFound(tuple(found)))
        return with_findings(workspace, found)

    def action_finding(self, step: int) -> None:
        """Go to another finding: its row in the list, its message in the conversation.

        Where the filter asks for findings of a code, only these are walked.
        """
        workspace, listing = self.workspace, self.query_one(ConversationList)
        assert workspace is not None
        findings = self.findings or ()
        codes = set(_ASKED_CODE.findall(workspace.query.text))
        shown = None if workspace.matched == workspace.total else workspace.found.as_set
        places = [
            place
            for place, row in enumerate(self._finding_rows())
            if row >= 0 and (shown is None or row in shown) and (not codes or findings[place].code in codes)
        ]
        if not places:
            self.say("no finding among the conversations shown")
            return
        after = [one for one in places if (one > self._at_finding if step > 0 else one < self._at_finding)]
        self._at_finding = (after or places)[0 if step > 0 else -1]
        index, finding = self._finding_rows()[self._at_finding], findings[self._at_finding]
        self.wanted_message = finding.message
        if listing.index == index:
            self.go_to_wanted_message()
        else:
            listing.go_to(index)
        fix = " (. fixes it)" if finding.fix is not None else ""
        number = places.index(self._at_finding) + 1
        self.say(f"{number:,} of {len(places):,}: {finding.code}: {finding.text}{fix}")

    def go_to_wanted_message(self) -> None:
        """Put the cursor on the message that a finding is about, when its row is shown."""
        if self.wanted_message is not None:
            self.query_one(ConversationView).go_to_message(self.wanted_message)
            self.wanted_message = None

    # --- personal data

    def look_for_personal_data(self, workspace: Workspace) -> None:
        """Find which rows hold personal data, for `has:pii`, once no edit has come for a while."""
        few = workspace.total <= _QUIETLY and workspace.dataset.size <= _QUIETLY_BYTES
        if few and self.desk.workbench is not None:
            self.desk.work(self._looking(workspace), name="personal data", group="pii", exclusive=True)

    async def _looking(self, workspace: Workspace) -> None:
        await asyncio.sleep(_REST_S)
        bench = self.workbench
        rows = await self.desk.in_thread(
            lambda on_progress: bench.curation.rows_with_personal_data(workspace, on_progress),
            name="personal data",
        )
        self.desk.change("", lambda latest, _: with_personal_data(latest, workspace, rows))

    def action_mask(self) -> None:
        """Show what masking would do to the selection, or to all that the filter matched, then do it."""
        bench, workspace = self.workbench, self.workspace
        assert workspace is not None
        listing = self.query_one(ConversationList)
        selected, at = listing.selected, listing.index

        def masked(on_progress: OnProgress) -> Edit:
            rows = selected or workspace.overlay.included_of(workspace.found.as_set)
            return bench.curation.masking(workspace, rows, on_progress)

        async def masking() -> None:
            edit = await self.desk.in_thread(
                masked,
                name="looking for personal data",
            )
            await self.ask_and_edit(
                "Mask personal data", edit, "masked; what stands for what is kept on this machine alone",
                make=lambda latest, on_progress: bench.curation.mask(latest, edit, on_progress), first=at,
            )  # fmt: skip

        self.desk.work(masking(), name="masking", group="ask", exclusive=True)

    # --- duplicates

    def action_duplicates(self) -> None:
        """Find what says the same, show it in groups, and exclude all but one of each."""
        bench, workspace = self.workbench, self.workspace
        assert workspace is not None

        async def looking() -> None:
            groups = await self.desk.in_thread(
                lambda on_progress: bench.curation.twins(workspace, on_progress),
                name="looking for duplicates",
            )
            self.desk.change("", lambda latest, _: with_duplicates(latest, (one.rows for one in groups)))
            if not groups:
                self.say("no two conversations say the same")
                return
            rows = await self.app.push_screen_wait(
                DuplicatesDialog(
                    workspace, groups, lambda group, rule: bench.curation.kept(workspace, group, rule)
                )
            )
            if rows:
                label = f"excluded {conversations(len(rows))} that say what others say"
                self.desk.edit(label, lambda latest, _: bench.exclude(latest, rows))

        self.desk.work(looking(), name="looking for duplicates", group="ask", exclusive=True)

    # --- coverage

    def action_coverage(self) -> None:
        """Show which intents the included conversations cover."""
        bench, workspace = self.workbench, self.workspace
        assert workspace is not None

        async def looking() -> None:
            found = await self.desk.in_thread(
                lambda on_progress: bench.curation.coverage(workspace, on_progress),
                name="looking at the intents",
            )
            if found.topics:
                self.desk.change("", lambda latest, _: with_topics(latest, found.topics))
            name = await self.app.push_screen_wait(CoverageDialog(found))
            if name is not None:
                self.query_one(FilterBar).set_text(bench.term("about" if found.topics else found.by, name))
                self.query_one(ConversationList).focus()

        self.desk.work(looking(), name="coverage", group="ask", exclusive=True)

    def why_not(self, action: str) -> str:
        """Return why an action cannot be done now."""
        if action in ("fix", "fix_code", "fix_one", "finding") and self.workspace is not None:
            if self.findings is None:
                matches = action == "finding" and self.workspace.marks
                return "not checked yet: press c first" + (" (for matches: Enter, then n)" if matches else "")
            code = self.query_one(FindingsPane).code
            wanted = [one for one in self.findings if action != "fix_code" or one.code == code]
            if action != "finding" and not any(one.fix is not None for one in wanted):
                return (
                    f"{code} has no safe fix"
                    if action == "fix_code" and code
                    else "no finding has a safe fix"
                )
            if action == "finding" and not self.findings:
                return "no findings: ready to train"
        return super().why_not(action)


class CoverageDialog(Dialog[str]):
    """Intents with their share; thin ones are named. Returns the one whose conversations are to be shown."""

    def __init__(self, coverage: Coverage) -> None:
        """Show `coverage`."""
        super().__init__(
            f"Coverage by {coverage.by}", "↑ ↓ choose · Enter show its conversations · Esc close"
        )
        self._coverage = coverage

    def compose_body(self) -> Iterable[Widget]:
        """Yield the shares and the intents."""
        told = self._coverage
        yield Static(
            plain_line(
                f"{told.conversations:,} conversations · {len(told.intents):,} intents, {len(told.thin):,} thin · "
                f"{told.refusals:.1%} refuse · {told.hand_offs:.1%} hand off", "bold",
            )
        )  # fmt: skip
        most = max((one.share for one in told.intents), default=1)
        lines = [
            plain_line(
                f"{one.share:6.1%} {one.conversations:7,} {'█' * max(1, round(16 * one.share / most)):<16} "
                f"{'thin  ' if one.thin else '      '}{one.name}"
            )
            for one in told.intents
        ]
        # Conversations without an intent cannot be asked for by its name.
        listed = zip(told.intents, lines, strict=True)
        yield OptionList(*(Option(line, disabled=one.name == _UNNAMED) for one, line in listed), markup=False)

    def on_mount(self) -> None:
        """Let the arrows choose."""
        self.query_one(OptionList).focus()

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._coverage.intents[event.option_index].name)
