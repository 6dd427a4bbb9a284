"""One model's side of a chat: what was asked, what it answers as it streams, and what each answer took."""

from __future__ import annotations

from textual.content import Content

from tunedesk.providers.replies import Reply
from tunedesk.tui.widgets.plain import plain_line
from tunedesk.tui.widgets.stream_pane import StreamPane

_WAITING = "waiting for the first word …"


class Transcript(StreamPane):
    """The turns with one model, the newest at the end."""

    def __init__(self, model: str, name: str) -> None:
        """Start an empty chat with `model`; `name` (base, tuned, …) says what it is here."""
        super().__init__(jumps=True)
        self.model = model
        self.border_title = plain_line(f"{name} · {model}").markup
        self._waiting = False

    def ask(self, text: str) -> None:
        """Show what the user said, and wait for the answer."""
        if self.text:
            self.add()
        self.add("you", "head")
        self.add(text)
        self.add(self.model, "head")
        self.add(_WAITING, "quiet")
        self._waiting = True
        self.following = True

    def grow(self, text: str) -> None:
        """Add a piece of the answer."""
        if self._waiting:
            self.replace_last("")
            self._waiting = False
        self.feed(text)

    def finish(self, reply: Reply | None, error: str = "") -> None:
        """Say what the answer took, or why there is none or not all of it."""
        if self._waiting:
            self.replace_last("no answer", "quiet")
            self._waiting = False
        if reply is not None and reply.text:
            self.add(facts(reply), "quiet")
        if error or (reply is not None and reply.error):
            self.add(f"✗ {error or (reply.error if reply else '')}", "bad")


def facts(reply: Reply) -> str:
    """Return tokens, time to the first text, time in all, speed and fingerprint in one line."""
    parts = []
    if reply.usage is not None:
        parts.append(f"{reply.usage.prompt_tokens}→{reply.usage.completion_tokens} tokens")
    if reply.first_token_s is not None:
        parts.append(f"first {reply.first_token_s:.2f} s")
    parts.append(f"total {reply.total_s:.2f} s")
    if reply.tokens_per_second:
        parts.append(f"{reply.tokens_per_second:.0f} tokens/s")
    if reply.system_fingerprint:
        parts.append(f"weights {reply.system_fingerprint}")
    return " · ".join(parts)


def system_line(system: str) -> Content:
    """Return the system prompt on one line, or that there is none."""
    head = Content.styled("system ", "bold")
    return head + (plain_line(system) if system else Content.styled("none", "italic"))
