"""Profiles: which endpoint, whose key, what it can do. Shipped presets under the user's own TOML."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tunedesk.errors import UsageError
from tunedesk.paths import Paths, write_whole

LOCAL = "local"
"""Name of the profile that stands for the engine on this machine."""


@dataclass(frozen=True, slots=True)
class Closing:
    """A day from which a provider takes fewer jobs, or none."""

    date: str
    """YYYY-MM-DD."""
    words: str
    """Who or what it ends for, as the provider's own notice has it."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One endpoint as the user names it."""

    name: str
    base_url: str
    """Empty for the local engine until it is running."""
    key_variable: str = "TUNEDESK_API_KEY"
    """The environment variable that holds this profile's key, and no other's."""
    key_file: Path | None = None
    """A 0600 file with the key, asked before the environment."""
    label: str = ""
    default_model: str = ""
    uploads_above: int = 512 * 1024 * 1024
    """Bytes above which a file goes up in parts by the Uploads API."""
    takes_metadata: bool = True
    """Whether job metadata is kept, so that a launch can be found again by its id."""
    hyperparameters_in_method: bool = True
    """False where they stand at the top level of the request (Nebius)."""
    utf8_bom: bool = False
    """Whether training files must begin with a byte-order mark (Azure)."""
    tunable: tuple[str, ...] = ()
    """Models known to be tunable there; empty when unknown."""
    closes: str = ""
    """YYYY-MM-DD from which no new job can be created, where known."""
    closing: tuple[Closing, ...] = ()
    """What ends there and when, by date; the last words may be about models already tuned."""
    suffix_limit: int = 64
    """Most characters of a suffix."""
    absolute_learning_rate: bool = False
    """Whether `learning_rate_multiplier` holds the learning rate itself, such as 2e-5 (Nebius)."""
    pauses: bool = True
    """Whether jobs can be paused and resumed there."""
    extra_body: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Fields of its own that go with every request for a job (Azure: trainingType)."""
    deployment: str = ""
    """What must be done before a tuned model answers, in words; empty where it answers at once."""

    @property
    def is_local(self) -> bool:
        """Whether this is the engine on this machine."""
        return self.name == LOCAL

    def is_closed(self, today: date) -> bool:
        """Whether no new job can be created there on that day, as far as is known."""
        return bool(self.closes) and today.isoformat() >= self.closes

    def notices(self, today: date) -> list[str]:
        """Return what ends there, in words, past and to come, by date."""
        return [
            f"{'since' if today.isoformat() >= one.date else 'from'} {one.date}: {one.words}"
            for one in self.closing
        ]


@dataclass(frozen=True, slots=True)
class Notify:
    """How a job's end is told to someone who looks elsewhere: [notify] in settings.toml."""

    bell: bool = True
    osc: tuple[str, ...] = ("9",)
    """Terminal notifications: "9" (iTerm2, Windows Terminal, kitty, …), "777" (urxvt, foot, …)."""
    command: tuple[str, ...] = ()
    """A program and its arguments; {title}, {text}, {status}, {job} and {model} are put in."""


def notify_settings(paths: Paths) -> Notify:
    """Return how to notify; raises UsageError when settings.toml cannot be read."""
    own = paths.config / "settings.toml"
    if not own.exists():
        return Notify()
    try:
        values: dict[str, Any] = tomllib.loads(own.read_text(encoding="utf-8")).get("notify", {})
        fields: dict[str, Any] = {
            k: tuple(map(str, v)) if isinstance(v, list) else v for k, v in values.items()
        }
        return Notify(**fields)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, TypeError, AttributeError) as error:
        raise UsageError(f"{own}: {error}", "[notify] takes bell, osc and command") from error


def profiles(paths: Paths) -> dict[str, Profile]:
    """Return all profiles by name: the shipped presets, then `profiles.toml` in the config folder over them.

    Raises UsageError when the user's file cannot be read or has a wrong key.
    """
    merged: dict[str, dict[str, Any]] = tomllib.loads(
        resources.files("tunedesk.providers").joinpath("presets.toml").read_text(encoding="utf-8")
    )
    own = paths.config / "profiles.toml"
    if own.exists():
        try:
            for name, values in tomllib.loads(own.read_text(encoding="utf-8")).items():
                merged[name] = {**merged.get(name, {}), **values}
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, TypeError) as error:
            raise UsageError(
                f"{own}: {error}", "correct the file; each profile is a [table] with base_url"
            ) from error
    return {name: _profile(name, values, own) for name, values in merged.items()}


def _profile(name: str, values: dict[str, Any], source: Path) -> Profile:
    fields = dict(values)
    if "key_file" in fields:
        fields["key_file"] = Path(fields["key_file"]).expanduser()
    if "tunable" in fields:
        fields["tunable"] = tuple(fields["tunable"])
    try:
        fields["closing"] = tuple(Closing(**one) for one in fields.get("closing", ()))
        return Profile(name=name, **fields)
    except TypeError as error:
        raise UsageError(
            f"profile {name!r} in {source}: {error}", "see the README for the keys of a profile"
        ) from error


def find_profile(paths: Paths, wanted: str | None) -> Profile:
    """Return the profile named `wanted`, or one made for a bare base URL; the local engine when None.

    Raises UsageError for an unknown name.
    """
    known = profiles(paths)
    name = wanted or LOCAL
    if name in known:
        return known[name]
    parts = urlsplit(name)
    if parts.scheme in ("http", "https") and parts.netloc:
        url = name.rstrip("/")
        kept = next((one for one in known.values() if one.base_url.rstrip("/") == url), None)
        taken = parts.netloc in known
        return kept or Profile(
            name=f"{parts.netloc}{parts.path}" if taken else parts.netloc, base_url=url, label=url
        )
    raise UsageError(
        f"no provider named {name!r}", f"use one of {', '.join(known)}, or a base URL such as https://host/v1"
    )


def add_profile(paths: Paths, base_url: str) -> Profile:
    """Keep an endpoint under its host's name in the user's `profiles.toml`, and return its profile.

    An endpoint that is there already is returned as it is. Raises UsageError when `base_url` is none.
    """
    made = find_profile(paths, base_url.strip())
    if made.name in profiles(paths):
        return made
    own = paths.config / "profiles.toml"
    before = own.read_text(encoding="utf-8") if own.exists() else ""
    # A JSON string without control characters is a TOML basic string.
    block = f"[{json.dumps(made.name)}]\nbase_url = {json.dumps(made.base_url)}\nlabel = {json.dumps(made.label)}\n"
    write_whole(own, before + ("\n" if before else "") + block)
    return profiles(paths)[made.name]


def find_key(profile: Profile) -> str | None:
    """Return the key of `profile` from its key file or its own variable, or None when there is none.

    Raises UsageError when the key file is readable by others or the key holds characters that no key has.
    """
    key = os.environ.get(profile.key_variable, "")
    if profile.key_file is not None and profile.key_file.exists():
        if profile.key_file.stat().st_mode & 0o077:
            raise UsageError(
                f"the key file {profile.key_file} can be read by others", f"chmod 600 {profile.key_file}"
            )
        key = profile.key_file.read_text(encoding="utf-8")
    key = key.strip()
    if not key:
        return None
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UsageError(
            f"the key for {profile.name} (ends in {key[-4:]!r}) has a character that no key has",
            "copy it again",
        )
    return key
