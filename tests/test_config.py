"""Profiles of the user's own beside the presets, and keys that stay where they belong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunedesk.config import add_profile, find_key, find_profile, profiles
from tunedesk.errors import UsageError
from tunedesk.paths import Paths


def test_an_endpoint_that_was_added_is_a_profile_from_then_on(paths: Paths) -> None:
    made = add_profile(paths, "https://models.example.test/v1/")
    assert (made.name, made.base_url) == ("models.example.test", "https://models.example.test/v1")
    assert profiles(paths)["models.example.test"] == made
    assert add_profile(paths, "https://models.example.test/v1") == made
    other = add_profile(paths, "https://models.example.test/other/v1")
    assert find_profile(paths, other.name).base_url.endswith("/other/v1")
    assert len(profiles(paths)) == len({made.name, other.name}) + 4


def test_the_users_own_file_is_kept_as_it_is_when_one_is_added(paths: Paths) -> None:
    own = paths.config / "profiles.toml"
    own.write_text('# mine\n[work]\nbase_url = "https://work.test/v1"\nkey_variable = "WORK_KEY"\n')
    add_profile(paths, "http://127.0.0.1:9/v1")
    assert own.read_text().startswith("# mine\n[work]")
    assert profiles(paths)["work"].key_variable == "WORK_KEY"
    assert profiles(paths)["127.0.0.1:9"].base_url == "http://127.0.0.1:9/v1"


@pytest.mark.parametrize("wrong", ["nonsense", "ftp://x/y", "https://", ""])
def test_what_is_no_base_url_is_refused(wrong: str, paths: Paths) -> None:
    if wrong:
        with pytest.raises(UsageError, match="no provider named"):
            add_profile(paths, wrong)
    assert not (paths.config / "profiles.toml").exists()


def test_a_key_comes_from_its_own_variable_alone(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    assert find_key(find_profile(paths, "openai")) == "sk-openai"
    assert find_key(find_profile(paths, "https://elsewhere.test/v1")) is None
    monkeypatch.setenv("TUNEDESK_API_KEY", "tk-own")
    assert find_key(find_profile(paths, "https://elsewhere.test/v1")) == "tk-own"


def test_a_key_file_that_others_can_read_is_refused(paths: Paths, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("secret-1\n")
    key.chmod(0o644)
    (paths.config / "profiles.toml").write_text(
        f'[work]\nbase_url = "https://w.test/v1"\nkey_file = "{key}"\n'
    )
    with pytest.raises(UsageError, match="can be read by others"):
        find_key(find_profile(paths, "work"))
    key.chmod(0o600)
    assert find_key(find_profile(paths, "work")) == "secret-1"


@pytest.mark.parametrize("pasted", ["sk-abc…", "sk abc", "sk-\x1b[31m"])
def test_a_key_with_a_stray_character_is_named_by_its_end_alone(
    pasted: str, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-" + pasted)
    with pytest.raises(UsageError, match="a character that no key has") as caught:
        find_key(find_profile(paths, "openai"))
    assert "canary" not in caught.value.message


def test_a_broken_profiles_file_is_named(paths: Paths) -> None:
    (paths.config / "profiles.toml").write_text("[work\n")
    with pytest.raises(UsageError, match=r"profiles\.toml"):
        profiles(paths)
    (paths.config / "profiles.toml").write_text('[work]\nbase_uri = "x"\n')
    with pytest.raises(UsageError, match="work"):
        profiles(paths)
