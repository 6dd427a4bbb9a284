"""Commands on endpoints and their models: models, providers, doctor, chat."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from tunedesk.cli.data import workbench
from tunedesk.cli.jobs import _run, provider_option
from tunedesk.cli.output import emit, json_option, say, show, size, table
from tunedesk.terminal import visible

if TYPE_CHECKING:
    from tunedesk.config import Profile
    from tunedesk.providers.base import Provider
    from tunedesk.providers.replies import Reply
    from tunedesk.workbench import Workbench


@click.command()
@provider_option
@json_option
def models(provider: str | None, as_json: bool) -> None:
    """List the models of a provider: what can be tuned, what can be chatted with, and until when."""
    from tunedesk.providers.limits import today

    bench = workbench()

    async def work() -> None:
        from tunedesk.core.counting.pricing import price_for

        profile = bench.profile(provider)
        client = await bench.connect(profile)
        sizes = await _sizes(client) if profile.is_local else {}
        rows: list[dict[str, Any]] = []
        for model in await client.models():
            price = price_for(model.id, bench.prices)
            rows.append(
                {
                    "id": model.id, "owned_by": model.owned_by, "created": model.created,
                    "tunable": model.id in profile.tunable or (profile.is_local and not model.id.startswith("ft:")),
                    "shutdown_date": model.shutdown_date or (price.shutdown if price else None),
                    **sizes.get(model.id, {}),
                }
            )  # fmt: skip
        if as_json:
            emit(rows)
        else:
            heading = ("model", "tunable", "size on this machine" if profile.is_local else "shuts down")
            told = [
                (
                    r["id"],
                    "yes" if r["tunable"] else "",
                    _fit(r) if profile.is_local else r["shutdown_date"] or "",
                )
                for r in rows
            ]
            table([heading, *told])
            for notice in profile.notices(today()):
                say(f"{profile.label or profile.name} {notice}")

    _run(bench, work)


async def _sizes(client: Provider) -> dict[str, dict[str, Any]]:
    """Return what the engine tells of its models' sizes, by model."""
    told = await client.ask_engine("models")
    return {one.pop("id"): one for one in (*told["bases"], *told["tuned"])}


def _fit(row: dict[str, Any]) -> str:
    """Say how large a model of the engine is, and whether it can be used here."""
    if row.get("fetched") is False:
        return "fetched at its first use (93 to 270 MB)"
    if "fault" in row:
        return str(row["fault"])
    if "parameters" not in row:
        return size(row.get("disk", 0))
    what = (
        "trains and chats here"
        if row["trains_here"]
        else "only chats here"
        if row["chats_here"]
        else "too large"
    )
    return (
        f"{row['parameters'] / 1e6:,.0f} M parameters, {size(row['disk'])}; about {size(row['memory_to_train'])} of"
        f" memory to train, {size(row['memory_to_chat'])} to chat: {what}"
    )


@click.command()
@json_option
def providers(as_json: bool) -> None:
    """List the providers that are known here, whether there is a key for each, and what ends there and when."""
    from tunedesk.providers.limits import today

    bench = workbench()
    rows: list[dict[str, Any]] = [
        {
            "name": name, "label": profile.label, "base_url": profile.base_url,
            "key": "none needed" if profile.is_local else _key_state(profile),
            "default_model": profile.default_model, "closes": profile.closes or None,
            "closing": [{"date": one.date, "words": one.words} for one in profile.closing],
        }
        for name, profile in bench.profiles().items()
    ]  # fmt: skip
    if as_json:
        emit(rows)
    else:
        heading = ("name", "label", "key", "default_model", "closes")
        table([heading, *([row[key] or "" for key in heading] for row in rows)])
        for name, profile in bench.profiles().items():
            for notice in profile.notices(today()):
                show(f"{name} {notice}")


def _key_state(profile: Profile) -> str:
    from tunedesk.config import find_key

    return "found" if find_key(profile) else f"set {profile.key_variable}"


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Look at this installation: versions, folders, engine, what each provider answers."""
    import asyncio
    from importlib import metadata, util

    import tunedesk
    from tunedesk.errors import TunedeskError
    from tunedesk.providers.local import engine_status

    bench = workbench()
    engine = engine_status(bench.paths)
    found: dict[str, Any] = {
        "version": tunedesk.__version__,
        "python": sys.version.split()[0],
        "packages": {name: metadata.version(name) for name in ("textual", "openai", "polars", "tiktoken")},
        "engine_installed": util.find_spec("torch") is not None,
        "engine": engine.base_url if engine else None,
        "paths": {name: str(getattr(bench.paths, name)) for name in ("data", "config", "cache", "logs")},
        "providers": {},
    }

    async def reach() -> None:
        for name, profile in bench.profiles().items():
            if profile.is_local:
                continue
            try:
                client = await bench.connect(profile)
                async with asyncio.timeout(10):
                    found["providers"][name] = f"answers, {len(await client.models())} models"
            except TimeoutError:
                found["providers"][name] = "no answer within 10 s"
            except TunedeskError as error:
                found["providers"][name] = error.message

    _run(bench, reach)
    if as_json:
        emit(found)
        return
    for key, value in found.items():
        if isinstance(value, dict):
            for name, one in value.items():
                show(f"{key}.{name}: {one}")
        else:
            show(f"{key}: {value}")


@click.command()
@click.argument("models", nargs=-1, required=True)
@click.option("-p", "--prompt", help="What to ask; standard input unless given.")
@click.option("--system", help="System prompt: TEXT, or @FILE.")
@click.option(
    "--temperature",
    type=click.FloatRange(0, 2),
    help="0 for the likeliest words; unless given 0.2 on this machine, elsewhere what the endpoint takes.",
)
@click.option("--max-tokens", type=click.IntRange(min=1))
@click.option("--seed", type=int)
@provider_option
@json_option
def chat(
    models: tuple[str, ...], prompt: str | None, system: str | None, temperature: float | None,
    max_tokens: int | None, seed: int | None, provider: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Ask one or more MODELS the same; answers are streamed."""
    from tunedesk.cli.data import system_text
    from tunedesk.providers.replies import Sampling

    bench = workbench()
    text = prompt if prompt is not None else sys.stdin.read().strip()
    sampling = Sampling(temperature, max_tokens, seed)

    async def work() -> None:
        await _ask(bench, models, text, system_text(system) or "", sampling, provider, as_json)

    _run(bench, work)


async def _ask(
    bench: Workbench,
    models: Sequence[str],
    text: str,
    system: str,
    sampling: Any,
    provider: str | None,
    as_json: bool,
) -> None:
    from tunedesk.chat import ChatSession, Comparison
    from tunedesk.errors import ProviderError

    profile = bench.profile(provider)
    client = await bench.connect(profile)
    sessions = [ChatSession(client, model, system, sampling) for model in models]
    comparison = Comparison(sessions)
    async for _, delta in comparison.say(text):
        if len(models) == 1 and not as_json:
            click.echo(visible(delta.text), nl=False)
    replies = [session.reply for session in sessions if session.reply is not None]
    if as_json:
        emit({"answers": [_answer(bench, profile, reply) for reply in replies]})
    elif len(models) == 1:
        click.echo()
    else:
        for reply in replies:
            show(f"── {reply.model}\n{reply.text}\n")
    for line in [_took(bench, profile, reply) for reply in replies if not as_json]:
        say(line)
    for reply in [one for one in replies if one.error]:
        say(f"{reply.model}: {reply.error}")
    for model, error in comparison.errors.items():
        say(f"error: {model}: {error.message}")
        raise error
    if not all(reply.text for reply in replies):
        raise ProviderError("a model gave no answer", "ask again")


def _answer(bench: Workbench, profile: Profile, reply: Reply) -> dict[str, Any]:
    """Return an answer as `--json` tells it; `usage` is null where the endpoint reported none."""
    usage = reply.usage
    counts = (
        {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
        if usage
        else None
    )
    return {
        "model": reply.model, "text": reply.text, "usage": counts, "usd": _usd(bench, profile, reply),
        "first_token_s": reply.first_token_s, "total_s": reply.total_s,
        "system_fingerprint": reply.system_fingerprint, "error": reply.error or None,
    }  # fmt: skip


def _usd(bench: Workbench, profile: Profile, reply: Reply) -> float | None:
    if reply.usage is None:
        return 0.0 if profile.is_local else None
    return bench.spending.asking_usd(profile, reply.model, reply.usage)


def _took(bench: Workbench, profile: Profile, reply: Reply) -> str:
    """Return what an answer took, in one line."""
    usage, usd = reply.usage, _usd(bench, profile, reply)
    tokens = f"{usage.prompt_tokens:,}→{usage.completion_tokens:,} tokens" if usage else "tokens unknown"
    cost = "cost unknown" if usd is None else f"${usd:.6f}" if usd else "free"
    first = f", first word after {reply.first_token_s:.2f} s" if reply.first_token_s is not None else ""
    return f"{reply.model}: {tokens}, {cost}{first}, {reply.total_s:.2f} s in all"


COMMANDS = (models, providers, doctor, chat)
