"""The same held-out prompts through several models, and their answers in numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import msgspec

from tunedesk.core.conversations import Conversation
from tunedesk.errors import DataError, ProviderError, UsageError
from tunedesk.evaluate.scores import (
    Difference,
    HouseRule,
    Interval,
    ModelScore,
    chrf,
    house_share,
    interval,
    learn_rules,
    paired,
)
from tunedesk.providers.base import Provider
from tunedesk.providers.replies import Reply, Sampling, stream_reply

_AT_ONCE = 4
"""Requests at the same time to one remote provider; the local engine gets one, as its cores are shared."""
GREEDY = Sampling(temperature=0.0, max_tokens=400, seed=0)
"""How answers are drawn unless asked otherwise: the likeliest words, so that a second run says the same."""


@dataclass(frozen=True, slots=True)
class Item:
    """One held-out prompt with the answer that people wrote."""

    messages: tuple[dict[str, Any], ...]
    """What the models are asked, in the API's shape."""
    reference: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What one model answered to one item."""

    item: int
    """Position in the items, from 0."""
    model: str
    text: str = ""
    first_token_s: float | None = None
    total_s: float = 0.0
    completion_tokens: int = 0
    prompt_tokens: int | None = None
    """None where the endpoint reported no usage."""
    tokens_per_second: float | None = None
    system_fingerprint: str | None = None
    error: str = ""
    """Why the text is missing or not whole."""


@dataclass(frozen=True, slots=True)
class CompareResult:
    """Everything that a report tells."""

    models: tuple[str, ...]
    """In the order asked; differences are to the first."""
    items: tuple[Item, ...]
    answers: tuple[Answer, ...]
    """By item, then model."""
    rules: tuple[HouseRule, ...]
    scores: tuple[ModelScore, ...]
    differences: tuple[Difference, ...]

    def answer(self, item: int, model: str) -> Answer:
        """Return one model's answer to one item."""
        return self.answers[item * len(self.models) + self.models.index(model)]


async def compare(
    models: Sequence[tuple[Provider, str]],
    items: Sequence[Conversation],
    *,
    sampling: Sampling = GREEDY,
    known: Sequence[Answer] = (),
    on_answer: Callable[[Answer], None] | None = None,
) -> CompareResult:
    """Ask every model for the last assistant message of every conversation, and score the answers.

    `known` answers of an interrupted run are not asked for again; `on_answer` gets each new one as it comes.
    A prompt that fails is told as failed; raises ProviderError only where asking on is useless (401, 404, …),
    DataError when no conversation ends in an assistant message, UsageError when a model is named twice.
    """
    names = [model for _, model in models]
    if not names or len(set(names)) < len(names):
        raise UsageError(
            f"each model once, please: {', '.join(names) or 'none was named'}", "name other models"
        )
    asked = [
        _item(conversation)
        for conversation in items
        if conversation.prompt and conversation.reference.strip()
    ]
    if not asked:
        raise DataError("no conversation has an assistant message to compare with", "choose another file")
    found = {(a.item, a.model): a for a in known if a.item < len(asked) and a.model in names and not a.error}
    gates = {id(p): asyncio.Semaphore(1 if p.profile.is_local else _AT_ONCE) for p, _ in models}

    async def one(provider: Provider, model: str, position: int) -> None:
        async with gates[id(provider)]:
            answer = await _ask(provider, model, position, asked[position], sampling)
        found[position, model] = answer
        if on_answer is not None:
            on_answer(answer)

    try:
        async with asyncio.TaskGroup() as group:
            for position in range(len(asked)):
                for provider, model in models:
                    if (position, model) not in found:
                        group.create_task(one(provider, model, position))
    except ExceptionGroup as errors:  # early releases of Python 3.11 wrap what an `except*` raises
        raise first_error(errors) from errors
    answers = tuple(found[position, name] for position in range(len(asked)) for name in names)
    return score(tuple(names), tuple(asked), answers)


def score(names: tuple[str, ...], items: tuple[Item, ...], answers: tuple[Answer, ...]) -> CompareResult:
    """Measure answers (by item, then model) against the references; house rules are learnt from these."""
    first_replies = [i.reference for i in items if all(m.get("role") != "assistant" for m in i.messages)]
    rules = tuple(learn_rules([item.reference for item in items], first_replies))
    columns = {name: answers[position :: len(names)] for position, name in enumerate(names)}
    measured = {name: _measure(column, items, rules) for name, column in columns.items()}
    first = measured[names[0]]
    return CompareResult(
        models=names,
        items=items,
        answers=answers,
        rules=rules,
        scores=tuple(_model_score(name, columns[name], measured[name]) for name in names),
        differences=tuple(
            Difference(
                name,
                paired(measured[name].similarity, first.similarity),
                paired(measured[name].house_style, first.house_style),
            )
            for name in names[1:]
        ),
    )


def win_rate(result: CompareResult, model: str) -> Interval | None:
    """Return how often `model` comes nearer to the people's answer (chrF) than the first model; a tie counts half.

    Over the prompts that both answered; None when there is none.
    """
    wins: list[float] = []
    for place, item in enumerate(result.items):
        mine, theirs = result.answer(place, model), result.answer(place, result.models[0])
        if mine.text and theirs.text:
            ahead = chrf(mine.text, item.reference) - chrf(theirs.text, item.reference)
            wins.append(0.5 if ahead == 0 else float(ahead > 0))
    return interval(wins)


@dataclass(frozen=True, slots=True)
class _Measured:
    """One model's values by item; None where there is no answer or nothing to measure."""

    similarity: list[float | None]
    house_style: list[float | None]
    length_ratio: list[float | None]


def _measure(column: Sequence[Answer], items: Sequence[Item], rules: Sequence[HouseRule]) -> _Measured:
    pairs = list(zip(column, items, strict=True))
    return _Measured(
        [chrf(a.text, i.reference) if a.text else None for a, i in pairs],
        [house_share(a.text, i.reference, rules) if a.text else None for a, i in pairs],
        [len(a.text.split()) / len(i.reference.split()) if a.text else None for a, i in pairs],
    )


def _model_score(name: str, column: Sequence[Answer], measured: _Measured) -> ModelScore:
    answered = sum(1 for answer in column if answer.text)
    return ModelScore(
        model=name,
        answered=answered,
        failed=len(column) - answered,
        similarity=interval(_told(measured.similarity)),
        house_style=interval(_told(measured.house_style)),
        length_ratio=interval(_told(measured.length_ratio)),
        first_token_s=interval(_told([answer.first_token_s for answer in column])),
        tokens_per_second=interval(_told([answer.tokens_per_second for answer in column])),
    )


def _told(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _item(conversation: Conversation) -> Item:
    """Take the messages before the last answer, without our training weights, which no chat endpoint takes."""
    messages = [
        {key: value for key, value in msgspec.to_builtins(message).items() if key != "weight"}
        for message in conversation.prompt
    ]
    return Item(tuple(messages), conversation.reference)


async def _ask(provider: Provider, model: str, position: int, item: Item, sampling: Sampling) -> Answer:
    reply = Reply(model)
    try:
        async with aclosing(stream_reply(provider, list(item.messages), reply, sampling)) as deltas:
            async for _ in deltas:
                pass
    except ProviderError as error:
        if not error.retryable and error.status not in (400, 413, 422):
            raise
        return Answer(position, model, error=error.message)
    return Answer(
        item=position,
        model=model,
        text=reply.text,
        first_token_s=reply.first_token_s,
        total_s=reply.total_s,
        completion_tokens=reply.usage.completion_tokens if reply.usage else 0,
        prompt_tokens=reply.usage.prompt_tokens if reply.usage else None,
        tokens_per_second=reply.tokens_per_second,
        system_fingerprint=reply.system_fingerprint,
        error=reply.error or ("" if reply.text else "an empty answer"),
    )


def first_error(group: BaseExceptionGroup) -> BaseException:
    """Return the first error inside a group of groups."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
