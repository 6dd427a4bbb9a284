"""The import dialog: a path with completion, and what the file would become before it is imported."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from textual import on
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.suggester import Suggester
from textual.widget import Widget
from textual.widgets import Input, Static

from tunedesk.core.conversations import Row, content_text
from tunedesk.tui.panes.conversation_view import messages_of
from tunedesk.tui.screens.dialogs import Dialog
from tunedesk.tui.widgets.plain import plain_line

if TYPE_CHECKING:
    from tunedesk.tui.desk import Desk

_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt", ".zip", ".gz")
_MOST_LISTED = 6
_PREVIEWED = 3


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
                elif path.suffix.lower() in _SUFFIXES:
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


class ImportDialog(Dialog[Path]):
    """Returns the file to import."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "tab", "complete", "Complete", priority=True, id="import.complete", tooltip="Complete the path"
        ),
    ]

    def __init__(self, start: str = "") -> None:
        """Begin with the path `start`."""
        super().__init__("Import conversations", "Tab complete · Enter import · Esc cancel")
        self._start = start

    def compose_body(self) -> Iterable[Widget]:
        """Yield the path and the preview."""
        yield Static("JSONL, JSON, CSV, TSV, Parquet, text or zip, also .gz", classes="note", markup=False)
        yield Input(
            self._start, placeholder="path of a file", suggester=PathSuggester(), select_on_focus=False,
            id="import-path",
        )  # fmt: skip
        yield Static("", id="import-preview", markup=False)

    def on_mount(self) -> None:
        """List what there is in the folder."""
        self._look(self._start)

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        self._look(event.value)

    def action_complete(self) -> None:
        """Complete the path as far as all that fits agrees."""
        field = self.query_one(Input)
        found = matching_paths(field.value)
        # The listing is sorted: what its ends share, all of it shares.
        ends = zip(found[0], found[-1], strict=False) if found else ()
        common = "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], ends))
        if len(common) > len(field.value):
            field.value = common
            field.cursor_position = len(common)

    def _look(self, typed: str) -> None:
        path = Path(typed).expanduser()
        if typed and path.is_file():
            desk = cast("Desk", self.app)
            desk.work(self._preview(path), name="looking at the file", group="preview", exclusive=True)
            return
        found = matching_paths(typed)
        lines = [plain_line("  " + _last_part(name)) for name in found[:_MOST_LISTED]]
        if len(found) > _MOST_LISTED:
            lines.append(plain_line(f"  … {len(found) - _MOST_LISTED} more"))
        self._tell(Content("\n").join(lines or [plain_line("no such file", "bold")]))

    async def _preview(self, path: Path) -> None:
        desk = cast("Desk", self.app)
        workbench = desk.workbench
        if workbench is None:
            return
        self._tell(plain_line("looking at the file…"))
        found = await desk.in_thread(lambda _: workbench.preview(path, limit=_PREVIEWED), name="looking")
        lines = [Content.assemble(("format  ", "bold"), plain_line(found.format or "unknown"))]
        lines += [plain_line(first_words(row)) for row in found.rows]
        if found.notes:
            lines.append(plain_line("! " + "; ".join(found.notes), "bold"))
        self._tell(Content("\n").join(lines))

    def _tell(self, content: Content) -> None:
        self.query_one("#import-preview", Static).update(content)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        path = Path(event.value).expanduser()
        if event.value and (path.is_file() or path.is_dir()):
            self.dismiss(path)
        else:
            self._tell(plain_line("✗ no such file: complete the path with Tab", "bold"))


def _last_part(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2] + ("/" if path.endswith("/") else "")


def first_words(row: Row, width: int = 70) -> str:
    """Return the start of a conversation in one line, by role."""
    parts = []
    for message in messages_of(row)[:4]:
        if isinstance(message, dict):
            text = " ".join(content_text(message.get("content")).split())
            parts.append(f"{message.get('role', '?')}: {text[:40]}")
    return "  " + " │ ".join(parts)[:width]
