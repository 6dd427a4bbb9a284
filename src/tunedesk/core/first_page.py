"""The first rows of an imported dataset, kept beside it: they can be shown before what reads a dataset is loaded."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunedesk.errors import StoreError
from tunedesk.paths import write_whole

if TYPE_CHECKING:
    from tunedesk.core.workspace import Workspace

_FILE = "page.json"
_ROWS = 60
_MOST_CHARS = 20_000
"""Of the first conversation: a longer one is not kept a second time."""


def keep_first_page(workspace: Workspace) -> None:
    """Keep what a list shows of the first rows of a dataset, and the first row; a full disk costs no more than that."""
    views = workspace.meta_rows(slice(0, _ROWS))
    rows = [
        {"line": one.line, "turns": one.turns, "intent": one.intent, "tags": list(one.tags),
         "preview": one.preview, "tools": one.has_tools}
        for one in views
    ]  # fmt: skip
    row = workspace.row(views[0].index) if views and views[0].chars <= _MOST_CHARS else None
    with suppress(StoreError):
        write_whole(workspace.dataset.folder / _FILE, json.dumps({"rows": rows, "conversation": row}))


def first_page(folder: Path) -> dict[str, Any]:
    """Return what was kept in the folder of a dataset: `rows` and `conversation`; nothing where that is not there."""
    try:
        page = json.loads((folder / _FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return page if isinstance(page, dict) else {}
