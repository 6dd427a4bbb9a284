"""The model hub: what a repository holds, told before it is fetched, and its files, however often the line breaks."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HUB_SECONDS = 3.0
"""How long the hub may take to answer before it counts as out of reach."""
STALL_SECONDS = 10.0
"""How long a running download may stand still before it is asked for again."""
BREAKS_ALLOWED = 5
"""How often in a row the line may break without a byte between."""
_PAUSE_SECONDS = 0.5
"""Between a broken line and the next try, longer each time."""
_CHUNK = 1 << 20
_ANSWER_BYTES = 32 << 20
_TEXTS = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "model.safetensors.index.json",
)
_WEIGHTS = re.compile(r"model[\w.-]*\.safetensors", re.ASCII)
"""The weights that a model is loaded from; other safetensors of a repository are the same once more, or adapters."""
_COMMIT = re.compile(r"[0-9A-Za-z]{1,64}", re.ASCII)
_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?", re.ASCII)
_BROKEN = (urllib.error.URLError, http.client.HTTPException, ssl.SSLError, TimeoutError, ConnectionError)
_ON = ("1", "true", "yes", "on")


class NotHere(Exception):
    """A source cannot give the model; its words say why."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a repository."""

    name: str
    size: int
    """Bytes."""
    digest: str
    """SHA-256 of a large file (64 digits), git's own SHA-1 of a small one (40)."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What a repository holds at one commit, of the files that a model is loaded from."""

    repository: str
    commit: str
    files: tuple[HubFile, ...]
    parameters: int
    """As the hub counts them, else as many as the weights have in 16 bits."""

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def offline() -> str:
    """Return why the hub is not asked at all, empty when it is."""
    is_off = os.environ.get("HF_HUB_OFFLINE", "").lower() in _ON
    return "the model hub is switched off (--offline, or HF_HUB_OFFLINE)" if is_off else ""


def _address() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def _opened(url: str, seconds: float, headers: Mapping[str, str] = {}) -> http.client.HTTPResponse:
    """Ask for `url`; the user's HF_TOKEN goes to the hub itself and is not sent on to where it points."""
    request = urllib.request.Request(url, headers=dict(headers))
    if token := os.environ.get("HF_TOKEN", "").strip():
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=seconds)
    return response


def list_files(repository: str) -> Listing:
    """Return what the hub has of `repository` (ORG/NAME). Raises NotHere when it cannot be loaded from there."""
    answer = _answer(f"{_address()}/api/models/{repository}?blobs=true")
    try:
        commit = str(answer["sha"])
        entries = [entry for entry in answer["siblings"] if _is_wanted(str(entry["rfilename"]))]
        files = tuple(_file(entry) for entry in entries)
        counted = (answer.get("safetensors") or {}).get("total")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NotHere(f"the model hub's answer has no {error}") from error
    names = {file.name for file in files}
    weights = sum(file.size for file in files if file.name.endswith(".safetensors"))
    missing = [
        kind
        for kind, is_there in (
            ("safetensors", weights > 0),
            ("config.json", "config.json" in names),
            ("tokenizer", any(name.startswith("tokenizer") for name in names)),
        )
        if not is_there
    ]
    if missing or not _COMMIT.fullmatch(commit):
        raise NotHere(f"the model hub has no {' and no '.join(missing) or 'commit'} of {repository}")
    return Listing(repository, commit, files, counted if isinstance(counted, int) else weights // 2)


def _is_wanted(name: str) -> bool:
    return name in _TEXTS or _WEIGHTS.fullmatch(name) is not None


def _file(entry: Mapping[str, Any]) -> HubFile:
    """Read one entry of the hub's list; raises KeyError, TypeError or ValueError when it is none."""
    digest = str((entry.get("lfs") or {}).get("sha256") or entry["blobId"])
    size = entry["size"]
    if not isinstance(size, int) or size < 0 or not _HASH.fullmatch(digest):
        raise ValueError("size or hash of a file")
    return HubFile(str(entry["rfilename"]), size, digest)


def _answer(url: str) -> dict[str, Any]:
    """Return the hub's JSON answer; looking its name up counts towards HUB_SECONDS too."""
    answer: list[Any] = []
    failure = ["it does not answer"]

    def ask() -> None:
        try:
            with _opened(url, HUB_SECONDS) as response:
                answer.append(json.loads(response.read(_ANSWER_BYTES)))
        except urllib.error.HTTPError as error:
            failure[0] = _refusal(error)
        except (OSError, ValueError, RecursionError, http.client.HTTPException) as error:
            failure[0] = f"the model hub cannot be reached ({error})"

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(HUB_SECONDS)
    if not answer or not isinstance(answer[0], dict):
        raise NotHere(failure[0] if not answer else "the model hub's answer is no object")
    return answer[0]


def _refusal(error: urllib.error.HTTPError) -> str:
    """Say what a status of the hub means."""
    with error:
        if error.code in (401, 403, 404):
            return (
                "the model hub has no such model, or shows it only to those it knows"
                " (ask for access there and set HF_TOKEN)"
            )
        return f"the model hub answers {error.code}"


def download(listing: Listing, file: HubFile, path: Path, got: Callable[[int], None]) -> None:
    """Bring one file to `path`, going on with what lies there already, and check its hash.

    `got` hears of each further stretch of bytes, of 0 now and then; it may raise to stop. Raises NotHere.
    """
    if not _downloaded(listing, file, path, got):
        path.unlink()  # what lay there was another file's, or damaged: once more, from nothing
        got(-file.size)
        if not _downloaded(listing, file, path, got):
            path.unlink()
            raise NotHere(f"{file.name} from the model hub does not match its hash")


def _downloaded(listing: Listing, file: HubFile, path: Path, got: Callable[[int], None]) -> bool:
    """Bring the rest of the file; return whether the whole has its hash."""
    digest = hashlib.sha256() if len(file.digest) == 64 else hashlib.sha1(f"blob {file.size}\0".encode())
    url = f"{_address()}/{listing.repository}/resolve/{listing.commit}/{urllib.parse.quote(file.name)}"
    have = breaks = 0
    with path.open("a+b") as out:
        out.seek(0)
        while chunk := out.read(_CHUNK):
            digest.update(chunk)
            have += len(chunk)
            got(len(chunk))
        while have < file.size:
            try:
                for chunk in _rest(url, have):
                    out.write(chunk)
                    digest.update(chunk)
                    have += len(chunk)
                    breaks = 0
                    got(len(chunk))
                    if have > file.size:
                        break
                else:
                    if have < file.size:
                        raise ConnectionError("it ended too early")
            except urllib.error.HTTPError as error:
                raise NotHere(_refusal(error)) from error
            except _BROKEN as error:
                breaks += 1
                if breaks > BREAKS_ALLOWED:
                    raise NotHere(f"the model hub broke off: {error}") from error
                time.sleep(_PAUSE_SECONDS * breaks)
                got(0)
    if have > file.size:
        got(file.size - have)
    return have == file.size and digest.hexdigest() == file.digest


def _rest(url: str, have: int) -> Iterator[bytes]:
    """Yield the bytes of a file from `have` on, also from a server that sends the whole whatever is asked."""
    asked = {"Range": f"bytes={have}-"} if have else {}
    with _opened(url, STALL_SECONDS, asked) as response:
        skip = have if response.status == 200 else 0
        while chunk := response.read1(_CHUNK):
            if skip < len(chunk):
                yield chunk[skip:]
            skip = max(0, skip - len(chunk))
