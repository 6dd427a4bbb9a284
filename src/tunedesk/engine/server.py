"""The server: the app of all routes behind the key, and `serve`, which runs it on a folder until it is stopped."""

from __future__ import annotations

import contextlib
import hmac
import logging
import resource as resource_limits
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunedesk import __version__
from tunedesk.engine.catalogue import DEFAULT_MODEL
from tunedesk.engine.journal import end_log, write_log
from tunedesk.engine.library import ModelLibrary
from tunedesk.engine.routes import chat, files, fine_tuning, models, speed, upkeep
from tunedesk.engine.routes.connection import Connection
from tunedesk.engine.routes.context import Context, Limits, answer, resource
from tunedesk.engine.state import EngineState
from tunedesk.engine.wire import ApiError, Generator
from tunedesk.engine.worker import Worker
from tunedesk.errors import EngineError, StoreError

log = logging.getLogger(__name__)

GRACE = 5
"""Seconds that open answers get to end after SIGTERM."""

_FILES = 16_384
"""Open files that are enough for any crowd one machine answers."""


def create_app(context: Context) -> Starlette:
    """Return the app over `context`, whose worker is started and stopped by the caller."""
    routes = [
        *files.routes(context),
        *fine_tuning.routes(context),
        *models.routes(context),
        *chat.routes(context),
        *upkeep.routes(context),
        *speed.routes(context),
        resource("/healthz", context, GET=health),
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(_AccessLog), Middleware(_KeyRequired, key=context.key)],
        exception_handlers={
            ApiError: _api_error,
            HTTPException: _http_error,
            StoreError: _store_error,
            OSError: _store_error,
            500: _bug,
        },
    )
    app.router.redirect_slashes = False
    return app


async def health(request: Request, context: Context) -> Response:
    """Tell how the engine is; without the key only that it is one, and which version."""
    if not request.scope["authorized"]:
        return JSONResponse({"status": "ok", "version": __version__})

    def told() -> dict[str, Any]:
        progress = context.worker.progress
        return {
            "status": "ok",
            "version": __version__,
            "state": "idle" if progress is None else "training",
            "running_job": None if progress is None else progress.shape(),
            "queued_jobs": context.state.jobs.count("queued"),
            "fetch": context.state.fetch_progress(DEFAULT_MODEL),
        }

    return await answer(told)


def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body(), error.status)


def _http_error(request: Request, error: Exception) -> Response:
    """Give the framework's own 404 and 405 OpenAI's form."""
    assert isinstance(error, HTTPException)
    target = f"{request.method} {request.url.path[:200]}"
    words = {404: f"Invalid URL ({target})", 405: f"Not allowed: {target}"}
    message = words.get(error.status_code, error.detail)
    return JSONResponse(ApiError(error.status_code, message).body(), error.status_code, error.headers)


def _store_error(request: Request, error: Exception) -> Response:
    log.error("a request failed on our own disk: %s", error)
    body = ApiError(
        500, f"The engine could not store or read its data: {error}", kind="server_error", code="storage"
    )
    return JSONResponse(body.body(), 500)


def _bug(request: Request, error: Exception) -> Response:
    body = ApiError(500, "The engine failed on this request; its log says more.", kind="server_error")
    return JSONResponse(body.body(), 500)


class _KeyRequired:
    """Answers 401 to every request without the key, but for the bare /healthz."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._key = key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"authorization"), None)
        scheme, _, key = (given or b"").partition(b" ")
        scope["authorized"] = scheme.lower() == b"bearer" and hmac.compare_digest(key.strip(), self._key)
        if scope["authorized"] or scope["path"] == "/healthz":
            await self._app(scope, receive, send)
            return
        if given is None:
            error = ApiError(401, "You didn't provide an API key: send it as 'Authorization: Bearer KEY'.")
        else:
            error = ApiError(401, "Incorrect API key provided.", code="invalid_api_key")
        response = JSONResponse(error.body(), 401, {"WWW-Authenticate": "Bearer"})
        await response(scope, receive, send)


class _AccessLog:
    """Logs method, path, status and time of each request: no query, no body, and no path without the key."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            path = scope["path"][:200] if scope.get("authorized") else "-"
            took = (time.perf_counter() - began) * 1000
            told = {"method": scope["method"], "path": path, "status": status, "ms": round(took)}
            log.info("answered", extra={"told": told})


class _Server(uvicorn.Server):
    """Says where it listens once it does."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then announce it."""
        await super().startup(sockets)
        if self.started:
            self._announce()


def serve(
    folder: Path,
    host: str,
    port: int,
    *,
    models_dirs: Sequence[Path] = (),
    trainer_command: Sequence[str],
    generator: Generator,
    key: str | None = None,
    on_listening: Callable[[str], None] | None = None,
) -> None:
    """Serve the engine's `folder` on `host`:`port` (0: a free one) until SIGTERM or SIGINT.

    `key` replaces the folder's own key. Where it listens is written to endpoint.json, which is removed at a clean
    stop (a running job is then resumable), and told to `on_listening`. Raises EngineError when another server
    holds the folder, the address cannot be had, or the key is blank: no address, and least one that others
    reach, is served without a key.
    """
    if key is not None and not key.strip():
        raise EngineError(f"the engine does not listen on {host} without a key", "put one into the key file")
    _allow_many_connections()
    state = EngineState(folder)
    handler = write_log(folder / "engine.log")
    try:
        with _bound(host, port) as listener:
            library = ModelLibrary(state, models_dirs)
            worker = Worker(state, library, trainer_command)
            context = Context(
                state, library, worker, generator, state.key() if key is None else key, Limits()
            )
            worker.start()
            try:
                _run(context, listener, on_listening)
            finally:
                worker.stop()
                context.writers.shutdown(wait=False, cancel_futures=True)
    finally:
        state.forget_endpoint()
        state.close()
        end_log(handler)


def _run(context: Context, listener: socket.socket, on_listening: Callable[[str], None] | None) -> None:
    name, port = listener.getsockname()[:2]
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name)  # any address: named by the one that is ours
    base_url = f"http://{f'[{name}]' if ':' in name else name}:{port}/v1"
    config = uvicorn.Config(
        create_app(context),
        http=Connection,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=GRACE,
    )
    if threading.current_thread() is threading.main_thread():
        # uvicorn raises the signal again after its own stop; ours is to come then, not the process's end
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: log.info("stopping"))

    def announce() -> None:
        context.state.announce(base_url, __version__)
        log.info("listening on %s", base_url)
        if on_listening is not None:
            on_listening(base_url)

    _Server(config, announce).run(sockets=[listener])


def _allow_many_connections() -> None:
    """Lift the soft limit of open files (often 1,024) to what this process may have: each client takes one."""
    soft, hard = resource_limits.getrlimit(resource_limits.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource_limits.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource_limits.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # macOS names a hard limit that it does not grant
            resource_limits.setrlimit(resource_limits.RLIMIT_NOFILE, (wanted, hard))


def _bound(host: str, port: int) -> socket.socket:
    """Return a socket bound to the address; raises EngineError when it cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise EngineError(
            f"cannot listen on {host}:{port}: {error.strerror}", "choose another --port"
        ) from error
    return listener
