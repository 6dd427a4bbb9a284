"""What tests of the SDK's boundary share: a client of a canned endpoint, and answers it gives."""

from __future__ import annotations

from dataclasses import replace

from tests.fakes import Canned, HttpEndpoint, no_pause
from tunedesk.config import Profile
from tunedesk.providers.openai_compatible import OpenAICompatible

PROFILE = Profile(name="cloud", base_url="", label="Cloud")
JOB = {"id": "ftjob-1", "object": "fine_tuning.job", "status": "queued", "model": "m", "created_at": 5}
FILE = {"id": "file-1", "filename": "t.jsonl", "bytes": 12, "purpose": "fine-tune", "status": "processed"}
KEY = "sk-canary-1234"


def client(http: HttpEndpoint, profile: Profile = PROFILE) -> OpenAICompatible:
    """Return a client of `http` that never waits."""
    profile = replace(profile, base_url=http.base_url)
    return OpenAICompatible(profile, lambda _given_up: (http.base_url, KEY), account=KEY, pause=no_pause)


def failure(status: int, code: str | None = None, **headers: str) -> Canned:
    """Return an error in OpenAI's form."""
    body = {"error": {"message": "their words", "type": "t", "code": code, "param": None}}
    return Canned(body, status, headers={k.replace("_", "-"): v for k, v in headers.items()})
