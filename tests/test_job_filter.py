"""The list of all jobs: the query grammar over them, and profiles asked side by side."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.fakes import Endpoint, ScriptedProvider, no_pause
from tunedesk.config import Profile
from tunedesk.core.fine_tuning import FineTuningJob, Hyperparameters
from tunedesk.core.searching.query import QueryError
from tunedesk.errors import ProviderError
from tunedesk.jobs import JobService
from tunedesk.jobs.job_filter import JobFacts, matching
from tunedesk.jobs.overview import Listed, refresh_all
from tunedesk.store import KnownJob, Store

JOBS = [
    JobFacts(
        KnownJob(
            "openai",
            FineTuningJob("j1", "succeeded", "gpt-4.1", 1, fine_tuned_model="ft:gpt-4.1:org:refund:1"),
        ),
        12.5,
        30.0,
        "banking",
    ),
    JobFacts(KnownJob("local", FineTuningJob("j2", "failed", "SmolLM2", 2)), 0.0, 1.0),
    JobFacts(
        KnownJob("local", FineTuningJob("j3", "running", "SmolLM2", 3, hyperparameters=Hyperparameters(3))),
        None,
        90.0,
    ),
]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [0, 1, 2]), ("refund", [0]), ("status:failed", [1]), ("-status:failed", [0, 2]),
        ("provider:local minutes>60", [2]), ("cost>5 OR epochs=3", [0, 2]), ("model:smol -status:running", [1]),
        ("/j[12]/", [0, 1]), ("dataset:bank", [0]), ("tokens>1", []),
    ],
)  # fmt: skip
def test_queries_over_jobs(query: str, found: list[int]) -> None:
    assert matching(JOBS, query) == found


@pytest.mark.parametrize("query", ["colour:red", "turns>3", "is:edited", "(status:failed"])
def test_what_jobs_do_not_have_is_said_with_its_column(query: str) -> None:
    with pytest.raises(QueryError):
        matching(JOBS, query)


async def test_an_unreachable_profile_is_told_and_blocks_no_other(store: Store) -> None:
    endpoint = Endpoint()
    endpoint.jobs["j"] = FineTuningJob("j", "running")
    hangs, down, up = (Profile(name, f"https://{name}.test/v1") for name in ("hangs", "down", "up"))

    async def connect(profile: Profile) -> JobService:
        if profile.name == "hangs":
            await asyncio.sleep(60)
        if profile.name == "down":
            raise ProviderError("down cannot be reached", "look")
        return JobService(store, ScriptedProvider(endpoint, profile), pause=no_pause)

    began = time.monotonic()
    listed = [one async for one in refresh_all([hangs, down, up], connect, patience=0.2)]
    assert time.monotonic() - began < 10
    assert set(listed) == {
        Listed("up", 1), Listed("down", trouble="down cannot be reached"), Listed("hangs", trouble="no answer in 0 s"),
    }  # fmt: skip
    assert listed[-1].profile == "hangs"
    assert [known.profile for known in store.jobs()] == ["up"]
