"""How requests go out through the SDK: one client a profile; sent once, or read again where that is safe.

Nothing is retried here but reading requests: a repeated POST can be paid for twice (facts: the SDK's own
retries make up to three jobs of one lost answer), so all clients go with max_retries=0.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import openai

from tunedesk.config import Profile
from tunedesk.errors import ProviderError
from tunedesk.providers.base import UNREACHABLE, key_fingerprint
from tunedesk.providers.sdk_errors import garbled, sent_elsewhere, translated

T = TypeVar("T")
Client = openai.AsyncOpenAI
Address = Callable[[threading.Event], tuple[str, str]]

READ = openai.Timeout(30.0, connect=10.0)
PAGE = 100
_MOST_PAGES = 1000
"""An endpoint that makes up items without end is asked no more than this."""
_TRIES = 3
_LONGEST = 20.0
"""Seconds for which a reading request waits before it is repeated; who is asked for more is told instead."""


class Requests:
    """One endpoint's client, and the ways to ask it."""

    def __init__(
        self,
        profile: Profile,
        address: Address,
        *,
        account: str = "",
        pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """`address` gives (base URL, key) and is asked again after the endpoint could not be reached.

        It may block in a thread; it is told by the event that nobody waits for it any longer, so that leaving the
        app never waits for an engine that is still starting.
        """
        self.profile = profile
        self.account = key_fingerprint(account)
        self._address = address
        self._pause = pause
        self._client: Client | None = None

    async def close(self) -> None:
        """Close connections."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    async def _open(self) -> Client:
        if self._client is None:
            given_up = threading.Event()
            try:
                base_url, key = await asyncio.to_thread(self._address, given_up)
            finally:
                given_up.set()
            with translated(self.profile, "connecting"):
                self._client = _client(self.profile, base_url, key)
        return self._client

    async def _call(self, doing: str, send: Callable[[Client], Awaitable[T]]) -> T:
        """Send one request once."""
        client = await self._open()
        try:
            with translated(self.profile, doing):
                return await send(client)
        except ProviderError as error:
            if error.code == UNREACHABLE and self._client is client:
                await self.close()
            raise

    async def create(self, doing: str, send: Callable[[Client], Awaitable[Any]]) -> dict[str, Any]:
        """Send one request once; raises ProviderError when its answer has no id."""
        return self._with_id(plain(await self._call(doing, send)), doing)

    async def _read(self, doing: str, send: Callable[[Client], Awaitable[Any]]) -> dict[str, Any]:
        return await self.again(lambda: self.create(doing, send))

    async def again(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Repeat a request that is safe to repeat, a few times (once where time ran out), with a growing pause."""
        for attempt in range(1, _TRIES):
            try:
                return await ask()
            except ProviderError as error:
                wait = error.retry_after if error.retry_after is not None else 0.4 * 2**attempt
                patient = error.code != "timeout" or attempt == 1
                if not error.retryable or wait > _LONGEST or not patient:
                    raise
                await self._pause(wait * random.uniform(1.0, 1.3))
        return await ask()

    async def _page(self, doing: str, send: Callable[[Client], Awaitable[Any]]) -> list[dict[str, Any]]:
        return (await self._list(doing, send))[0]

    async def _list(
        self, doing: str, send: Callable[[Client], Awaitable[Any]]
    ) -> tuple[list[dict[str, Any]], bool]:
        """Return the items of one page, and whether the endpoint says that it is the last."""
        page = plain(await self._call(doing, send))
        items = page.get("data") if page is not None and "data" in page else ()
        if page is None or not isinstance(items, list | None):
            raise garbled(self.profile, doing)
        return [item for item in items or () if isinstance(item, dict)], page.get("has_more") is False

    async def _all(
        self, doing: str, send: Callable[[Client, str | None], Awaitable[Any]], limit: int = 100_000
    ) -> list[dict[str, Any]]:
        """Return the items of all pages, each once; an endpoint that ignores `after` ends the walk."""
        found: dict[str, dict[str, Any]] = {}
        after: str | None = None
        for _ in range(_MOST_PAGES):
            page, last = await self.again(lambda cursor=after: self._list(doing, lambda c: send(c, cursor)))  # type: ignore[misc]
            fresh = [item for item in page if isinstance(item.get("id"), str) and item["id"] not in found]
            found |= {item["id"]: item for item in fresh}
            done = not fresh or after == fresh[-1]["id"] or len(found) >= limit
            if done or (last and len(page) < min(limit, PAGE)):
                break
            after = fresh[-1]["id"]
        return list(found.values())[:limit]

    def _with_id(self, shape: object, doing: str) -> dict[str, Any]:
        if not isinstance(shape, dict) or not isinstance(shape.get("id"), str) or not shape["id"]:
            raise garbled(self.profile, doing)
        return shape


def _client(profile: Profile, base_url: str, key: str) -> Client:
    """Build a client that only this profile's address and key reach, whatever the SDK finds in the environment."""
    host = urlsplit(base_url).hostname or ""

    async def answered(response: Any) -> None:
        if response.request.method != "GET" and response.has_redirect_location:
            raise sent_elsewhere(profile, response.status_code, str(response.headers.get("location", "")))

    here = host in ("127.0.0.1", "localhost", "::1")
    client = Client(
        base_url=base_url,
        api_key=key,
        max_retries=0,
        timeout=READ,
        http_client=openai.DefaultAsyncHttpxClient(trust_env=not here, event_hooks={"response": [answered]}),
    )
    if host != "api.openai.com":
        client.organization = client.project = None
        client._custom_headers = {}
        if hasattr(client, "admin_api_key"):
            client.admin_api_key = None
    return client


def plain(answer: object) -> dict[str, Any] | None:
    """Return an SDK object as the JSON it came from; None for anything else, such as a page of HTML."""
    if isinstance(answer, openai.BaseModel):
        return answer.to_dict(mode="json", warnings=False)
    return answer if isinstance(answer, dict) else None
