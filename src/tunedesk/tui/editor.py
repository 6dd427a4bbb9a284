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
    command = _command()
    with tempfile.TemporaryDirectory(prefix="tunedesk-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / f"message{suffix}"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
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
        written = _written(path)
    # Editors end a file with a line feed that the message did not have.
    if written.endswith("\n") and not text.endswith("\n"):
        written = written[:-1]
    return None if written == text else written


def _command() -> list[str]:
    told = os.environ.get("VISUAL") or os.environ.get("EDITOR") or ""
    try:
        return shlex.split(told) or ["vi"]
    except ValueError as error:
        raise UsageError(f"EDITOR={told!r} is no command: {error}", "set EDITOR to an editor") from error


def _written(path: Path) -> str:
    """Return what stands in the file, its line ends as they are."""
    try:
        return path.read_bytes().decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise DataError("the edited text is not UTF-8", "nothing was changed; save it as UTF-8") from error
    except OSError as error:
        raise UsageError(f"the editor took the file away: {error.strerror}", "nothing was changed") from error
