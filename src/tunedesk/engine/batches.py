"""Conversations to token ids: what the model reads, and which of it is trained.

The model's own chat template writes the text. The mask comes from rendering a conversation up to each assistant
message, with and without it: what that message adds, up to and with its stop token, is trained unless its
`weight` is 0. So any template works, without generation marks in it.

Templates that rewrite earlier turns (they drop the reasoning of old answers, say) have no such prefixes. Then the
row becomes one example for each trained answer, each rendered as the model would see it when giving that answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import jinja2
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tunedesk.engine.attention import Layout
from tunedesk.errors import DataError, EngineError

CHUNK_TOKENS = 2048
"""Tokens (with padding) in one forward pass; a batch of more is worked off in chunks, their gradients added."""
_PROBE = "tunedesk_probe"

Message = Mapping[str, Any]


class RowError(DataError):
    """A row cannot be trained on; `line` is its physical line, from 1."""

    def __init__(self, line: int, what: str, hint: str = "") -> None:
        super().__init__(f"row {line}: {what}", hint or "correct or remove that row, then launch again")
        self.line = line


class RowTooLong(RowError):
    """Nothing that is trained of a row fits into the model's context."""


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence to train on."""

    line: int
    """Physical line of its row in the file, from 1."""
    ids: tuple[int, ...]
    """Token ids."""
    trained: tuple[bool, ...]
    """For each token, whether predicting it is trained. The first never is: nothing predicts it."""
    cut: int = 0
    """Tokens that were cut off at the end because of the context limit."""

    @property
    def targets(self) -> int:
        """How many tokens are trained."""
        return sum(self.trained)

    @property
    def length(self) -> int:
        """How many tokens there are."""
        return len(self.ids)

    @property
    def tokens(self) -> int:
        """How many tokens are billed: all."""
        return len(self.ids)

    @property
    def sequences(self) -> tuple[Example, ...]:
        """Itself: see Sized."""
        return (self,)


class Renderer:
    """Writes conversations in a model's chat template and masks what is trained."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, context: int) -> None:
        if not tokenizer.chat_template or not tokenizer.is_fast:
            raise EngineError(
                "this base model has no chat template or no fast tokenizer", "choose a chat model"
            )
        self.tokenizer = tokenizer
        self.context = context
        special = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
        self._stops = (*special, str(tokenizer.eos_token))
        user = {"role": "user", "content": "hello"}
        call = {"type": "function", "id": "call00001", "function": {"name": _PROBE, "arguments": {}}}
        tool = {
            "type": "function",
            "function": {
                "name": _PROBE,
                "description": "",
                "parameters": {"type": "object", "properties": {}},
            },
        }
        answer = {"role": "assistant", "content": "", "tool_calls": [call]}
        self._native_tools = self._shows([user], [tool]) and self._shows([user, answer], None)

    def _shows(self, messages: list[Message], tools: list[Mapping[str, Any]] | None) -> bool:
        """Say whether the template renders a tool's name that stands nowhere in the text of the messages."""
        try:
            return _PROBE in self._text(messages, tools)
        except (jinja2.TemplateError, TypeError, ValueError):
            return False

    def prompt(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> list[int]:
        """Return the ids that ask the model for the next answer.

        Raises DataError when the template refuses the messages.
        """
        ready, ready_tools = self._prepare(messages, tools)
        try:
            return self._encode(self._text(ready, ready_tools, ask=True))[0]
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise DataError(f"the model's chat template refuses these messages: {error}") from error

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of a reply's ids, its special tokens left out."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def examples(self, line: int, row: Mapping[str, Any]) -> list[Example]:
        """Return the row at physical line `line` as examples: one, or one an answer (see the module's text).

        Raises RowError when the row is no conversation, the template refuses it, or nothing of it is trained.
        """
        messages = _messages(line, row)
        try:
            ready, tools = self._prepare(messages, row.get("tools"))
            shift = len(ready) - len(messages)  # a system message with the tools may have come first
            answers = [
                number + shift
                for number, message in enumerate(messages)
                if message["role"] == "assistant" and message.get("weight", 1) != 0
            ]
            if not answers:
                raise RowError(line, "no assistant message is trained (none there, or every weight is 0)")
            found = self._whole(line, ready, tools, answers) or [
                self._example(line, *self._turn(ready[: n + 1], tools)) for n in answers
            ]
        except (jinja2.TemplateError, TypeError, ValueError, AttributeError, KeyError) as error:
            raise RowError(
                line, f"the model's chat template refuses it: {error or type(error).__name__}"
            ) from error
        kept = [example for example in found if example.targets]
        if not kept:
            raise RowTooLong(
                line, f"nothing to train is left within the model's {self.context} tokens", "shorten the row"
            )
        return kept

    def _whole(self, line: int, messages: list[Message], tools: Any, answers: list[int]) -> list[Example]:
        """Return the conversation as one example, or nothing when the template rewrites earlier turns."""
        text = self._text(messages, tools)
        spans = []
        for n in answers:
            turn, [(start, end)] = self._turn(messages[: n + 1], tools)
            last = n + 1 == len(messages)
            if not last and not text.startswith(turn[:end]):
                return []
            text = turn if last else text
            spans.append((start, end))
        return [self._example(line, text, spans)]

    def _turn(self, messages: list[Message], tools: Any) -> tuple[str, list[tuple[int, int]]]:
        """Render up to an answer; return the text and the (start, end) of what the answer itself adds to it.

        The end lies behind the stop token; what the template writes after that (a line break) is not trained. A
        template without a stop token gets the tokenizer's own.
        """
        asked = self._text(messages[:-1], tools, ask=True)
        text = self._text(messages, tools)
        start = _agreement(asked, text)
        bare = text.rstrip()
        if not bare.endswith(self._stops):
            text = bare = bare + str(self.tokenizer.eos_token)
        return text, [(start, len(bare))]

    def _example(self, line: int, text: str, spans: list[tuple[int, int]]) -> Example:
        ids, offsets = self._encode(text)
        trained = [any(low <= start < high for low, high in spans) and end > start for start, end in offsets]
        trained[0] = False
        keep = self.context
        return Example(line, tuple(ids[:keep]), tuple(trained[:keep]), max(0, len(ids) - keep))

    def _text(self, messages: Sequence[Message], tools: Any, *, ask: bool = False) -> str:
        text = self.tokenizer.apply_chat_template(
            list(messages), tools=tools, tokenize=False, add_generation_prompt=ask
        )
        return str(text)

    def _encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Return ids and their (start, end) characters; the template has written all special tokens already."""
        coded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return coded["input_ids"], coded["offset_mapping"]

    def _prepare(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None
    ) -> tuple[list[Message], list[Mapping[str, Any]] | None]:
        """Bring OpenAI's messages into what templates expect: text contents, no `weight`, `developer` as system.

        Tools and tool calls go to the template as they are where it can render them; otherwise they are written
        into the text in Hermes form (`<tools>`, `<tool_call>`, `<tool_response>`), so that none is lost.
        """
        ready: list[Message] = [_plain(message) for message in messages]
        if self._native_tools:
            return ready, list(tools) if tools else None
        ready = [_folded(message) for message in ready]
        if tools:
            listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
            note = f"You may call these functions:\n<tools>\n{listed}\n</tools>"
            first = ready[0]
            if first["role"] == "system":
                ready[0] = {**first, "content": f"{first['content']}\n\n{note}".strip()}
            else:
                ready.insert(0, {"role": "system", "content": note})
        return ready, None


def _agreement(left: str, right: str) -> int:
    """Count the characters at the start that two texts share."""
    if right.startswith(left):
        return len(left)
    return next((n for n, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), len(right))


def _messages(line: int, row: Mapping[str, Any]) -> list[Message]:
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RowError(line, "it has no list of messages")
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise RowError(line, f"message {number} has no role")
    return messages


def _plain(message: Message) -> Message:
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(str(part.get("text") or part.get("refusal") or "") for part in content)
    role = "system" if message["role"] == "developer" else message["role"]
    kept = {key: message[key] for key in ("name", "tool_call_id") if message.get(key)}
    plain = {**kept, "role": role, "content": content or message.get("refusal") or ""}
    if calls := message.get("tool_calls"):
        plain["tool_calls"] = [{**call, "function": _call(call["function"])} for call in calls]
    return plain


def _call(function: Mapping[str, Any]) -> dict[str, Any]:
    """Return a call with its arguments as an object where their JSON text is one, as templates expect."""
    arguments = function.get("arguments", "{}")
    try:
        parsed = json.loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError:
        parsed = arguments
    return {"name": function["name"], "arguments": parsed}


def _folded(message: Mapping[str, Any]) -> Message:
    if message["role"] == "tool":
        return {"role": "user", "content": f"<tool_response>\n{message['content']}\n</tool_response>"}
    calls = [json.dumps(call["function"], ensure_ascii=False) for call in message.get("tool_calls", ())]
    text = "\n".join(f"<tool_call>\n{call}\n</tool_call>" for call in calls)
    content = f"{message['content']}\n{text}".strip() if calls else message["content"]
    return {"role": message["role"], "content": content}


def read_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield (physical line, row) of a JSONL file, in its order; blank lines are passed over.

    Raises RowError on the first row that is no JSON object, DataError when the file holds none or cannot be read.
    """
    empty = True
    try:
        with path.open("rb") as file:
            for line, raw in enumerate(file, 1):
                raw = raw.removeprefix(b"\xef\xbb\xbf") if line == 1 else raw  # noqa: PLW2901
                if raw.strip():
                    empty = False
                    yield line, _parsed(line, raw)
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror}") from error
    if empty:
        raise DataError("the file holds no conversations")


def _parsed(line: int, raw: bytes) -> Mapping[str, Any]:
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise RowError(line, f"it is not valid JSON: {error}") from error
    if not isinstance(row, dict):
        raise RowError(line, "it is not a JSON object")
    return row


class Sized(Protocol):
    """What `chunks` needs of an example or a pair of them."""

    @property
    def line(self) -> int:
        """Physical line of its row in the file."""

    @property
    def length(self) -> int:
        """Tokens of its longest sequence."""

    @property
    def sequences(self) -> tuple[Example, ...]:
        """The sequences that the model reads of it."""


One = TypeVar("One", bound=Sized)


def chunks(batch: Sequence[One], limit: int = CHUNK_TOKENS, *, packed: bool = False) -> Iterator[list[One]]:
    """Cut a batch into runs of similar lengths that stay within `limit` tokens (a longer row goes alone).

    Counted as they will be laid: `packed` end to end after their shared prefix, else padded to the longest.
    """
    count = packed_tokens if packed else _padded_tokens
    chunk: list[One] = []
    for item in sorted(batch, key=lambda one: (one.length, one.line)):
        if chunk and count([row for one in (*chunk, item) for row in one.sequences]) > limit:
            yield chunk
            chunk = []
        chunk.append(item)
    if chunk:
        yield chunk


def _padded_tokens(rows: Sequence[Example]) -> int:
    return len(rows) * max(row.length for row in rows)


def packed_tokens(rows: Sequence[Example]) -> int:
    """Count the tokens of rows that are packed end to end, with what all begin with held once."""
    return sum(row.length for row in rows) - (len(rows) - 1) * _common_prefix(rows)


@dataclass(frozen=True, slots=True)
class Packed:
    """A chunk without padding: the shared prefix once, then each row's own tokens one after another."""

    ids: Tensor
    """T token ids."""
    positions: Tensor
    """T positions, each within its own row."""
    layout: Layout
    """Where the rows lie."""
    sources: Tensor
    """For each trained token, in the rows' order, the index among T of the token that predicts it."""
    labels: Tensor
    """For each trained token its id."""


def pack(chunk: Sequence[Example], *, share_prefix: bool = True) -> Packed:
    """Pack rows end to end; with `share_prefix` the untrained tokens that all begin with are held once.

    Exact, because a causal model gives equal prefixes equal states in every row.
    """
    shared = _common_prefix(chunk) if share_prefix and len(chunk) > 1 else 0
    ids, positions = list(chunk[0].ids[:shared]), list(range(shared))
    spans, sources, labels = [], [], []
    for example in chunk:
        start = len(ids)
        for place in range(1, len(example.ids)):
            if example.trained[place]:
                sources.append(place - 1 if place <= shared else start + place - 1 - shared)
                labels.append(example.ids[place])
        ids += example.ids[shared:]
        positions += range(shared, len(example.ids))
        spans.append((start, len(example.ids) - shared))
    return Packed(
        torch.tensor(ids),
        torch.tensor(positions),
        Layout(shared, tuple(spans)),
        torch.tensor(sources),
        torch.tensor(labels),
    )


def _common_prefix(rows: Sequence[Example]) -> int:
    """Count the leading tokens that are equal and untrained in all rows, at most all but one of the shortest."""
    first, last = (
        min(row.ids for row in rows),
        max(row.ids for row in rows),
    )  # what these two share, all share
    limit = min(min(row.length - 1, row.trained.index(True)) for row in rows)
    return next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if n >= limit or a != b), limit)


@dataclass(frozen=True, slots=True)
class Padded:
    """A chunk as a rectangle of n rows x L tokens, padded at the end."""

    ids: Tensor
    """n x L token ids."""
    mask: Tensor
    """n x L, 1 where there is a token."""
    sources: Tensor
    """Indices into the n L positions of the tokens that predict the trained ones, in the rows' order."""
    labels: Tensor
    """For each trained token its id."""


def pad(chunk: Sequence[Example]) -> Padded:
    """Lay rows side by side, padded with token 0, which the mask hides."""
    longest = max(len(example.ids) for example in chunk)
    ids = torch.zeros(len(chunk), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    sources, labels = [], []
    for row, example in enumerate(chunk):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        mask[row, : len(example.ids)] = 1
        for place in range(1, len(example.ids)):
            if example.trained[place]:
                sources.append(row * longest + place - 1)
                labels.append(example.ids[place])
    return Padded(ids, mask, torch.tensor(sources), torch.tensor(labels))
