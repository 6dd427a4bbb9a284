"""Talking to models: one session with one model, or one prompt to several side by side."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tunedesk.core.conversations import Row
from tunedesk.core.fine_tuning import ChatDelta, Usage
from tunedesk.errors import ProviderError, UsageError
from tunedesk.providers.base import Provider
from tunedesk.providers.replies import Reply, Sampling, stream_reply
from tunedesk.store import ChatTurn, Store

LOCAL_TEMPERATURE = 0.2
"""What this machine's models are asked with unless it is said: drawn at 1, the API's own, a small model says anything
(its publisher asks SmolLM2 with 0.2, https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct)."""


@dataclass(slots=True)
class ChatSession:
    """One conversation with one model, kept in the store when there is one."""

    provider: Provider
    model: str
    system: str = ""
    sampling: Sampling = field(default_factory=Sampling)
    """As it is given, but never without a temperature on this machine (`LOCAL_TEMPERATURE`)."""
    store: Store | None = None
    chat: int | None = None
    """Id of the kept chat, made at the first turn; set it to go on with one."""
    messages: list[dict[str, Any]] = field(default_factory=list)
    """What was said so far, without the system prompt."""
    reply: Reply | None = None
    """The latest answer, growing while it streams."""
    name: str = ""
    """What it goes by in a comparison; the model unless given."""

    def __post_init__(self) -> None:
        self.name = self.name or self.model
        if self.sampling.temperature is None and self.provider.profile.is_local:
            self.sampling = replace(self.sampling, temperature=LOCAL_TEMPERATURE)

    async def say(self, text: str) -> AsyncGenerator[ChatDelta, None]:
        """Say something and stream the answer; both are kept, also when the stream is cut or abandoned.

        Without any answer (an error, or stopped before the first word) what was said is taken back, to be said
        again. Raises ProviderError.
        """
        self._keep_user(text)
        async with contextlib.aclosing(self.answer()) as deltas:
            async for delta in deltas:
                yield delta

    async def answer(self) -> AsyncGenerator[ChatDelta, None]:
        """Stream an answer to the messages as they stand (whose last is the user's)."""
        head = [{"role": "system", "content": self.system}] if self.system else []
        reply = self.reply = Reply(self.model)
        try:
            stream = stream_reply(self.provider, [*head, *self.messages], reply, self.sampling)
            async with contextlib.aclosing(stream) as deltas:
                async for delta in deltas:
                    yield delta
        finally:
            if not reply.text:
                self.messages.pop()
            else:
                if not reply.error and reply.finish_reason is None:
                    reply.error = "the answer was stopped"
                self.messages.append({"role": "assistant", "content": reply.text})
                if self.store is not None and self.chat is not None:
                    self.store.add_turn(self.chat, _turn(reply, self.provider.profile.name))

    def row(self) -> Row:
        """Return what was said so far as a training conversation that tells where it is from."""
        head = [{"role": "system", "content": self.system}] if self.system else []
        metadata = {"source": "chat", "model": self.model}
        return {"messages": [*head, *(dict(message) for message in self.messages)], "metadata": metadata}

    def _keep_user(self, text: str) -> None:
        self.messages.append({"role": "user", "content": text})
        if self.store is None:
            return
        if self.chat is None:
            self.chat = self.store.start_chat(" ".join(text.split())[:80])
            if self.system:
                self.store.add_turn(self.chat, ChatTurn(role="system", text=self.system))
        self.store.add_turn(self.chat, ChatTurn(role="user", text=text))


@dataclass(slots=True)
class Comparison:
    """The same words to several sessions, their answers streamed at the same time.

    Sessions are told apart by their names; two of the same model need names of their own (UsageError).
    """

    sessions: Sequence[ChatSession]
    errors: dict[str, ProviderError] = field(default_factory=dict)
    """By the session's name: why it gave no answer to the latest words."""

    def __post_init__(self) -> None:
        names = [session.name for session in self.sessions]
        if len(set(names)) < len(names):
            raise UsageError(f"the same model twice: {', '.join(names)}", "name each model once")

    async def say(self, text: str) -> AsyncGenerator[tuple[str, ChatDelta], None]:
        """Yield (name of the session, delta) as they come; one that fails does not stop the others."""
        self.errors = {}
        queue: asyncio.Queue[tuple[str, ChatDelta | None]] = asyncio.Queue()

        async def one(session: ChatSession) -> None:
            try:
                async with contextlib.aclosing(session.say(text)) as deltas:
                    async for delta in deltas:
                        await queue.put((session.name, delta))
            except ProviderError as error:
                self.errors[session.name] = error
            finally:
                queue.put_nowait((session.name, None))

        tasks = [asyncio.create_task(one(session)) for session in self.sessions]
        streaming = len(tasks)
        try:
            while streaming:
                name, delta = await queue.get()
                if delta is None:
                    streaming -= 1
                else:
                    yield name, delta
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def replies(self) -> dict[str, Reply | None]:
        """The latest answer of each session by its name."""
        return {session.name: session.reply for session in self.sessions}


def _turn(reply: Reply, profile: str) -> ChatTurn:
    usage = reply.usage or Usage()
    return ChatTurn(
        role="assistant",
        text=reply.text,
        profile=profile,
        model=reply.model,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        first_token_s=reply.first_token_s,
        total_s=reply.total_s,
        system_fingerprint=reply.system_fingerprint,
        error=reply.error,
    )
