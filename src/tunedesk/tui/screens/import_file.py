"""The import dialog: a path with completion, what the file would become, and how else it could be read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.suggester import Suggester
from textual.widget import Widget
from textual.widgets import Input, Static

from tunedesk.core.conversations import Row, content_text
from tunedesk.core.importing import SUFFIXES
from tunedesk.tui.panes.conversation_view import messages_of
from tunedesk.tui.screens.dialogs import ChooseDialog, Dialog, TextDialog
from tunedesk.tui.widgets.plain import plain_line

if TYPE_CHECKING:
    from tunedesk.core.importing.looking import Look
    from tunedesk.tui.desk import Desk

_MOST_LISTED = 8
_PREVIEWED = 5
_TYPING = "Tab complete · Enter import · ↓ look closer · Esc cancel"
_CHOOSING = "Enter import · f format · m columns · s system · p path · Esc cancel"
_NONE = "\0none"
"""Key of the choice to use no column."""
_MEANT = {
    "user": "the customer's side", "assistant": "the agent's side", "system": "the system prompt",
    "conversation": "the conversation's id", "speaker": "who speaks", "text": "what is said", "order": "the order",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What to import, and how it is to be read."""

    path: Path
    format_name: str = ""
    """Empty: told by the content."""
    mapping: Mapping[str, str] = field(default_factory=dict)
    system: str = ""


def matching_paths(typed: str, *, most: int = 200) -> list[str]:
    """Return folders and importable files that complete `typed`, as it would be written, folders with a /."""
    folder_text, slash, start = typed.rpartition("/")
    folder = Path(folder_text + slash or ".").expanduser()
    found: list[str] = []
    try:
        for path in folder.iterdir():
            hidden = path.name.startswith(".") and not start.startswith(".")
            if path.name.startswith(start) and not hidden:
                if path.is_dir():
                    found.append(folder_text + slash + path.name + "/")
                elif path.suffix.lower() in SUFFIXES:
                    found.append(folder_text + slash + path.name)
            if len(found) >= most:
                break
    except OSError:
        return []
    return sorted(found)


class PathSuggester(Suggester):
    """Completes the path that is typed by the first file or folder that fits."""

    def __init__(self) -> None:
        """Ask the disk each time: files come and go."""
        super().__init__(use_cache=False, case_sensitive=True)

    async def get_suggestion(self, value: str) -> str | None:
        """Return the first completion, None when there is none."""
        found = matching_paths(value)
        return found[0] if value and found and found[0] != value else None


class ImportDialog(Dialog[ImportRequest]):
    """Returns what to import, once it is clear how: a guess is shown and asked about, never made silently."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "complete", "Complete", priority=True, id="import.complete", tooltip="Complete the path"),
        Binding("down", "look_closer", "Look closer", id="import.look", tooltip="Go to the preview, to change it"),
        Binding("enter", "accept", "Import", id="import.accept", tooltip="Import the file as the preview shows it"),
        Binding("f", "format", "Format", id="import.format", tooltip="Choose the format"),
        Binding("m", "columns", "Columns", id="import.columns", tooltip="Choose which column means what"),
        Binding("s", "system", "System", id="import.system", tooltip="Give a system prompt to those without"),
        Binding("p", "path", "Path", id="import.path", tooltip="Back to the path"),
    ]  # fmt: skip

    def __init__(self, start: str = "") -> None:
        """Begin with the path `start`."""
        super().__init__("Import conversations", _TYPING)
        self._start = start
        self._request = ImportRequest(Path())
        self._look: Look | None = None
        self._wanted = False
        """Enter was pressed before the look at the file was over."""

    def compose_body(self) -> Iterable[Widget]:
        """Yield the path and the preview."""
        yield Static(
            "JSONL, JSON, CSV, TSV, Excel, Parquet, text, a zip or a folder, .gz",
            classes="note",
            markup=False,
        )
        yield Input(
            self._start, placeholder="path of a file", suggester=PathSuggester(), select_on_focus=False,
            id="import-path",
        )  # fmt: skip
        with VerticalScroll(id="import-look"):
            yield Static("", id="import-preview", markup=False)

    def on_mount(self) -> None:
        """List what there is in the folder."""
        self.query_one(Input).focus()
        self._follow(self._start)

    @property
    def _desk(self) -> Desk:
        return cast("Desk", self.app)

    # --- the path

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        self._follow(event.value)

    def action_complete(self) -> None:
        """Complete the path as far as all that fits agrees; go back to it from the preview."""
        bar = self.query_one(Input)
        if not bar.has_focus:
            bar.focus()
            return
        found = matching_paths(bar.value)
        # The listing is sorted: what its ends share, all of it shares.
        ends = zip(found[0], found[-1], strict=False) if found else ()
        common = "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], ends))
        if len(common) > len(bar.value):
            bar.value = common
            bar.cursor_position = len(common)

    def _follow(self, typed: str) -> None:
        path = Path(typed).expanduser()
        self._look, self._wanted = None, False
        if typed and path.is_file():
            self._request = ImportRequest(path)
            self._look_again()
            return
        found = matching_paths(typed)
        lines = [plain_line("  " + _last_part(name)) for name in found[:_MOST_LISTED]]
        if len(found) > _MOST_LISTED:
            lines.append(plain_line(f"  … {len(found) - _MOST_LISTED} more"))
        self._tell(Content("\n").join(lines or [plain_line("no such file", "bold")]))

    def action_path(self) -> None:
        """Back to the path."""
        self.query_one(Input).focus()

    def action_look_closer(self) -> None:
        """Go to the preview, where keys change how the file is read."""
        if self._look is not None:
            self.query_one("#import-look").focus()

    def on_descendant_focus(self) -> None:
        """Name the keys of what has the focus."""
        typing = self.query_one(Input).has_focus
        self.query_one(".dialog").border_subtitle = _TYPING if typing else _CHOOSING

    # --- the look

    def _look_again(self) -> None:
        self._desk.work(
            self._looking(self._request), name="looking at the file", group="preview", exclusive=True
        )

    async def _looking(self, request: ImportRequest) -> None:
        workbench = self._desk.workbench
        if workbench is None:
            return
        self._tell(plain_line("looking at the file…"))
        found = await self._desk.in_thread(
            lambda _: workbench.look(
                request.path, format_name=request.format_name, mapping=request.mapping, system=request.system,
                limit=_PREVIEWED,
            ),
            name="looking",
        )  # fmt: skip
        if request == self._request and self.is_attached:
            before = self._look.speakers if self._look is not None else ()
            named = request.mapping.keys() & {"user", "assistant"} and "speaker" not in request.mapping
            # Once a name is said to be one side, the look asks no more; the others can still be chosen.
            self._look = replace(found, speakers=before) if named and before and not found.speakers else found
            self._tell(Content("\n").join(_told(found, request)))
            if self._wanted:
                self._decide()

    def _tell(self, content: Content) -> None:
        self.query_one("#import-preview", Static).update(content)

    # --- how else it could be read

    def _change(self, request: ImportRequest) -> None:
        self._request = request
        self._look_again()

    def action_format(self) -> None:
        """Choose the format."""
        workbench = self._desk.workbench
        if workbench is None or self._look is None:
            return

        def chosen(name: str | None) -> None:
            if name is not None:
                self._change(replace(self._request, format_name="" if name == _NONE else name))

        listed = [(name, f"{name:<12}{meaning}") for name, meaning in workbench.formats.items()]
        choices = [(_NONE, "tell it by the content"), *listed]
        self.app.push_screen(ChooseDialog("Read it as", choices, self._look.format or _NONE), chosen)

    def action_columns(self) -> None:
        """Choose a meaning, then the column that has it or the speaker who is that side."""
        found = self._look
        if found is None:
            return
        said = self._request.mapping
        choices = [
            (
                one,
                f"{_MEANT[one]:<24}{(said if _is_speaker(one, found) else {**said, **found.used}).get(one, '–')}",
            )
            for one in _MEANT
        ]

        def chosen(meaning: str | None) -> None:
            if meaning is not None:
                self._choose_column(meaning, found)

        self.app.push_screen(ChooseDialog("Which is", choices), chosen)

    def _choose_column(self, meaning: str, found: Look) -> None:
        speaker = _is_speaker(meaning, found)
        columns = [(name, f"{name[:24]:<25} {example}") for name, example in found.columns]
        choices = [(name, name) for name in found.speakers] if speaker else columns

        def chosen(column: str | None) -> None:
            if column is None:
                return
            mapping = _with_speaker(self._request.mapping, meaning, column, found.used.get("speaker", ""))
            if not speaker:
                mapping = _with_column({**self._request.mapping, **found.used}, meaning, column)
            kept = {key: value for key, value in mapping.items() if value not in (_NONE, "")}
            # A chat log has no column of speakers: as a transcript, its sides are names.
            format_name = found.format if speaker and "speaker" not in kept else self._request.format_name
            self._change(replace(self._request, mapping=kept, format_name=format_name))

        none = [(_NONE, "none, or as its content tells")]
        self.app.push_screen(
            ChooseDialog(f"{_MEANT[meaning]} is", [*choices, *none], found.used.get(meaning, "")), chosen
        )

    def action_system(self) -> None:
        """Give conversations that have none a system prompt."""

        def written(text: str | None) -> None:
            if text is not None:
                self._change(replace(self._request, system=text.strip()))

        note = "conversations that have one keep theirs; p in the Data screen changes them all"
        self.app.push_screen(TextDialog("System prompt", value=self._request.system, note=note), written)

    # --- the answer

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        path = Path(event.value).expanduser()
        if event.value and path.is_dir():
            self.dismiss(ImportRequest(path))
        elif event.value and path.is_file():
            self._wanted = True
            if self._look is not None:
                self._decide()
        else:
            self._tell(plain_line("✗ no such file: complete the path with Tab", "bold"))

    def _decide(self) -> None:
        """Import what is clear; go to the preview of what is not."""
        assert self._look is not None
        self._wanted = False
        if self._look.certain:
            self.dismiss(self._request)
        else:
            self.query_one("#import-look").focus()

    def action_accept(self) -> None:
        """Import what the preview shows."""
        if self._look is not None and self._look.rows and not self._look.problem:
            guessed = self._look.guessed and self._look.format == "pairs"
            self.dismiss(replace(self._request, mapping=self._look.used) if guessed else self._request)

    def why_not(self, action: str) -> str:
        """Return why a key does nothing now."""
        if action in ("accept", "format", "columns") and self._look is None:
            return "choose a file first"
        return ""


def _with_speaker(mapping: Mapping[str, str], meaning: str, name: str, column: str) -> dict[str, str]:
    """Return a mapping in which `name`, who speaks in `column`, is of one side, beside those who are already."""
    before = mapping.get(meaning, "")
    more = before and name != _NONE and name not in before.split("|")
    return {**mapping, "speaker": column, meaning: f"{before}|{name}" if more else name}


def _with_column(used: Mapping[str, str], meaning: str, column: str) -> dict[str, str]:
    """Return the columns in use with one changed; what had that column takes the one that is given up."""
    given_up = used.get(meaning, _NONE)
    swapped = {one: given_up if name == column else name for one, name in used.items()}
    return {**swapped, meaning: column}


def _is_speaker(meaning: str, found: Look) -> bool:
    """Return whether a side is a name in the speaker column, not a column of its own."""
    return bool(found.speakers) and meaning in ("user", "assistant")


def _told(found: Look, request: ImportRequest) -> Iterator[Content]:
    """Yield the lines of a preview."""
    if found.problem:
        yield plain_line(f"✗ {found.problem}", "bold")
        if found.hint and "--map" not in found.hint:
            yield plain_line(f"  {found.hint}")
        who = "who is the customer" if found.speakers else "which column is which"
        yield plain_line(f"  ↓ then m tells {who}, f the format")
    how = "as you said" if request.format_name else "told by the content"
    if found.format:
        yield Content.assemble(("format   ", "bold"), plain_line(f"{found.format}, {how}"))
    if found.used:
        used = " · ".join(f"{meaning} = {name}" for meaning, name in found.used.items())
        yield Content.assemble(("columns  ", "bold"), plain_line(used))
    elif found.columns and not found.rows:
        yield Content.assemble(
            ("columns  ", "bold"), plain_line(", ".join(name for name, _ in found.columns))
        )
    if request.system:
        yield Content.assemble(("system   ", "bold"), plain_line(request.system[:60]))
    if found.guessed:
        yield plain_line(f"? guessed {found.guessed}", "bold")
    for place, row in enumerate(found.rows, 1):
        yield from _row_lines(place, row)
    if found.skipped:
        yield plain_line(f"! {found.skipped:,} of its first records are left out", "bold")


def _row_lines(place: int, row: Row) -> Iterator[Content]:
    """Yield the first question and answer of a conversation."""
    messages = [one for one in messages_of(row) if isinstance(one, dict)]
    spoken = [one for one in messages if one.get("role") in ("user", "assistant")] or messages
    for number, message in enumerate(spoken[:2]):
        text = " ".join(content_text(message.get("content")).split()) or "(calls a tool)"
        lead = f"{place} " if not number else "  "
        more = f"  (+{len(messages) - 2})" if number and len(messages) > 2 else ""
        yield plain_line(f"{lead}{message.get('role', '?')!s:<10}{text[:200]}{more}")


def _last_part(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2] + ("/" if path.endswith("/") else "")
