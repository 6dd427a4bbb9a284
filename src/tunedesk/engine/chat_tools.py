"""Calls of tools in what a model writes: the Hermes form, which most templates teach and ours falls back on."""

from __future__ import annotations

import json
from typing import Any

from tunedesk.engine.wire import new_id

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"


class ToolText:
    """A reply's text as it grows: what comes before the first call may be shown, calls are kept to the end."""

    def __init__(self) -> None:
        self._held = ""

    def add(self, text: str) -> str:
        """Take in more text and return what may be shown by now."""
        self._held += text
        place = self._held.find(_OPEN)
        if place < 0:
            tails = range(min(len(_OPEN) - 1, len(self._held)), 0, -1)
            place = len(self._held) - next((n for n in tails if _OPEN.startswith(self._held[-n:])), 0)
        shown, self._held = self._held[:place], self._held[place:]
        return shown

    def end(self) -> tuple[str, list[dict[str, Any]]]:
        """Return the rest of the text and the calls in it, in OpenAI's form.

        What is no call of the form (no object with a name, or cut off) stays text.
        """
        calls = []
        text, *parts = self._held.split(_OPEN)
        for part in parts:
            inner, _, after = part.partition(_CLOSE)
            call = _call(inner)
            if call is None:
                text += _OPEN + part
            else:
                calls.append(call)
                text += after
        self._held = ""
        return text.rstrip() if calls else text, calls


def _call(text: str) -> dict[str, Any] | None:
    try:
        told = json.loads(text)
        name, arguments = told["name"], told.get("arguments", {})
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None
    if not isinstance(name, str):
        return None
    words = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {"id": new_id("call_"), "type": "function", "function": {"name": name, "arguments": words}}
