"""Every way a request can fail, translated once from the SDK's errors into words and a hint."""

from __future__ import annotations

import importlib
import math
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime

import openai

from tunedesk.config import Profile
from tunedesk.errors import ProviderError, TunedeskError
from tunedesk.providers.base import UNREACHABLE
from tunedesk.providers.limits import CLOSED, TRAIN_HERE

_TRANSPORT = importlib.import_module(
    next(
        c.__module__
        for c in openai.DefaultAsyncHttpxClient.__mro__[1:]
        if c.__module__ in ("httpx", "httpx2")
    )
)
"""httpx under openai 2, httpx2 under openai 3: a stream that breaks shows its errors bare in the former."""
_WIRE_ERRORS: tuple[type[Exception], ...] = (
    openai.OpenAIError,
    _TRANSPORT.HTTPError,
    _TRANSPORT.StreamError,
    _TRANSPORT.InvalidURL,
    OSError,
    ValueError,
    RecursionError,
    AttributeError,
)
"""The last three: an answer that is not the JSON it claims to be (the SDK trips over a list that is none), or text
that no header can hold."""


_WORDS: dict[int, tuple[str, str]] = {
    400: ("did not accept the request", "correct what it names; `tunedesk check` finds faults in the data"),
    401: ("does not accept the key", "check the key, and that it belongs to this provider"),
    403: ("does not allow this", "ask the account's owner for the right, or use another key"),
    404: ("does not know it", "check the name or id, and that the key is of the account that made it"),
    408: ("gave up waiting for the request", "try again"),
    409: ("says that it is in conflict with another request", "wait a moment and look again"),
    413: ("finds it too large", "send a smaller file, or split it"),
    422: ("cannot work with the request", "correct what it names"),
    429: ("asks to slow down, or the quota is used up", "wait, or check the account's limits and billing"),
}
"""HTTP status → what happened, what to do."""


@contextmanager
def translated(profile: Profile, doing: str) -> Iterator[None]:
    """Run a request; whatever the SDK raises comes out as a ProviderError that tells what was being done.

    Our own errors (a file that shrank under an upload) come out as they were, though the SDK wraps them. What was
    being handled before the request, such as another one's failure, is none of its causes.
    """
    before = sys.exception()
    try:
        yield
    except ProviderError:
        raise
    except _WIRE_ERRORS as error:
        chain = list(_causes(error, before))
        ours = next((cause for cause in chain if isinstance(cause, TunedeskError)), None)
        raise (ours or _translate(error, chain, profile, doing)) from error


def garbled(profile: Profile, doing: str) -> ProviderError:
    """Return the error for an answer that is not what the API promises; the request may have been carried out."""
    return ProviderError(
        f"{_name(profile)} gave an answer that cannot be read ({doing})",
        "check that the base URL is an OpenAI-compatible API and ends as its makers say (often /v1)",
        retryable=True,
        code="garbled",
    )


def sent_elsewhere(profile: Profile, status: int, address: str) -> ProviderError:
    """Return the error for a request that an endpoint would have sent to another address, and that was not sent there.

    What creates something goes to the address that the user named, and there only.
    """
    return ProviderError(
        f"{_name(profile)} does not take the request here: it points to {address[:200]} (HTTP {status})",
        "if that is the provider's own address, set it as base_url in profiles.toml; it may ask to sign in",
        status=status,
    )


def _name(profile: Profile) -> str:
    return profile.label.split(" (")[0] or profile.name


def _translate(error: Exception, chain: list[BaseException], profile: Profile, doing: str) -> ProviderError:
    if isinstance(error, openai.APIStatusError):
        return _from_status(error, profile, doing)
    if isinstance(error, openai.APIResponseValidationError):
        return garbled(profile, doing)
    if isinstance(error, openai.APIConnectionError | _TRANSPORT.HTTPError | _TRANSPORT.StreamError | OSError):
        return _from_connection(chain, profile, doing)
    if isinstance(error, UnicodeError):
        return ProviderError(f"the key for {_name(profile)} has a character that no key has", "copy it again")
    if isinstance(error, openai.APIError):
        return ProviderError(
            f"{_name(profile)} broke off ({doing}): {error.message}",
            "try again",
            retryable=True,
            code=str(error.code or ""),
        )
    if isinstance(error, ValueError | RecursionError | AttributeError):
        return garbled(profile, doing)
    return ProviderError(f"{_name(profile)}: {error} ({doing})", "check the profile's base_url and key")


def _from_status(error: openai.APIStatusError, profile: Profile, doing: str) -> ProviderError:
    status, code = error.status_code, str(error.code or "")
    what, hint = _WORDS.get(status, (f"refused (HTTP {status})", "see its own words"))
    if status >= 500:
        what, hint = f"failed on its side (HTTP {status})", "try again later; its status page may tell more"
    if code == CLOSED:
        what, hint = "does not offer training to this organisation any more", TRAIN_HERE
    elif code == "insufficient_quota":
        hint = f"the quota is used up: check billing there, or {TRAIN_HERE}"
    said = _said(error)
    if status in (404, 405) and not said:
        hint = "check the base URL: it ends as its makers say, often in /v1"
    wait = _retry_after(error.response.headers)
    if status == 429 and wait is not None and code != "insufficient_quota":
        hint = f"wait {_span(wait)}, or check the account's limits"
    return ProviderError(
        f"{_name(profile)} {what} ({doing})" + (f": {said}" if said else ""),
        hint,
        retryable=(status in (408, 409, 429) or status >= 500) and code != "insufficient_quota",
        status=status,
        code=code,
        retry_after=wait,
    )


def _span(seconds: float) -> str:
    """Return a time to wait as people say it, also an absurd one."""
    for size, unit in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.0f} s"


def _said(error: openai.APIStatusError) -> str:
    """The provider's own sentence; a page of HTML or nothing is no sentence."""
    body = error.body
    message = body.get("message") if isinstance(body, dict) else None
    return message[:500] if isinstance(message, str) else ""


def _retry_after(headers: object) -> float | None:
    """Seconds from Retry-After-Ms or Retry-After (a number or an HTTP date), or None.

    A date counts from the answer's own Date where it has one, so that a wrong clock here does not matter.
    """
    get = getattr(headers, "get", lambda _name: None)
    for header, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = get(header)
        if value is None:
            continue
        seconds = _seconds(value, get("date"))
        if seconds is not None:
            return max(0.0, seconds * scale)
    return None


def _seconds(value: str, answered: str | None) -> float | None:
    try:
        seconds = float(value)
    except ValueError:
        until, now = _moment(value), _moment(answered or "")
        return None if until is None else until - (time.time() if now is None else now)
    return seconds if math.isfinite(seconds) else None


def _moment(value: str) -> float | None:
    try:
        return parsedate_to_datetime(value).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def _from_connection(chain: list[BaseException], profile: Profile, doing: str) -> ProviderError:
    host = profile.base_url or "the engine on this machine"
    start = "start it with `tunedesk serve`" if profile.is_local else "check the network and the base URL"
    if any(isinstance(e, socket.gaierror) for e in chain) or "Name or service not known" in str(chain[-1]):
        return ProviderError(
            f"the name in {host} cannot be found ({doing})", "check the network, the DNS and the base URL",
            retryable=True, code=UNREACHABLE,
        )  # fmt: skip
    if any(isinstance(e, ssl.SSLError) for e in chain):
        return ProviderError(
            f"no trusted connection to {host} ({doing})",
            "check the clock and the CA certificates",
            code=UNREACHABLE,
        )
    names = {type(e).__name__ for e in chain}
    timeout = any(isinstance(e, openai.APITimeoutError | _TRANSPORT.TimeoutException) for e in chain)
    if names & {"ConnectError", "ConnectTimeout", "PoolTimeout"}:
        return ProviderError(f"cannot reach {host} ({doing})", start, retryable=True, code=UNREACHABLE)
    if timeout:
        return ProviderError(
            f"{_name(profile)} did not answer in time ({doing})", "try again", retryable=True, code="timeout"
        )
    return ProviderError(
        f"the connection to {_name(profile)} broke ({doing})", "check the network and try again", retryable=True,
        code="broken",
    )  # fmt: skip


def _causes(error: BaseException, before: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what led to it, up to what was being handled `before`."""
    seen = {id(before)}
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__
