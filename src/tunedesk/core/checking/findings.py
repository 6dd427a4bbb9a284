"""What a check can find: every code with its severity, its meaning, and whether a safe fix exists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault of one row or file."""

    line: int
    """Physical line (1-based); 0 when the file as a whole is meant."""
    message: int | None
    """Index of the message in the row (0-based), where one message is at fault."""
    severity: Severity
    code: str
    text: str
    """What is wrong, and what to do about it, in words."""
    fix: str | None = None
    """What a safe fix would do; None where only a person can decide."""


@dataclass(frozen=True, slots=True)
class Check:
    """A code that findings carry."""

    severity: Severity
    meaning: str
    fix: str = ""
    """What the safe fix does; empty when there is none."""


CHECKS: dict[str, Check] = {
    # The file, line by line
    "empty_file": Check("error", "the file holds no conversation"),
    "gzip_cut": Check("error", "the gzip file ends before its end"),
    "not_utf8": Check("error", "the text is not UTF-8", "write a file of another encoding as UTF-8"),
    "bom": Check("warning", "the file begins with a byte order mark", "write without it"),
    "blank_line": Check("warning", "the line is empty", "leave the line out"),
    "json_invalid": Check("error", "the line is not JSON"),
    "json_array": Check("error", "the file is one JSON array, not one conversation a line"),
    "too_deep": Check("error", "the JSON is nested too deep to be read"),
    "duplicate_key": Check("error", "a key stands twice in one object; readers keep only the last"),
    "nan": Check("error", "NaN or Infinity is no JSON number"),
    "lone_surrogate": Check("error", "half of a character that UTF-8 cannot hold", "remove the half"),
    "not_object": Check("error", "the line is not a JSON object"),
    # The row
    "no_messages": Check("error", "there is no list of messages with at least one in it"),
    "unknown_key": Check("warning", "a key that the API does not know", "remove the key"),
    "tools_invalid": Check("error", "tools are not a list of functions with names"),
    "tools_empty": Check(
        "warning", "tools is an empty list, which the chat API refuses", "remove the empty list"
    ),
    "no_assistant": Check("error", "no message is the assistant's: nothing can be trained"),
    "last_not_assistant": Check(
        "error", "the last message is not the assistant's", "drop what follows the last answer"
    ),
    "first_assistant": Check("warning", "the assistant speaks first; some chat templates refuse that"),
    "no_user": Check("warning", "no message is the user's"),
    "all_weights_zero": Check("error", "every answer has weight 0: nothing is trained"),
    "system_in_middle": Check("warning", "a system message comes after others", "move it to the front"),
    "system_repeated": Check("warning", "more than one system message stands at the front", "join them"),
    "preference_invalid": Check("error", "the preference row is not a prompt and two single answers"),
    "preference_same": Check("error", "the preferred and the other answer are the same"),
    "over_long": Check("warning", "the conversation is longer than the model takes; its end is cut"),
    # A message
    "message_invalid": Check("error", "the message is not an object"),
    "role_unknown": Check("error", "the role is missing or none of the API's"),
    "content_missing": Check("error", "the message has no content"),
    "content_invalid": Check("error", "the content is neither text nor a list of valid parts"),
    "content_empty": Check(
        "error", "the content is empty", "drop the message where it is the system's or a tail"
    ),
    "content_blank": Check(
        "error", "the content is only white space", "drop the message where it is the system's or a tail"
    ),
    "field_invalid": Check("error", "name, refusal or another field has the wrong type"),
    "name_refused": Check(
        "warning", "the chat API refuses such a name: 1 to 64 characters, no space, no < > | / \\ are taken"
    ),
    "weight_invalid": Check(
        "error", "the weight is not the integer 0 or 1", "write 1.0 and true as 1, 0.0 and false as 0"
    ),
    "weight_not_assistant": Check(
        "error", "only an assistant message may have a weight", "remove the weight"
    ),
    "image_in_assistant": Check("error", "an assistant message holds an image"),
    "image_invalid": Check(
        "error", "an image is none that is taken: JPEG, PNG or WEBP up to 10 MB, at most 10 in a row"
    ),
    # Tool calls
    "tool_call_invalid": Check(
        "error", "a tool call lacks its id, type, name or arguments as text", "write arguments as JSON text"
    ),
    "tool_calls_empty": Check(
        "error", "tool_calls is an empty list or null, which the API refuses", "remove it"
    ),
    "tool_ids": Check("error", "two tool calls in one message have the same id"),
    "tool_call_unanswered": Check("error", "a tool call is not answered before the talk goes on"),
    "tool_answer_without_call": Check("error", "a tool answers that no message before it called"),
    "tool_arguments_not_json": Check("warning", "the arguments of a tool call are not one JSON object"),
    "tool_not_declared": Check("warning", "a tool is called that the row's tools do not name"),
    # Text
    "nul": Check("error", "the text holds a NUL character", "remove it"),
    "control_characters": Check("warning", "the text holds control characters", "remove them"),
    "line_separator": Check("warning", "U+2028 or U+2029 breaks lines for many readers", "make it a newline"),
    "mojibake": Check("warning", "the text was decoded wrongly once (Ã© for é)", "decode it again"),
    "replacement_character": Check("warning", "U+FFFD stands where a character was lost"),
    "special_token_text": Check("warning", "a model's control token stands in the text as words"),
    "placeholder_left": Check("warning", "a template's placeholder was not filled in"),
    "role_label_in_text": Check("warning", "the text begins with a speaker's label such as User:"),
    "boilerplate": Check("warning", "the answer speaks as an AI model"),
    "pii": Check("warning", "the text holds personal data"),
    # What is said
    "refusal": Check("warning", "the answer only refuses: a model learns to refuse"),
    "role_flip": Check("warning", "user and assistant seem to have changed sides"),
    "wrong_language": Check("warning", "the answer is in another language than the question"),
    "moderation_risk": Check("warning", "words that a provider's moderation may block the file for"),
    # What the provider or trainer makes of it
    "bom_missing": Check("warning", "Azure wants a byte order mark (tunedesk writes it when it uploads)"),
    "file_too_large": Check("error", "the file is larger than the provider takes"),
    "part_not_text": Check(
        "error", "this provider trains on text alone: images, audio and files are refused"
    ),
    "mask_empty": Check("error", "nothing that is trained is left after the cut at the model's limit"),
    "no_stop_token": Check(
        "warning",
        "the model's chat template writes no stop token after an answer (this engine adds it, others may not)",
    ),
    # The whole file
    "kinds_mixed": Check("error", "a training file holds conversations or preference rows, never both"),
    "too_few_examples": Check("error", "a training file needs at least 10 conversations"),
    "exact_duplicate": Check("warning", "the same conversation stands further up", "leave the later one out"),
    "near_duplicate": Check("warning", "nearly the same conversation stands further up"),
    "contradiction": Check("warning", "the same question gets a different answer further up"),
    "repeated_answer": Check("warning", "the same long answer is given again and again"),
    "system_prompts_differ": Check("warning", "few rows have another system prompt than the others"),
    "system_missing": Check("warning", "the row lacks the system prompt that the others have"),
}
"""Every code. A new check is a function that yields it, a line here, and its two examples in the tests."""

SAID = frozenset(
    (
        "control_characters", "line_separator", "mojibake", "replacement_character", "special_token_text",
        "placeholder_left", "role_label_in_text", "boilerplate", "pii", "refusal", "role_flip", "wrong_language",
        "moderation_risk", "exact_duplicate", "near_duplicate", "contradiction", "repeated_answer",
        "system_prompts_differ", "system_missing",
    )
)  # fmt: skip
"""Codes of what is said, and of what rows say together; none of them is an error."""


def finding(code: str, line: int, message: int | None, text: str = "", *, fixable: bool = True) -> Finding:
    """Return the finding of `code` with its severity; `text` adds the particulars."""
    check = CHECKS[code]
    said = f"{check.meaning}: {text}" if text else check.meaning
    return Finding(line, message, check.severity, code, said, check.fix or None if fixable else None)
