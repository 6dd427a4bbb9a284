"""A text lent to the user's editor comes back as it was left, or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.app import App

from tunedesk.errors import DataError, UsageError
from tunedesk.tui.editor import edit_text


class Lender(App[None]):
    """An app that has no terminal to lend."""

    @contextlib.contextmanager
    def suspend(self) -> Iterator[None]:
        """Do nothing."""
        yield


@pytest.fixture
def edited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lender:
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", str(tmp_path / "editor"))
    return Lender()


def script(tmp_path: Path, text: str) -> None:
    path = tmp_path / "editor"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)


@pytest.mark.parametrize(
    "text",
    ["Hi.", "Hi.\n", "one\r\ntwo\rthree\n", " \t", "", "Grüße \ud83d 👍", "\ufeffmarked", "a\x00b\x1b["],
)
def test_a_text_that_was_only_looked_at_is_the_same(tmp_path: Path, edited: Lender, text: str) -> None:
    script(tmp_path, "true")
    assert edit_text(edited, text) is None
    script(tmp_path, 'printf "\\n" >> "$1"')
    assert edit_text(edited, text) == (text + "\n" if text.endswith("\n") else None)
    script(tmp_path, 'printf "\\r\\nmore\\r\\n" >> "$1"')
    assert edit_text(edited, text) == (text + "\r\nmore\r" + ("\n" if text.endswith("\n") else ""))


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("exit 3", UsageError, "ended with 3"),
        ("kill -9 $$", UsageError, "ended with -9"),
        ('rm "$1"', UsageError, "took the file away"),
        ('rm -r "$(dirname "$1")"', UsageError, "took the file away"),
        ('printf "caf\\351" > "$1"', DataError, "not UTF-8"),
    ],
)
def test_an_editor_that_leaves_no_text_is_told_of_in_words(
    tmp_path: Path, edited: Lender, text: str, kind: type[Exception], said: str
) -> None:
    script(tmp_path, text)
    with pytest.raises(kind, match=said):
        edit_text(edited, "Hi.")


@pytest.mark.parametrize(
    ("command", "said"), [("no-such-editor -w", "cannot start no-such-editor"), ("vi '", "is no command")]
)
def test_a_command_that_cannot_be_run_is_told_of_in_words(
    edited: Lender, monkeypatch: pytest.MonkeyPatch, command: str, said: str
) -> None:
    monkeypatch.setenv("EDITOR", command)
    with pytest.raises(UsageError, match=said):
        edit_text(edited, "Hi.")
