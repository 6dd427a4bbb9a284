"""Every error a user can meet, in one tree.

TunedeskError(message, hint)
├── UsageError        the command line or a query is wrong (exit 2)
├── DataError         a file or its rows cannot be read or used
├── ProviderError     an endpoint refused, failed or could not be reached
├── JobError          a fine-tuning job cannot be launched, found or followed
├── StoreError        our own state on disk cannot be read or written
└── EngineError       the local engine cannot start, load or train

The message says what happened and where; the hint says what to press or type next.
"""

from __future__ import annotations


class TunedeskError(Exception):
    """Base of all errors that are shown to a user without a traceback."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(TunedeskError):
    """The command line, an option or a query cannot be understood."""


class DataError(TunedeskError):
    """A file or a row of it cannot be read or used."""


class ProviderError(TunedeskError):
    """An endpoint refused, failed, or could not be reached.

    `retryable` is True when the same *reading* request may succeed later. Requests that create
    something are never repeated on it: see jobs.py. `status` is the HTTP status, 0 when no answer came.
    """

    def __init__(
        self,
        message: str,
        hint: str = "",
        *,
        retryable: bool = False,
        status: int = 0,
        code: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, hint)
        self.retryable = retryable
        self.status = status
        self.code = code
        self.retry_after = retry_after

    @property
    def in_doubt(self) -> bool:
        """True when the request may have been carried out although no good answer came (timeout, reset, 5xx)."""
        return self.status == 0 or self.status in (408, 409) or self.status >= 500


class JobError(TunedeskError):
    """A fine-tuning job cannot be launched, found or followed."""


class StoreError(TunedeskError):
    """The workbench's own state cannot be read or written."""


class EngineError(TunedeskError):
    """The local engine cannot start, load a model, or train."""
