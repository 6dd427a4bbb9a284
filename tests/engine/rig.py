"""What the server's tests share: an engine in process with a scripted trainer and a scripted writer."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import openai

from tunedesk.engine.library import ModelLibrary
from tunedesk.engine.routes.context import Context, Limits
from tunedesk.engine.server import create_app
from tunedesk.engine.state import EngineState
from tunedesk.engine.wire import GenerationChunk, GenerationRequest
from tunedesk.engine.worker import Worker
from tunedesk.errors import EngineError

KEY = "sk-local-test"
TRAINER = Path(__file__).with_name("scripted_trainer.py")


def trainer(*options: str) -> list[str]:
    return [sys.executable, str(TRAINER), *options]


def rows(count: int = 12) -> bytes:
    messages = [
        {"role": "user", "content": "Where is my card?"},
        {"role": "assistant", "content": "On its way."},
    ]
    return b"".join(json.dumps({"messages": messages}).encode() + b"\n" for _ in range(count))


def base_model(folder: Path, name: str = "tiny") -> Path:
    model = folder / name
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    (model / "tokenizer.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"base weights of " + name.encode())
    return model


@dataclass
class ScriptedWriter:
    """A generator that replies with fixed words and remembers what it was asked."""

    words: list[str] = field(default_factory=lambda: ["Good ", "day", "."])
    asked: list[GenerationRequest] = field(default_factory=list)
    closed: int = 0
    pause: float = 0.0

    def stream(self, request: GenerationRequest) -> Iterator[GenerationChunk]:
        self.asked.append(request)
        content = request.messages[-1]["content"]
        if content == "too long":
            raise ValueError("the conversation has 9000 tokens, but the model reads 8192")
        if content == "broken":
            raise EngineError("the model tiny cannot be loaded")
        try:
            for number, word in enumerate(self.words, 1):
                time.sleep(self.pause)
                told = [{"token": word, "logprob": -0.5, "bytes": list(word.encode()), "top_logprobs": []}]
                yield GenerationChunk(word, None, 7, number, told if request.top_logprobs is not None else [])
                if content == "breaks later":
                    raise EngineError("the model fell over")
            yield GenerationChunk("", "stop", 7, len(self.words))
        finally:
            self.closed += 1


@dataclass
class Rig:
    """One engine in process, and clients of it."""

    context: Context
    writer: ScriptedWriter
    transport: httpx2.ASGITransport

    @property
    def state(self) -> EngineState:
        return self.context.state

    def client(self, *, key: str = KEY, strict: bool = True) -> openai.AsyncOpenAI:
        http = httpx2.AsyncClient(transport=self.transport)
        return openai.AsyncOpenAI(
            base_url="http://engine/v1",
            api_key=key,
            max_retries=0,
            http_client=http,
            _strict_response_validation=strict,
        )

    def http(self, *, key: str | None = KEY) -> httpx2.AsyncClient:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return httpx2.AsyncClient(transport=self.transport, base_url="http://engine", headers=headers)

    async def until(self, job_id: str, *statuses: str, seconds: float = 20) -> str:
        """Wait for a job's status."""
        return str(await eventually(lambda: _one_of(self.state.jobs.get(job_id).status, statuses), seconds))


def _one_of(status: str, wanted: Sequence[str]) -> str | None:
    return status if status in wanted else None


async def eventually(look: Callable[[], Any], seconds: float = 20) -> Any:
    """Look again and again until something is there."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come in time")


@contextmanager
def engine(
    folder: Path,
    command: Sequence[str] | None = None,
    *,
    limits: Limits | None = None,
    started: bool = True,
    stop_grace: float = 10,
) -> Iterator[Rig]:
    """Run an engine on `folder` with a base model `tiny`."""
    if not (folder / "more" / "tiny").exists():
        base_model(folder / "more")
    state = EngineState(folder / "engine")
    library = ModelLibrary(state, [folder / "more"])
    worker = Worker(state, library, trainer() if command is None else command, stop_grace=stop_grace)
    writer = ScriptedWriter()
    context = Context(state, library, worker, writer, KEY, limits or Limits())
    transport = httpx2.ASGITransport(app=create_app(context))
    if started:
        worker.start()
    try:
        yield Rig(context, writer, transport)
    finally:
        worker.stop()
        context.writers.shutdown()
        state.close()
