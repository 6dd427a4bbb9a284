"""Commands that start things: the workbench itself, the engine, and a look at what this machine has."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tunedesk.cli.data import workbench
from tunedesk.cli.output import emit, json_option, say, show

if TYPE_CHECKING:
    from tunedesk.tui.last_view import LastView


def _to_show(files: Sequence[str]) -> LastView | None:
    """Return what the app may show before it is loaded; raises DataError for what is neither a file nor a dataset.

    The services, which tell of unknown names so well, take 0.3 s to load.
    """
    from tunedesk.core.first_page import first_page
    from tunedesk.paths import state_paths
    from tunedesk.store import Store
    from tunedesk.tui.last_view import read_last_view, view_of_start

    paths = state_paths()
    last = read_last_view(paths)
    names = [name for name in files if not Path(name).exists()]
    if not names:
        return last
    with Store(paths.store) as store:
        known = {name: store.dataset(name) for name in names}
        first = known.get(files[0])
        if first is not None and store.edits_state(first.id)[1] == 0:
            last = view_of_start(last, first.id, files[0], first_page(paths.datasets / first.id))
    for name in (name for name, entry in known.items() if entry is None):
        workbench().require_source(name)
    return last


@click.command("open", hidden=True)
@click.argument("files", nargs=-1)
def open_workbench(files: tuple[str, ...]) -> int:
    """Open the workbench, on FILE… where given."""
    from tunedesk.errors import UsageError

    last = _to_show(files)
    if not sys.stdout.isatty() or not sys.stdin.isatty():
        raise UsageError("the workbench needs a terminal", "for scripts there is: tunedesk run FILE --yes")
    # Between two paints, which come from what changed: the conversation follows the list within 4 ms, not 17.
    os.environ.setdefault("TEXTUAL_FPS", "240")
    from tunedesk.tui.app import TunedeskApp

    app = TunedeskApp(workbench, files, last)
    app.run()
    return app.return_code or 0


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0 takes a free one.")
@click.option("--key-file", type=click.Path(path_type=Path), help="File with the key that clients must send.")
@click.option(
    "--models", "models", type=click.Path(path_type=Path), multiple=True, help="More folders of base models."
)
@click.option(
    "--ray", metavar="ADDRESS", help="Train on this Ray cluster (`auto`: the one this host is part of)."
)
@click.option("--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Processes on Ray.")
@click.option("--fetch", metavar="ORG/NAME", help="Fetch this base model from the model hub, and end.")
@click.option("--offline", is_flag=True, help="Fetch no model, whatever a job names.")
@click.option("--status", is_flag=True, help="Tell whether the engine of this machine runs.")
@click.option("--stop", is_flag=True, help="Stop it; a running job goes on at the next start.")
@json_option
@click.pass_context
def serve(
    context: click.Context, host: str, port: int, key_file: Path | None, models: tuple[Path, ...], ray: str | None,
    workers: int, fetch: str | None, offline: bool, status: bool, stop: bool, as_json: bool,
) -> None:  # fmt: skip
    """Serve OpenAI's fine-tuning API on this machine: one line, the base URL, then until stopped."""
    from tunedesk.paths import state_paths

    paths = state_paths()
    if status or stop:
        _status(context, as_json, stop)
        return
    if offline:
        os.environ |= {"HF_HUB_OFFLINE": "1", "PIP_NO_INDEX": "1"}
    if fetch:
        _fetch(paths.engine / "models", fetch, as_json)
        return
    from tunedesk.errors import EngineError

    try:
        from tunedesk.engine.generate import ModelGenerator
        from tunedesk.engine.server import serve as serve_engine
    except ImportError as error:
        raise EngineError(
            f"the engine is not installed ({error.name} is missing)",
            "in tunedesk's folder: pip install '.[engine]' torch==2.13.0",
        ) from error
    serve_engine(
        paths.engine, host, port,
        models_dirs=models,
        trainer_command=_trainer(ray, workers),
        generator=ModelGenerator(),
        key=_key_of(key_file),
        on_listening=lambda base_url: emit({"base_url": base_url}) if as_json else show(base_url),
    )  # fmt: skip


def _fetch(models: Path, repository: str, as_json: bool) -> None:
    """Bring a base model of the model hub into the engine's folder, telling each tenth of the way."""
    from tunedesk.engine.fetch import Progress, fetch_model, no_conversion, offer_of
    from tunedesk.paths import private_folder

    told = -1

    def tell(progress: Progress) -> None:
        nonlocal told
        tenth = 10 * progress.done // progress.total if progress.total else 0
        if tenth != told:
            told = tenth
            say(
                f"{progress.name}: {progress.stage} {progress.done / 1e6:,.0f} of {progress.total / 1e6:,.0f} MB"
            )

    offer = offer_of(repository)
    folder = fetch_model(private_folder(models), tell, no_conversion, offer)
    emit({"model": offer.name, "folder": str(folder)}) if as_json else show(offer.name)


def _trainer(ray: str | None, workers: int) -> tuple[str, ...]:
    """Return the command that trains a job: here, with all devices of this host, or on a Ray cluster."""
    from importlib import util

    from tunedesk.errors import EngineError

    if ray is None:
        return (sys.executable, "-m", "tunedesk.engine.trainer")
    if util.find_spec("ray") is None:
        raise EngineError("ray is not installed", "in tunedesk's folder: pip install '.[engine,cluster]'")
    return (sys.executable, "-m", "tunedesk.engine.on_ray", "--address", ray, "--workers", str(workers))


def _key_of(key_file: Path | None) -> str | None:
    from tunedesk.errors import UsageError

    if key_file is None:
        return None
    try:
        if key_file.stat().st_mode & 0o077:
            raise UsageError(f"the key file {key_file} can be read by others", f"chmod 600 {key_file}")
        return key_file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the key file {key_file} cannot be read: {error}", "write one key into it"
        ) from error


def _status(context: click.Context, as_json: bool, stop: bool) -> None:
    from dataclasses import asdict

    from tunedesk.paths import state_paths
    from tunedesk.providers.local import engine_status, stop_engine

    running = engine_status(state_paths())
    if stop:
        stopped = stop_engine(state_paths())
        emit({"stopped": stopped}) if as_json else say("stopped" if stopped else "the engine was not running")
        return
    if as_json:
        emit(asdict(running) if running else None)
    elif running:
        show(running.base_url)
    else:
        say("the engine is not running; tunedesk serve starts it, and so does every command that needs it")
    context.exit(0 if running else 1)


COMMANDS = (open_workbench, serve)
