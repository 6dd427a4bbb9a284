"""Files at a provider: listed, uploaded and downloaded with speed and time left, cancelled, deleted once confirmed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from textual import on, work
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static
from textual.worker import Worker

from tunedesk.core.fine_tuning import ProviderFile
from tunedesk.errors import TunedeskError, UsageError
from tunedesk.tui.screens.dialogs import ConfirmDialog, Dialog, TextDialog
from tunedesk.tui.screens.import_file import ImportDialog
from tunedesk.tui.transfer import Transfer, size_text
from tunedesk.tui.widgets.plain import plain_line
from tunedesk.tui.widgets.virtual_list import Column, ListRow, VirtualList

if TYPE_CHECKING:
    from tunedesk.config import Profile
    from tunedesk.tui.desk import Desk
    from tunedesk.workbench import Workbench

_COLUMNS = (
    Column("name", "name"), Column("size", "size", 8, right=True), Column("purpose", "purpose", 17),
    Column("status", "status", 9), Column("created", "created", 16), Column("id", "id", 14),
)  # fmt: skip
_FIRST_TO_GO = ("id", "created", "purpose")
_NAME_LEAST = 24
_REDRAW = 0.2
"""Least seconds between two lines about a transfer."""
Moving = Callable[[Callable[[int, int], None]], Awaitable[str]]
"""Moves bytes, tells how far it is, and returns what is said at the end."""


class FilesDialog(Dialog[None]):
    """One provider's files, the newest first."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("u", "upload", "Upload", id="files.upload", tooltip="Upload a training file"),
        Binding("s", "save", "Save", id="files.save", tooltip="Download the file"),
        Binding("x", "delete", "Delete", id="files.delete", tooltip="Delete the file there (asks first)"),
        Binding("c", "stop", "Cancel transfer", id="files.stop", tooltip="Stop what is being moved"),
        Binding("r", "list", "List again", id="files.list", tooltip="Ask the provider again"),
    ]

    @dataclass
    class Listed(Message):
        """The provider told its files."""

        files: list[ProviderFile]
        said: str
        """What was done before, empty when nothing was."""

    def __init__(self, workbench: Workbench, profile: Profile) -> None:
        """Show the files of `profile`."""
        name = profile.label.split(" (")[0] or profile.name
        super().__init__(
            f"Files at {name}", "u upload · s save · x delete · c cancel a transfer · r again · Esc"
        )
        self._workbench = workbench
        self._profile = profile
        self._files: list[ProviderFile] = []
        self._moving: Worker[None] | None = None
        self._told_over = ""
        """The file under the cursor when something was told: that stays until the cursor goes on."""

    def compose_body(self) -> Iterable[Widget]:
        """Yield the list and a line that tells what happens."""
        yield VirtualList(_COLUMNS, self._rows, empty="asking …", id="files")
        yield Static("", id="files-line", markup=False)

    @property
    def desk(self) -> Desk:
        """The app, typed."""
        return cast("Desk", self.app)

    def on_mount(self) -> None:
        """Ask for the files."""
        self.action_list()

    def on_resize(self) -> None:
        """Show the columns that there is room for."""
        listing = self.query_one(VirtualList)
        shown = {column.key: column for column in _COLUMNS}
        for key in _FIRST_TO_GO:
            if self.size.width - 8 - sum(column.width + 1 for column in shown.values()) >= _NAME_LEAST:
                break
            del shown[key]
        listing.columns = tuple(shown.values())
        listing.reload()

    @on(VirtualList.CursorMoved)
    def _moved_on(self) -> None:
        """Tell the whole of what the line may cut."""
        file = self._chosen
        busy = self._moving is not None and self._moving.is_running
        if file is not None and not busy and file.id != self._told_over:
            self._told_over = ""
            self.tell(f"{file.id} · {file.filename} · {file.purpose} · {_day(file.created_at)}")

    def tell(self, text: str) -> None:
        """Say what happens, unless the dialog was closed meanwhile."""
        for line in self.query("#files-line").results(Static):
            line.update(plain_line(text))

    def action_list(self) -> None:
        """Ask the provider for its files."""
        self.tell("asking …")
        self.desk.work(self._list(), name="listing files", group="files-list", exclusive=True)

    async def _list(self, said: str = "") -> None:
        try:
            client = await self._workbench.connect(self._profile)
            self.post_message(self.Listed(await client.files(), said))
        except TunedeskError as error:
            self.tell(f"✗ {error.message}{' → ' + error.hint if error.hint else ''}")
            self._say_empty("the files could not be listed: r asks again")

    def _say_empty(self, text: str) -> None:
        """Say why no file is shown."""
        for listing in self.query(VirtualList):
            listing.empty = text
            listing.reload()

    @on(Listed)
    def _listed(self, event: Listed) -> None:
        self._say_empty("no files")
        self._files = sorted(event.files, key=lambda one: -one.created_at)
        self.query_one(VirtualList).show(range(len(self._files)), keep_place=True)
        total = sum(one.bytes for one in self._files)
        many = f"{len(self._files):,} file{'' if len(self._files) == 1 else 's'}"
        self.tell(event.said or f"{many}, {size_text(total)}")
        self._told_over = self._chosen.id if self._chosen else ""

    def _rows(self, indexes: Sequence[int]) -> list[ListRow]:
        columns = [column.key for column in self.query_one(VirtualList).columns]
        rows = []
        for one in (self._files[index] for index in indexes):
            cells = {
                "name": one.filename, "size": size_text(one.bytes), "purpose": one.purpose, "status": one.status,
                "created": _day(one.created_at), "id": one.id,
            }  # fmt: skip
            rows.append(ListRow([cells[key] for key in columns], "bad" if one.status == "error" else ""))
        return rows

    @property
    def _chosen(self) -> ProviderFile | None:
        index = self.query_one(VirtualList).index
        return self._files[index] if index is not None and index < len(self._files) else None

    # --- moving bytes

    @work
    async def action_upload(self) -> None:
        """Ask for a file and upload it; the same bytes that are there already are not sent again."""
        chosen = await self.app.push_screen_wait(ImportDialog())
        if chosen is None:
            return
        path = chosen.path

        async def moving(told: Callable[[int, int], None]) -> str:
            service = await self._workbench.jobs(self._profile)
            file = await service.upload(path, on_upload=lambda _, sent, size: told(sent, size))
            return f"{path.name} is there as {file.file}"

        self._move(f"uploading {path.name}", moving)

    @work
    async def action_save(self) -> None:
        """Ask where to, and download the file under the cursor."""
        file = self._chosen
        if file is None:
            return
        name = Path(file.filename).name or f"{file.id}.jsonl"
        typed = await self.app.push_screen_wait(TextDialog(f"Save {file.id} as", value=name))
        if not typed:
            return
        path = Path(typed).expanduser()

        async def moving(told: Callable[[int, int], None]) -> str:
            if path.exists():
                raise UsageError(f"{path} is there already", "choose another name")
            client = await self._workbench.connect(self._profile)
            count = await client.download(file.id, path, on_progress=lambda done, _: told(done, file.bytes))
            return f"{size_text(count)} in {path.absolute()}"

        self._move(f"saving {file.id}", moving)

    def _move(self, name: str, moving: Moving) -> None:
        if self._moving is not None and self._moving.is_running:
            self.tell("something is being moved: c cancels it")
            return
        self._moving = self.desk.work(self._moved(name, moving), name=name, group="files-move")

    async def _moved(self, name: str, moving: Moving) -> None:
        transfer, last = Transfer(name), 0.0

        def told(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last > _REDRAW:
                last = time.monotonic()
                self.tell(f"{transfer.text(done, total)} · c cancels")

        try:
            end = await moving(told)
        except TunedeskError as error:
            self.tell(f"✗ {error.message}{' → ' + error.hint if error.hint else ''}")
            return
        except asyncio.CancelledError:
            self.tell(f"{name}: cancelled")
            raise
        self.desk.say(end)
        await self._list(end)

    def action_stop(self) -> None:
        """Stop what is being moved; an upload in parts goes on from there when it is asked for again."""
        if self._moving is not None and self._moving.is_running:
            self._moving.cancel()
        else:
            self.tell("nothing is being moved")

    @work
    async def action_delete(self) -> None:
        """Delete the file under the cursor, once confirmed."""
        file = self._chosen
        if file is None:
            return
        text = f"Delete {file.filename or file.id} ({file.id}, {size_text(file.bytes)}) there for good?"
        if await self.app.push_screen_wait(ConfirmDialog("Delete a file", text)):
            self.desk.work(self._delete(file), name=f"deleting {file.id}", group="files-delete")

    async def _delete(self, file: ProviderFile) -> None:
        try:
            client = await self._workbench.connect(self._profile)
            await client.delete_file(file.id)
            self._workbench.store.forget_file_id(self._profile.name, file.id)
        except TunedeskError as error:
            self.tell(f"✗ {error.message}")
            return
        await self._list(f"{file.filename or file.id} is deleted")


def _day(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds)) if seconds else ""
