"""A model hub on loopback, which can hold a file back, break off, lie, or know nothing of ranges."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

REPOSITORY = "someone/Fake-1M"
WEIGHTS = "model.safetensors"


@dataclass
class Hub:
    """What the hub offers as REPOSITORY, how it behaves, and what it was asked."""

    files: dict[str, bytes]
    parameters: int = 1000
    wrong: bool = False
    """Name another hash for the weights than they have."""
    ranges: bool = True
    """Answer ranges; else the whole file whatever is asked."""
    hold_at: int | None = None
    """Send so many bytes of the weights and wait for `go`."""
    cuts: list[int] = field(default_factory=list)
    """Break off after so many bytes of the weights, an entry an answer."""
    refuses: int | None = None
    """Answer everything with this status."""
    moved_to: str | None = None
    """Where the weights lie, if not here."""
    go: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Paths with the range asked for."""
    tokens: list[str] = field(default_factory=list)
    """The Authorization headers."""

    def ranges_of_weights(self) -> list[str]:
        return [asked for path, asked in self.asked if path.endswith(WEIGHTS)]

    def entry(self, name: str) -> dict[str, Any]:
        data = self.files[name]
        entry: dict[str, Any] = {"rfilename": name, "size": len(data)}
        entry["blobId"] = hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
        if name.endswith(".safetensors"):
            entry["lfs"] = {"sha256": "0" * 64 if self.wrong else hashlib.sha256(data).hexdigest()}
        return entry

    def listing(self) -> bytes:
        siblings = [self.entry(name) for name in self.files]
        return json.dumps(
            {"sha": "c0ffee", "siblings": siblings, "safetensors": {"total": self.parameters}}
        ).encode()


class _Handler(http.server.BaseHTTPRequestHandler):
    hub: Hub

    def do_GET(self) -> None:
        hub = self.hub
        hub.asked.append((self.path, self.headers.get("Range", "")))
        hub.tokens.append(self.headers.get("Authorization", ""))
        if hub.refuses is not None:
            self.send_error(hub.refuses)
        elif self.path == f"/api/models/{REPOSITORY}?blobs=true":
            self._send(hub.listing())
        elif f"/{REPOSITORY}/resolve/c0ffee/" in self.path and hub.moved_to and self.path.endswith(WEIGHTS):
            self.send_response(302)
            self.send_header("Location", hub.moved_to + self.path)
            self.end_headers()
        elif f"/{REPOSITORY}/resolve/c0ffee/" in self.path:
            name = self.path.rpartition("/")[2]
            self._send(hub.files[name], weights=name == WEIGHTS)
        else:
            self.send_error(404)

    def _send(self, body: bytes, *, weights: bool = False) -> None:
        hub, asked = self.hub, self.headers.get("Range", "")
        first = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and hub.ranges else 0
        self.send_response(206 if first else 200)
        body = body[first:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if weights and (held := hub.hold_at) is not None:
            self.wfile.write(body[:held])
            self.wfile.flush()
            hub.go.wait(30)
            body = body[held:]
        elif weights and hub.cuts:
            self.wfile.write(body[: hub.cuts.pop(0)])
            self.wfile.flush()
            self.connection.close()
            return
        try:
            self.wfile.write(body)
        except ConnectionError:
            self.close_connection = True

    def log_message(self, *_: Any) -> None: ...

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError, ValueError):  # the client left, or it was broken off
            super().handle()


@contextmanager
def opened_hub(hub: Hub) -> Iterator[str]:
    """Run a hub and yield its address."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            hub.go.set()
            server.shutdown()
            thread.join()


@contextmanager
def asked_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Run a hub that this process and its children ask."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with opened_hub(hub) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        yield hub
