"""The workbench's own client against the engine's own server: the two halves keep the same contract."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import uvicorn

from tests.engine.rig import KEY, engine, trainer
from tunedesk.chat import ChatSession
from tunedesk.config import LOCAL, Profile
from tunedesk.core.fine_tuning import Hyperparameters
from tunedesk.engine.server import create_app
from tunedesk.jobs import EventSeen, JobChanged, JobService, LaunchRequest, PointSeen, new_launch_id
from tunedesk.providers.openai_compatible import OpenAICompatible
from tunedesk.store import Store


@asynccontextmanager
async def served(folder: Path, *options: str) -> AsyncIterator[OpenAICompatible]:
    """Serve an engine with a scripted trainer on loopback and give a client of it."""
    with engine(folder, trainer(*options)) as rig, socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(create_app(rig.context), log_config=None, lifespan="off", ws="none")
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve(sockets=[listener]))
        base_url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        provider = OpenAICompatible(Profile(LOCAL, base_url), lambda _: (base_url, KEY), account=KEY)
        try:
            yield provider
        finally:
            await provider.close()
            server.should_exit = True
            await running


def rows(path: Path, count: int, first: str) -> Path:
    messages = [{"role": "user", "content": first}, {"role": "assistant", "content": "On its way."}]
    path.write_text("".join(json.dumps({"messages": messages}) + "\n" for _ in range(count)))
    return path


async def test_a_job_is_launched_followed_and_chatted_with_on_the_real_server(
    tmp_path: Path, store: Store
) -> None:
    async with served(tmp_path / "e", "--steps", "6", "--delay", "0.01") as provider:
        jobs = JobService(store, provider)
        request = LaunchRequest(
            "tiny",
            rows(tmp_path / "train.jsonl", 12, "Where is my card?"),
            rows(tmp_path / "validation.jsonl", 10, "And now?"),
            hyperparameters=Hyperparameters(n_epochs=2),
            suffix="bank",
            seed=7,
            launch=new_launch_id(),
        )
        launch = await jobs.launch(request)
        assert launch.job is not None
        updates = [update async for update in jobs.tail(launch.job, interval=0.05)]
        job = [u.job for u in updates if isinstance(u, JobChanged)][-1]
        assert job.status == "succeeded"
        assert job.metadata["tunedesk_launch"] == launch.id
        assert job.hyperparameters.n_epochs == 2
        steps = [u.point.step for u in updates if isinstance(u, PointSeen)]
        assert sorted(set(steps)) == list(range(1, 7))
        seen = [u.event for u in updates if isinstance(u, EventSeen)]
        assert len({event.id for event in seen}) == len(seen)
        kept = {event.id for event in store.events(LOCAL, launch.job)}
        assert kept == {event.id for event in seen}
        assert (await provider.checkpoints(launch.job))[0].step == 3
        again = await jobs.launch(replace(request, launch=new_launch_id()))
        assert again.training.file == launch.training.file
        assert len(await provider.files("fine-tune")) == 2
        assert job.fine_tuned_model is not None
        session = ChatSession(provider, job.fine_tuned_model)
        assert "".join([delta.text async for delta in session.say("Where is my card?")]) == "Good day."
        assert session.reply is not None
        assert session.reply.system_fingerprint
        assert session.reply.usage is not None


async def test_the_server_makes_one_job_of_one_launch_however_often_it_is_asked(
    tmp_path: Path, store: Store
) -> None:
    async with served(tmp_path / "e", "--steps", "2") as provider:
        request = LaunchRequest("tiny", rows(tmp_path / "train.jsonl", 12, "Hello"))
        launch = await JobService(store, provider).launch(request)
        known = store.launch(launch.id)
        assert known is not None
        with Store(tmp_path / "behind" / "store.sqlite3") as behind:
            behind.add_launch(replace(known, state="validation_uploaded", job=None))
            repeated = await JobService(behind, provider).carry_out(launch.id)
        assert repeated.job == launch.job
        assert len(await provider.jobs()) == 1
        found = await provider.jobs(metadata={"tunedesk_launch": launch.id})
        assert [job.id for job in found] == [launch.job]
        assert await provider.jobs(metadata={"tunedesk_launch": "other"}) == []
