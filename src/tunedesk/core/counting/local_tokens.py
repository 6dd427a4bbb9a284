"""Token counts of models on this machine: their own tokenizer and chat template, as the engine reads conversations.

The tokenizer needs the packages `tokenizers` and `jinja2`, which come with the engine; without them, or without the
model's folder, the caller counts with the nearest published encoding and says so. The rules are those of the engine:
a row is what the template writes, tool calls a template cannot render are written in Hermes form, and trained is
what an answer adds to the text, up to its stop token.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tunedesk.core.conversations import Row
from tunedesk.core.counting.message_table import RowTokens
from tunedesk.core.counting.tokens import Encoding
from tunedesk.errors import DataError

TOKENIZER = "tokenizer.json"
_PROBE = "tunedesk_probe"
_TOOL = {"name": _PROBE, "description": "", "parameters": {"type": "object", "properties": {}}}

Message = dict[str, Any]
_decode = msgspec.json.Decoder(Row).decode


def find_tokenizer(model: str, folders: Sequence[Path]) -> Path | None:
    """Return the folder of `model` in one of `folders`, whatever its case; None where there is no tokenizer."""
    for folder in folders:
        for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
            if entry.name.casefold() == model.casefold() and (entry / TOKENIZER).is_file():
                return entry
    return None


class LocalCounter:
    """Counts rows for one model folder."""

    def __init__(self, model: str, folder: Path) -> None:
        """Load tokenizer and template; raises DataError when a package is missing or a file cannot be used."""
        self.model = model
        try:
            self._jinja: Any = importlib.import_module("jinja2")
            sandbox: Any = importlib.import_module("jinja2.sandbox")
            tokenizers: Any = importlib.import_module("tokenizers")
        except ImportError as error:
            raise DataError(
                f"the package {error.name} is not installed", "it comes with tunedesk[engine]"
            ) from error
        config = _json(folder / "tokenizer_config.json")
        source = _template(folder, config)
        raw = (folder / TOKENIZER).read_bytes()
        self.limit = int(_json(folder / "config.json").get("max_position_embeddings") or 8_192)
        self.encoding = Encoding(f"{folder.name}-{hashlib.sha256(raw + source.encode()).hexdigest()[:12]}")
        try:
            self._tokenizer = tokenizers.Tokenizer.from_buffer(raw)
        except ValueError as error:
            raise DataError(f"the tokenizer of {folder.name} cannot be read: {error}") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        environment = sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = self._refuse
        self._special = {name: _text(value) for name, value in config.items() if name.endswith("_token")}
        added = self._tokenizer.get_added_tokens_decoder().values()
        self._stops = (
            *(token.content for token in added if token.special),
            self._special.get("eos_token", ""),
        )
        self._stops = tuple(stop for stop in self._stops if stop)
        self._refused = (self._jinja.TemplateError, TypeError, ValueError, KeyError, AttributeError)
        try:
            self._template = environment.from_string(source)
        except self._jinja.TemplateError as error:
            raise DataError(f"the chat template of {folder.name} cannot be read: {error}") from error
        self._native_tools = self._renders_tools()

    def _refuse(self, message: str) -> None:
        raise self._jinja.TemplateError(message)

    def unstopped(self) -> str:
        """Return the stop token that the template never writes after an answer; empty where it writes one."""
        asked, answer = {"role": "user", "content": "hello"}, {"role": "assistant", "content": "hello there"}
        try:
            text = self._render([asked, answer], None)
        except self._refused:
            return ""
        return "" if text.rstrip().endswith(self._stops) else self._special.get("eos_token", "") or "none"

    def text(self, text: str) -> int:
        """Return the tokens of a text by itself."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def row(self, row: Row) -> int:
        """Return the tokens that the engine reads of a row; 0 for one that it refuses."""
        return self._counted(row)[0]

    def trained(self, row: Row) -> int:
        """Return the tokens of a row that are trained on."""
        return self._counted(row)[1]

    def expect(self, size: int) -> None:
        """Be ready for `size` bytes of rows, as it always is."""

    def count_rows(self, rows: Sequence[Row]) -> RowTokens:
        """Return the tokens of rows; what a system prompt adds is its text alone."""
        counted = [self._counted(row) for row in rows]
        return RowTokens(
            *(array("I", column) for column in zip(*counted, strict=True)) if counted else _none()
        )

    def count_lines(self, lines: Sequence[bytes]) -> RowTokens:
        """Return the tokens of rows in JSON."""
        return self.count_rows([_decode(line) for line in lines])

    def _counted(self, row: Row) -> tuple[int, int, int]:
        """Return all tokens, trained ones, and those of the system prompts' texts."""
        messages = row.get("messages")
        if not isinstance(messages, list) or not all(
            isinstance(message, dict) and isinstance(message.get("role"), str) for message in messages
        ):
            return 0, 0, 0
        try:
            ready, tools = self._prepared(messages, row.get("tools"))
            shift = len(ready) - len(messages)
            answers = [
                place + shift
                for place, message in enumerate(messages)
                if message["role"] == "assistant" and message.get("weight", 1) != 0
            ]
            total, trained = self._whole(ready, tools, answers)
        except self._refused:
            return 0, 0, 0
        prompts = [message["content"] for message in ready if message["role"] == "system"]
        return total, trained, sum(map(self.text, prompts))

    def _whole(self, messages: list[Message], tools: Any, answers: list[int]) -> tuple[int, int]:
        """Count a row as one text, or one text an answer where the template rewrites earlier turns."""
        text = self._render(messages, tools)
        spans = []
        for place in answers:
            turn, span = self._turn(messages[: place + 1], tools)
            if place + 1 == len(messages):
                text = turn
            elif not text.startswith(turn[: span[1]]):
                alone = [self._turn(messages[: n + 1], tools) for n in answers]
                pairs = [self._encoded(one, [end]) for one, end in alone]
                return sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
            spans.append(span)
        return self._encoded(text, spans)

    def _turn(self, messages: list[Message], tools: Any) -> tuple[str, tuple[int, int]]:
        asked = self._render(messages[:-1], tools, ask=True)
        text = self._render(messages, tools)
        start = len(asked)
        if not text.startswith(asked):
            start = next((n for n, (a, b) in enumerate(zip(asked, text, strict=False)) if a != b), len(text))
        bare = text.rstrip()
        if not bare.endswith(self._stops):
            text = bare = bare + self._special.get("eos_token", "")
        return text, (start, len(bare))

    def _encoded(self, text: str, spans: list[tuple[int, int]]) -> tuple[int, int]:
        coded = self._tokenizer.encode(text, add_special_tokens=False)
        trained = sum(
            end > start and any(low <= start < high for low, high in spans)
            for start, end in coded.offsets[1 : self.limit]
        )
        return len(coded.ids), trained

    def _render(self, messages: list[Message], tools: Any, *, ask: bool = False) -> str:
        return str(
            self._template.render(messages=messages, tools=tools, add_generation_prompt=ask, **self._special)
        )

    def _renders_tools(self) -> bool:
        user = {"role": "user", "content": "hello"}
        call = {"type": "function", "id": "call00001", "function": {"name": _PROBE, "arguments": {}}}
        answer = {"role": "assistant", "content": "", "tool_calls": [call]}
        tool = {"type": "function", "function": _TOOL}
        try:
            return _PROBE in self._render([user], [tool]) and _PROBE in self._render([user, answer], None)
        except self._refused:
            return False

    def _prepared(self, messages: list[Message], tools: Any) -> tuple[list[Message], Any]:
        ready = [_plain(message) for message in messages]
        if self._native_tools:
            return ready, tools or None
        ready = [_folded(message) for message in ready]
        if tools:
            listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
            note = f"You may call these functions:\n<tools>\n{listed}\n</tools>"
            if ready and ready[0]["role"] == "system":
                ready[0] = {**ready[0], "content": f"{ready[0]['content']}\n\n{note}".strip()}
            else:
                ready.insert(0, {"role": "system", "content": note})
        return ready, None


def _none() -> tuple[array[int], array[int], array[int]]:
    return array("I"), array("I"), array("I")


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _template(folder: Path, config: Mapping[str, Any]) -> str:
    path = folder / "chat_template.jinja"
    source = path.read_text(encoding="utf-8") if path.is_file() else config.get("chat_template")
    if isinstance(source, list):  # named templates; the one without a purpose of its own is `default`
        source = next((one.get("template") for one in source if one.get("name") == "default"), None)
    if not isinstance(source, str):
        raise DataError(f"the model {folder.name} has no chat template", "choose a chat model")
    return source


def _text(token: object) -> str:
    return str(token.get("content", "")) if isinstance(token, dict) else str(token or "")


def _to_json(value: object, indent: int | None = None, **_: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _plain(message: Message) -> Message:
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(str(part.get("text") or part.get("refusal") or "") for part in content)
    kept = {key: message[key] for key in ("name", "tool_call_id") if message.get(key)}
    role = "system" if message["role"] == "developer" else message["role"]
    plain = {**kept, "role": role, "content": content or message.get("refusal") or ""}
    if calls := message.get("tool_calls"):
        plain["tool_calls"] = [{**call, "function": _call(call["function"])} for call in calls]
    return plain


def _call(function: Mapping[str, Any]) -> dict[str, Any]:
    arguments = function.get("arguments", "{}")
    try:
        parsed = json.loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError:
        parsed = arguments
    return {"name": function["name"], "arguments": parsed}


def _folded(message: Message) -> Message:
    if message["role"] == "tool":
        return {"role": "user", "content": f"<tool_response>\n{message['content']}\n</tool_response>"}
    calls = [json.dumps(call["function"], ensure_ascii=False) for call in message.get("tool_calls", ())]
    text = "\n".join(f"<tool_call>\n{call}\n</tool_call>" for call in calls)
    content = f"{message['content']}\n{text}".strip() if calls else message["content"]
    return {"role": message["role"], "content": content}
