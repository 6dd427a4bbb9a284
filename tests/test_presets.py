"""One contract for every provider: each preset against an endpoint that answers in its maker's documented shapes."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import Canned, HttpEndpoint, no_pause
from tunedesk.config import Profile, find_profile, profiles
from tunedesk.core.fine_tuning import Hyperparameters
from tunedesk.errors import ProviderError, UsageError
from tunedesk.jobs import LAUNCH_KEY, EventSeen, JobChanged, JobService, LaunchRequest, PointSeen
from tunedesk.paths import Paths
from tunedesk.providers.openai_compatible import OpenAICompatible
from tunedesk.store import Store

ROWS = b'{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]}\n' * 12
BOM = b"\xef\xbb\xbf"
BEFORE, AFTER = date(2026, 11, 22), date(2027, 1, 7)
METRICS = {
    "step": 2, "total_steps": 4, "train_loss": 1.5, "train_mean_token_accuracy": 0.7, "valid_loss": 1.7,
    "valid_mean_token_accuracy": 0.6,
}  # fmt: skip


@dataclass
class Dialect:
    """How one kind of provider tells a job, and what our request for it must hold."""

    statuses: tuple[str, ...]
    sends: dict[str, Any]
    """Keys of the request beside the model and the files."""
    job: dict[str, Any]
    events: list[dict[str, Any]]
    checkpoints: list[dict[str, Any]]
    result_file: bytes | None = None
    rate: float = 1.5


def _in_method(rate: float) -> dict[str, Any]:
    asked = {"n_epochs": 2, "learning_rate_multiplier": rate}
    return {"method": {"type": "supervised", "supervised": {"hyperparameters": asked}}}


def _event(number: int, message: str, **more: Any) -> dict[str, Any]:
    return {"object": "fine_tuning.job.event", "id": f"ftevent-{number}", "created_at": 1_700_000_000 + number,
            "level": "info", "message": message, "type": "message"} | more  # fmt: skip


def _checkpoint(step: int, metrics: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"object": "fine_tuning.job.checkpoint", "id": f"ftckpt-{step}", "created_at": 1_700_000_000,
            "fine_tuned_model_checkpoint": f"ft:m:ckpt-step-{step}", "step_number": step, "metrics": metrics,
            **more}  # fmt: skip


MEASURED = _event(3, "Step 2/4: training loss=1.50", type="metrics", data=METRICS)
TUNED = {"fine_tuned_model": "ft:m:org:bank:abc", "trained_tokens": 480, "result_files": ["file-result"]}
OPENAI = Dialect(
    statuses=("validating_files", "queued", "running"),
    sends={**_in_method(1.5), "suffix": "bank", "seed": 7, "metadata": True},
    job={**TUNED, "object": "fine_tuning.job", "error": {"code": None, "message": None, "param": None},
         "estimated_finish": None, "integrations": [], "organization_id": "org-1", "seed": 7,
         "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 1}}}},
    events=[_event(1, "Created fine-tuning job"), _event(2, "", type="moderation_checks"), MEASURED],
    checkpoints=[_checkpoint(2, METRICS)],
)  # fmt: skip
AZURE = replace(
    OPENAI,
    statuses=("pending", "running"),
    sends={**OPENAI.sends, "trainingType": "GlobalStandard"},
    events=[_event(1, "Job enqueued"), _event(2, "Preprocessing completed")],
    checkpoints=[],
    result_file=b"step,train_loss,train_mean_token_accuracy,valid_loss,validation_mean_token_accuracy,"
    b"full_valid_loss,full_valid_mean_token_accuracy\r\n2,1.5,0.7,1.7,0.6,,\r\n",
)
NEBIUS = Dialect(
    statuses=("running",),
    sends={"hyperparameters": {"n_epochs": 2, "learning_rate_multiplier": 2e-5}, "suffix": "bank", "seed": 7},
    job={"fine_tuned_model": None, "trained_tokens": 480, "result_files": [],
         "hyperparameters": {"n_epochs": 2, "learning_rate_multiplier": 2e-5, "lora": True, "lora_r": 16}},
    events=[_event(1, "Dataset processed"), _event(2, "Training completed")],
    checkpoints=[_checkpoint(2, {"train_loss": 1.5, "valid_loss": 1.7}, result_files=["file-w1", "file-w2"])],
    rate=2e-5,
)  # fmt: skip
DIALECTS = {"openai": OPENAI, "azure": AZURE, "nebius": NEBIUS, "local": OPENAI}
URLS = ["http://trainer.test:8700/v1", "https://any.example/openai/v1"]
"""A remote engine and any compatible URL: no preset, OpenAI's dialect."""


def test_every_preset_has_its_dialect_here(paths: Paths) -> None:
    assert set(profiles(paths)) == set(DIALECTS)


def serve(http: HttpEndpoint, dialect: Dialect, profile: Profile) -> None:
    """Let `http` answer as the dialect has it: an upload, one job, its end."""
    sent = ROWS if not profile.utf8_bom else BOM + ROWS
    file = {
        "id": "file-1",
        "object": "file",
        "bytes": len(sent),
        "created_at": 1,
        "filename": "x",
        "purpose": "fine-tune",
    }
    job = {"id": "ftjob-1", "created_at": 1_700_000_000, "model": "m", "training_file": "file-1"}
    http.answer("GET", "/v1/files", Canned({"object": "list", "data": [], "has_more": False}))
    http.answer("POST", "/v1/files", Canned({**file, "status": "processed"}))
    http.answer("POST", "/v1/fine_tuning/jobs", Canned({**job, "status": dialect.statuses[0]}))
    looks = [Canned({**job, "status": status}) for status in dialect.statuses]
    http.answer(
        "GET", "/v1/fine_tuning/jobs/ftjob-1", *looks, Canned({**job, **dialect.job, "status": "succeeded"})
    )
    http.answer(
        "GET",
        "/v1/fine_tuning/jobs/ftjob-1/events",
        Canned({"data": dialect.events[::-1], "has_more": False}),
    )
    http.answer(
        "GET",
        "/v1/fine_tuning/jobs/ftjob-1/checkpoints",
        Canned({"data": dialect.checkpoints, "has_more": False}),
    )
    if dialect.result_file is not None:
        http.answer(
            "GET", "/v1/files/file-result/content", Canned(dialect.result_file, content_type="text/csv")
        )


def at(http: HttpEndpoint, paths: Paths, name: str) -> OpenAICompatible:
    profile = find_profile(paths, name)
    return OpenAICompatible(profile, lambda _: (http.base_url, "sk-x"), account="sk-x", pause=no_pause)


def asked(tmp_path: Path, dialect: Dialect) -> LaunchRequest:
    training = tmp_path / "train.jsonl"
    training.write_bytes(ROWS)
    rate = Hyperparameters(n_epochs=2, learning_rate_multiplier=dialect.rate)
    return LaunchRequest("m", training, suffix="bank", seed=7, hyperparameters=rate)


@pytest.mark.parametrize("name", [*DIALECTS, *URLS])
async def test_a_job_is_launched_and_followed_in_every_dialect(
    http: HttpEndpoint, paths: Paths, store: Store, tmp_path: Path, name: str
) -> None:
    dialect = DIALECTS.get(name, OPENAI)
    provider = at(http, paths, name)
    serve(http, dialect, provider.profile)
    jobs = JobService(store, provider, pause=no_pause, today=lambda: BEFORE)
    launch = await jobs.launch(asked(tmp_path, dialect))
    (upload,) = [r for r in http.requests if (r.method, r.path) == ("POST", "/v1/files")]
    assert (BOM + ROWS in upload.body) is provider.profile.utf8_bom
    (create,) = [r for r in http.requests if (r.method, r.path) == ("POST", "/v1/fine_tuning/jobs")]
    sends = {"metadata": {LAUNCH_KEY: launch.id}} if "metadata" in dialect.sends else {}
    assert json.loads(create.body) == {"model": "m", "training_file": "file-1", **dialect.sends, **sends}
    updates = [update async for update in jobs.tail("ftjob-1")]
    told = [u.job.status for u in updates if isinstance(u, JobChanged)]
    assert told[-len(dialect.statuses) :] == [*dialect.statuses[1:], "succeeded"]
    assert [u.event.id for u in updates if isinstance(u, EventSeen)] == [one["id"] for one in dialect.events]
    (point,) = [u.point for u in updates if isinstance(u, PointSeen)]
    assert (point.step, point.train_loss, point.valid_loss) == (2, 1.5, 1.7)
    await provider.close()


@pytest.mark.parametrize("name", [*DIALECTS, *URLS])
async def test_a_lost_answer_makes_no_second_job_in_any_dialect(
    http: HttpEndpoint, paths: Paths, store: Store, tmp_path: Path, name: str
) -> None:
    dialect = DIALECTS.get(name, OPENAI)
    provider = at(http, paths, name)
    request = replace(asked(tmp_path, dialect), launch="launch-x")
    metadata = {LAUNCH_KEY: "launch-x"} if provider.profile.takes_metadata else {}
    made = {"id": "ftjob-1", "status": dialect.statuses[0], "created_at": 2_000_000_000, "model": "m",
            "training_file": "file-1", "metadata": metadata}  # fmt: skip
    http.answer("POST", "/v1/fine_tuning/jobs", Canned(made, cut=0))
    listed = (Canned({"data": jobs, "has_more": False}) for jobs in ([], [made]))
    http.answer("GET", "/v1/fine_tuning/jobs", *listed)
    serve(http, dialect, provider.profile)
    launch = await JobService(store, provider, pause=no_pause, today=lambda: BEFORE).launch(request)
    assert launch.job == "ftjob-1"
    assert [(r.method, r.path) for r in http.requests].count(("POST", "/v1/fine_tuning/jobs")) == 1
    await provider.close()


async def test_after_the_closing_openai_is_sent_nothing_and_its_refusal_before_is_told_with_the_way_out(
    http: HttpEndpoint, paths: Paths, store: Store, tmp_path: Path
) -> None:
    provider = at(http, paths, "openai")
    error = {
        "message": "Training is not available.",
        "code": "training_not_available",
        "type": "t",
        "param": None,
    }
    http.answer("POST", "/v1/fine_tuning/jobs", Canned({"error": error}, 403))
    serve(http, OPENAI, provider.profile)
    request = asked(tmp_path, OPENAI)
    with pytest.raises(ProviderError, match="does not offer training") as refused:
        await JobService(store, provider, pause=no_pause, today=lambda: BEFORE).launch(request)
    sent = len(http.requests)
    with pytest.raises(ProviderError, match="no new jobs since 2027-01-06") as closed:
        await JobService(store, provider, pause=no_pause, today=lambda: AFTER).launch(request)
    assert len(http.requests) == sent
    for caught in (refused, closed):
        assert caught.value.code == "training_not_available"
        assert "--provider local" in caught.value.hint
    await provider.close()


def test_the_calendar_of_what_ends_is_told_in_words(paths: Paths) -> None:
    notices = profiles(paths)["openai"].notices(date(2026, 11, 22))
    assert [one.split(":")[0] for one in notices] == [
        "since 2026-05-07", "since 2026-07-02", "from 2027-01-06", "from 2027-01-14",
    ]  # fmt: skip
    assert "stop answering" in notices[-1]
    assert all(len(one.date) == 10 for p in profiles(paths).values() for one in p.closing)


def test_what_a_preset_says_of_itself(paths: Paths) -> None:
    known = profiles(paths)
    assert known["azure"].suffix_limit == 18
    assert "deployed" in known["azure"].deployment
    assert not known["openai"].deployment
    assert not known["nebius"].pauses


def test_a_user_adds_capabilities_to_a_profile_of_their_own(paths: Paths) -> None:
    own = '[openai]\ncloses = ""\n[mine]\nbase_url = "https://x.test/v1"\nsuffix_limit = 9\n'
    (paths.config / "profiles.toml").write_text(
        own + 'closing = [{date = "2030-01-01", words = "all ends"}]\n'
    )
    known = profiles(paths)
    assert not known["openai"].is_closed(AFTER)
    assert known["mine"].notices(AFTER) == ["from 2030-01-01: all ends"]
    (paths.config / "profiles.toml").write_text(own + 'closing = [{when = "2030-01-01"}]\n')
    with pytest.raises(UsageError, match="mine"):
        profiles(paths)
