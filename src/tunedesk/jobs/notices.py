"""Telling a person who looks elsewhere that a job has ended: the terminal's bell, its notifications, a command."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

from tunedesk.config import Notify
from tunedesk.core.fine_tuning import FineTuningJob
from tunedesk.errors import UsageError
from tunedesk.providers.local import clean_environment
from tunedesk.terminal import visible

_LONGEST = 200
"""Characters of a notification; terminals cut longer ones, some refuse them."""
_PATIENCE = 10.0
"""Seconds that the user's command may take."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What is told."""

    title: str
    text: str
    status: str = ""
    job: str = ""
    model: str = ""

    @classmethod
    def of(cls, job: FineTuningJob) -> Notice:
        """Return the notice of a job that has ended."""
        text = job.fine_tuned_model or job.error or job.model
        return cls(f"Fine-tuning {job.status}", text, job.status, job.id, job.fine_tuned_model or "")


def signals(notice: Notice, settings: Notify) -> str:
    """Return the characters that ring and notify in a terminal; nothing in the notice can end or extend them."""
    told = "\a" if settings.bell else ""
    title, text = _plain(notice.title), _plain(notice.text)
    if "9" in settings.osc:
        told += f"\x1b]9;{title}: {text}\x1b\\"
    if "777" in settings.osc:
        told += f"\x1b]777;notify;{title.replace(';', ',')};{text.replace(';', ',')}\x1b\\"
    return told


def run_command(notice: Notice, settings: Notify) -> None:
    """Run the user's own command, without a shell and without keys; `{title}`, `{text}`, `{status}`, … are put in.

    Blocks for up to ten seconds. Raises UsageError when it cannot be run, fails or does not end.
    """
    if not settings.command:
        return
    words = {name: _plain(getattr(notice, name)) for name in ("title", "text", "status", "job", "model")}
    command = [_filled(part, words) for part in settings.command]
    hint = "see command under [notify] in settings.toml"
    try:
        done = subprocess.run(
            command, env=clean_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, timeout=_PATIENCE, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"{command[0]} has not ended after {_PATIENCE:.0f} s", hint) from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{command[0]} cannot be run: {error}", hint) from error
    if done.returncode:
        raise UsageError(f"{command[0]} ended with {done.returncode}", hint)


def _filled(part: str, words: dict[str, str]) -> str:
    """Put the words in, each once: a word that looks like a placeholder stays as it is."""
    pieces = part.split("{")
    out = pieces[0]
    for piece in pieces[1:]:
        name, brace, rest = piece.partition("}")
        out += words[name] + rest if brace and name in words else "{" + piece
    return out


def _plain(text: str) -> str:
    return visible(text, keep="")[:_LONGEST]
