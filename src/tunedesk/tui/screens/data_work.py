"""What the Data screen has done in threads: searching, checking, counting. Nothing here touches a widget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING

from textual.message import Message

from tunedesk.errors import UsageError
from tunedesk.tui.widgets.block_view import Needle, needle

if TYPE_CHECKING:
    from tunedesk.core.workspace import Workspace
    from tunedesk.workbench import SplitFiles

_PAINTING_S = 0.03
"""The longest that a search waits for its first screenful to be painted."""


@dataclass
class RowsMatched(Message):
    """A search found the first screenful, or all."""

    workspace: Workspace
    """The searched workspace with its matches."""
    complete: bool
    painted: Callable[[], None] = lambda: None
    """To be called once they are on the screen: the search waits for it, so that it takes no processor from that."""


@dataclass
class QueryRefused(Message):
    """The typed query makes no sense, or asks for what is not known yet."""

    message: str
    hint: str
    column: int
    """From 1, 0 when unknown."""


@dataclass
class ModelsListed(Message):
    """The provider told what it can tune."""

    names: tuple[str, ...]


@dataclass
class SplitWritten(Message):
    """Training and validation files are on disk."""

    files: SplitFiles


def scan(
    workspace: Workspace, text: str, post: Callable[[Message], object], stopped: Callable[[], bool]
) -> None:
    """Search `workspace` for `text`, posting what is found; ends within a chunk when `stopped` says so."""
    last: Workspace | None = None
    painted = Event()
    painted.set()

    def waiting() -> bool:
        painted.wait(_PAINTING_S)
        painted.set()  # waited for once
        return stopped()

    try:
        for last in workspace.searching(text, waiting):
            if text.strip() and not last.found.aligned:  # the first screenful, shown while the search goes on
                painted.clear()
                post(RowsMatched(last, False, painted.set))
    except UsageError as error:
        if not stopped():
            post(QueryRefused(error.message, error.hint, getattr(error, "column", 0)))
        return
    if last is not None and not stopped():
        post(RowsMatched(last, True))


def needles_of(workspace: Workspace) -> list[Needle]:
    """Return what to mark in the conversations that the query matched."""
    made = (needle(mark.source, mark.scope) for mark in workspace.marks)
    return [one for one in made if one is not None]
