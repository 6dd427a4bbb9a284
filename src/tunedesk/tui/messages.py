"""What crosses panes and screens, told in the past tense."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from textual.message import Message

if TYPE_CHECKING:
    from tunedesk.core.checking.findings import Finding
    from tunedesk.core.counting.pricing import Estimate
    from tunedesk.core.counting.token_stats import Spread
    from tunedesk.core.counting.tokens import TokenStats
    from tunedesk.core.workspace import Workspace
    from tunedesk.workbench import Workbench


@dataclass
class WorkbenchLoaded(Message):
    """The services behind the screens are there; until then a screen shows only its frame."""

    workbench: Workbench
    """What every screen calls."""


@dataclass
class FileGiven(Message):
    """A file was named where the app was started: it is to be imported, and may be stopped."""

    path: Path
    """The file."""


@dataclass
class WorkspaceChanged(Message):
    """A dataset was opened, or an edit of it is journalled: this is what to show from now on."""

    workspace: Workspace
    """The new state."""
    label: str
    """What was done, for the status line."""


@dataclass
class WorkFailed(Message):
    """Work in the background ended in an error that is now shown."""

    name: str
    """What was being done."""
    message: str
    """What happened."""
    hint: str
    """What to press or type next."""


@dataclass
class ProgressMade(Message):
    """Work in the background came further."""

    name: str
    """What is being done; empty when it is done."""
    done: int
    """Units finished: rows or bytes."""
    total: int
    """Units in all, 0 when unknown."""
    whole: bool = False
    """Whether the name says it all, figures too."""


@dataclass
class TokensCounted(Message):
    """The tokens of the included conversations, and what a job on them would cost."""

    stats: TokenStats
    """Counts over the included conversations."""
    estimate: Estimate
    """Epochs, billed tokens and cost for the chosen model and provider."""
    note: str
    """Why the counts are an estimate; empty when they are exact."""
    spread: Spread | None = None
    """Lengths against the limit, and where the tokens go."""
    shown: tuple[Spread, Estimate] | None = None
    """The same of what the filter shows, None without a filter."""
    age: int | None = None
    """How old the price is, days."""
    notes: tuple[str, ...] = ()
    """What ends when."""


@dataclass
class FindingsFound(Message):
    """A check went through all conversations."""

    findings: tuple[Finding, ...]
    """All findings, by line."""


@dataclass
class ChatWanted(Message):
    """Someone wants to chat with these models side by side."""

    profile: str
    """Name of the provider's profile that has them."""
    models: tuple[str, ...]
    """Base first."""


@dataclass
class CompareWanted(Message):
    """Someone wants to compare these models on held-out prompts."""

    profile: str
    """Name of the provider's profile that has them."""
    models: tuple[str, ...]
    """Base first."""


@dataclass
class RowsWanted(Message):
    """Someone wants to see some conversations of a dataset that is being opened, or is open."""

    dataset: str
    """Its id."""
    query: str
    sort: str
    """Column that orders them, the largest first."""
    told: str
    """What they are, for the status line."""


@dataclass
class JobLaunched(Message):
    """A fine-tuning job was created, and is in the store."""

    job: str
    """Its id."""
