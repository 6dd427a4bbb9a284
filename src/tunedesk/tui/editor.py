"""Text in the user's own editor: the app steps aside, and comes back with what was written."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from textual.app import App, SuspendNotSupported

from tunedesk.errors import DataError, UsageError
from tunedesk.providers.local import clean_environment


def edit_text(app: App[Any], text: str, *, suffix: str = ".txt") -> str | None:
    """Return `text` as the user left it in `$VISUAL`, `$EDITOR` or vi; None when it was not changed.

    Raises UsageError when there is no such editor or it failed, DataError when what it left is not UTF-8.
    """
    command = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
    with tempfile.TemporaryDirectory(prefix="tunedesk-") as folder:
        path = Path(folder) / f"message{suffix}"
        path.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")
        try:
            with app.suspend():
                done = subprocess.run([*command, str(path)], env=clean_environment(), check=False)
        except SuspendNotSupported as error:
            raise UsageError(
                "this terminal cannot be lent to an editor", "edit the text in the pane instead"
            ) from error
        except OSError as error:
            raise UsageError(
                f"cannot start {command[0]}: {error.strerror}", "set EDITOR to an editor that is installed"
            ) from error
        if done.returncode:
            raise UsageError(f"{command[0]} ended with {done.returncode}", "nothing was changed")
        try:
            written = path.read_text(encoding="utf-8", errors="strict")
        except UnicodeDecodeError as error:
            raise DataError(
                "the edited text is not UTF-8", "nothing was changed; save it as UTF-8"
            ) from error
    # Editors end a file with a line feed that the message did not have.
    if written.endswith("\n") and not text.endswith("\n"):
        written = written[:-1]
    return None if written == text else written
