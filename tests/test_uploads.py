"""Training files at the provider: the same bytes once, verified, and never those that have changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import Endpoint
from tests.job_rig import service
from tunedesk.errors import JobError, ProviderError
from tunedesk.jobs import (
    LaunchRequest,
    new_launch_id,
)
from tunedesk.store import Store
from tunedesk.store.jobs import ABANDONED


async def test_the_same_bytes_are_uploaded_once_even_with_an_empty_store(
    store: Store, tmp_path: Path, request_: LaunchRequest
) -> None:
    endpoint = Endpoint()
    await service(store, endpoint).launch(request_)
    await service(store, endpoint).launch(replace(request_, launch=new_launch_id()))
    with Store(tmp_path / "elsewhere" / "other.sqlite3") as fresh:
        await service(fresh, endpoint).launch(replace(request_, launch=new_launch_id()))
    assert endpoint.calls.count("upload") == 2
    assert len(endpoint.jobs) == 3


async def test_another_key_of_the_same_profile_is_another_account_with_other_files(
    store: Store, request_: LaunchRequest
) -> None:
    ours, theirs = Endpoint(), Endpoint()
    await service(store, ours).launch(request_)
    again = replace(request_, launch=new_launch_id())
    launch = await service(store, theirs, account="…other").launch(again)
    assert theirs.calls.count("upload") == 2
    assert "file" not in theirs.calls, "no file of the first account is asked for with the other key"
    await service(store, ours).launch(replace(request_, launch=new_launch_id()))
    assert ours.calls.count("upload") == 2
    assert launch.training.file in theirs.files


async def test_an_upload_that_was_broken_off_goes_on_after_a_restart(
    store: Store, request_: LaunchRequest
) -> None:
    endpoint = Endpoint(part_bytes=200)
    endpoint.lose("part", ProviderError("no", status=401), carried_out=False)
    jobs = service(store, endpoint)
    with pytest.raises(ProviderError):
        await jobs.launch(request_)
    await service(store, endpoint).launch(request_)
    assert endpoint.calls.count("open_upload") == 2, "one for each file"
    assert b"".join(endpoint.uploads["up-1"]) == request_.training.read_bytes()


async def test_a_launch_is_given_up_with_its_half_upload(store: Store, request_: LaunchRequest) -> None:
    endpoint = Endpoint(part_bytes=200)
    endpoint.lose("part", ProviderError("no", status=401), carried_out=False)
    jobs = service(store, endpoint)
    with pytest.raises(ProviderError):
        await jobs.launch(request_)
    assert (await jobs.abandon(request_.launch)).state == ABANDONED
    assert endpoint.uploads == {}
    assert await jobs.reconcile() == []
    with pytest.raises(JobError, match="given up"):
        await jobs.carry_out(request_.launch)
    done = await jobs.launch(replace(request_, launch=new_launch_id()))
    with pytest.raises(JobError, match="cannot be given up"):
        await jobs.abandon(done.id)


async def test_a_file_that_was_deleted_there_is_uploaded_again(store: Store, request_: LaunchRequest) -> None:
    endpoint = Endpoint()
    await service(store, endpoint).launch(request_)
    endpoint.files.clear()
    await service(store, endpoint).launch(replace(request_, launch=new_launch_id()))
    assert endpoint.calls.count("upload") == 4


async def test_a_file_that_changed_after_the_intent_is_not_sent(
    store: Store, request_: LaunchRequest
) -> None:
    jobs = service(store, Endpoint())
    jobs.prepare(request_)
    request_.training.write_text("other\n")
    with pytest.raises(JobError, match="has changed"):
        await jobs.launch(request_)


async def test_a_file_that_arrives_short_or_is_refused_stops_the_launch(
    store: Store, request_: LaunchRequest
) -> None:
    for change, words in (({"bytes": 5}, "5 of"), ({"status": "error"}, "could not process")):
        endpoint = Endpoint(processing=2)

        def spoil(endpoint: Endpoint = endpoint, change: dict[str, Any] = change) -> None:
            if endpoint.calls[-1] == "file":
                endpoint.files = {
                    k: replace(f, **{"status": "processed", **change}) for k, f in endpoint.files.items()
                }

        endpoint.moment = spoil
        with pytest.raises(JobError, match=words):
            await service(store, endpoint).launch(replace(request_, launch=new_launch_id()))
        assert not endpoint.jobs
