"""Whether a file can be trained on, row by row, and the numbers chosen for it where "auto" was asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tunedesk.engine.file_store import StoredFile

MIN_EXAMPLES = 10
"""The fewest rows of a training file (OpenAI's rule)."""
MAX_ROW_BYTES = 16 << 20
"""A longer row is refused before it is decoded."""
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_TARGET_EPOCHS, _MIN_TRAINED, _MAX_TRAINED, _MAX_EPOCHS = 2, 100, 25_000, 25


class TrainingFileError(Exception):
    """A file that cannot be trained on, as a job's error: code, message naming the row, param."""

    def __init__(self, code: str, message: str, param: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


def check_file_reference(file: StoredFile | None, file_id: str, param: str) -> None:
    """Raise TrainingFileError unless the file exists and has the purpose `fine-tune`."""
    if file is None:
        raise TrainingFileError("file_not_found", f"The file {file_id[:80]} does not exist", param)
    if file.purpose != "fine-tune":
        message = f"The file {file_id} has the purpose '{file.purpose}', but must have 'fine-tune'"
        raise TrainingFileError("invalid_file_purpose", message, param)


def count_examples(
    path: Path, param: str, method: str = "supervised", stopped: Callable[[], bool] = lambda: False
) -> int:
    """Check each row of a file for `method` (supervised or dpo) and return how many there are.

    `param` is training_file or validation_file; blank lines are skipped but counted in row numbers, so that a
    row is the line of the file. Raises TrainingFileError for the first bad row and for too few rows; returns
    early when `stopped` says so.
    """
    examples = 0
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_ROW_BYTES + 1):
            number += 1
            if len(line) > MAX_ROW_BYTES:
                raise _bad_row(param, number, f"it is longer than {MAX_ROW_BYTES} bytes")
            if not line.strip():
                continue
            problem = row_problem(line, method)
            if problem is not None:
                raise _bad_row(param, number, problem)
            examples += 1
            if examples % 1000 == 0 and stopped():
                return examples
    least = MIN_EXAMPLES if param == "training_file" else 1
    if examples < least:
        name = param.replace("_", " ").capitalize()
        message = f"{name} has {examples} example(s), but must have at least {least} examples"
        raise TrainingFileError("invalid_n_examples", message, param)
    return examples


def _bad_row(param: str, number: int, problem: str) -> TrainingFileError:
    name = param.replace("_", " ")
    message = f"The job failed due to an invalid {name}. Invalid file format: row {number}: {problem}."
    return TrainingFileError(f"invalid_{param}", message, param)


def row_problem(line: bytes, method: str = "supervised") -> str | None:
    """Return what is wrong with one row, None when it can be trained on; its words are never quoted."""
    try:
        row = msgspec.json.decode(line)
    except (ValueError, RecursionError):
        return "it is not valid JSON in UTF-8"
    if not isinstance(row, dict):
        return "it is not a JSON object"
    if method == "dpo":
        return _preference_problem(row)
    return _messages_problem(row) or _answers_problem(row["messages"])


def _messages_problem(row: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the messages and tools of a row or of a preference's input."""
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        return "it has no list of messages"
    for index, message in enumerate(messages, 1):
        problem = _message_problem(message)
        if problem is not None:
            return f"message {index} {problem}"
    return None if isinstance(row.get("tools") or [], list) else "its tools are not a list"


def _answers_problem(messages: Sequence[Mapping[str, Any]]) -> str | None:
    """Return what is wrong with a supervised row's answers."""
    spoken = [message for message in messages if message["role"] == "assistant"]
    if not spoken:
        return "it has no message of the assistant"
    if all(message.get("weight") == 0 for message in spoken):
        return "every message of the assistant has weight 0, so nothing would be trained"
    return None


def _preference_problem(row: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a row {input: {messages, tools}, preferred_output, non_preferred_output}."""
    asked = row.get("input")
    if not isinstance(asked, dict):
        return "it has no input with messages"
    if (problem := _messages_problem(asked)) is not None:
        return f"in its input, {problem}"
    for name in ("preferred_output", "non_preferred_output"):
        answer = row.get(name)
        if not isinstance(answer, list) or len(answer) != 1:
            return f"its {name} is not a list of one message"
        if (problem := _message_problem(answer[0])) is not None:
            return f"the message of its {name} {problem}"
        if answer[0]["role"] != "assistant":
            return f"the message of its {name} is not the assistant's"
    if row["preferred_output"] == row["non_preferred_output"]:
        return "its two outputs are the same, so nothing would be learnt"
    return None


def _message_problem(message: Any) -> str | None:
    if not isinstance(message, dict):
        return "is not an object"
    role = message.get("role")
    if role not in _ROLES:
        return "has no known role"
    weight = message.get("weight")
    if weight is not None and (isinstance(weight, bool) or weight not in (0, 1)):
        return "has a weight that is neither 0 nor 1"
    if weight is not None and role != "assistant":
        return "has a weight, which only messages of the assistant may have"
    calls = message.get("tool_calls") or message.get("function_call")
    content = message.get("content")
    if content is None:
        return None if role == "assistant" and calls else "has no content"
    return None if _is_text(content) else "has content that is not text"


def _is_text(content: Any) -> bool:
    if isinstance(content, list):
        return all(
            isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
            for part in content
        )
    return isinstance(content, str)


def choose(asked: Mapping[str, Any], examples: int) -> dict[str, Any]:
    """Replace each "auto" by the number for a training file of `examples` rows.

    n_epochs: 2, more for fewer than 50 rows and fewer for more than 12,500 (the form of the rule in OpenAI's
    cookbook, one epoch below its 3: an adapter at our rate learns little from the third); batch_size: 2 % of
    the rows, 1 to 16; learning_rate_multiplier: 1; beta: 0.1 (the value of the method's authors).
    """
    epochs = _TARGET_EPOCHS
    if examples * _TARGET_EPOCHS < _MIN_TRAINED:
        epochs = min(_MAX_EPOCHS, _MIN_TRAINED // examples)
    elif examples * _TARGET_EPOCHS > _MAX_TRAINED:
        epochs = max(1, _MAX_TRAINED // examples)
    automatic = {
        "n_epochs": epochs,
        "batch_size": max(1, min(16, round(examples * 0.02))),
        "learning_rate_multiplier": 1.0,
        "beta": 0.1,
    }
    return {name: automatic[name] if value == "auto" else value for name, value in asked.items()}
