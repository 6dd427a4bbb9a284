"""One model's side of a chat: what was asked, what it answers as it streams, and what each answer took."""

from __future__ import annotations

from dataclasses import dataclass

from textual.content import Content

from tunedesk.core.fine_tuning import Usage
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
        self.border_title = plain_line(f"{name} · {model}")
        self._waiting = False
        self._total = Taken()

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

    def finish(self, reply: Reply | None, error: str = "", usd: float | None = None) -> None:
        """Say what the answer took and cost, or why there is none or not all of it; the frame tells the sum."""
        if self._waiting:
            self.replace_last("no answer", "quiet")
            self._waiting = False
        if reply is not None and reply.text:
            self.add(facts(reply, usd), "quiet")
            self._total = self._total.with_reply(reply, usd)
            self.border_subtitle = plain_line(self._total.text)
        if error or (reply is not None and reply.error):
            self.add(f"✗ {error or (reply.error if reply else '')}", "bad")


@dataclass(frozen=True, slots=True)
class Taken:
    """What the answers of one chat took together, as far as the endpoint reports it."""

    replies: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float | None = 0.0
    """None once the cost of one of them is unknown."""
    unreported: int = 0
    """Answers whose tokens the endpoint did not report."""

    def with_reply(self, reply: Reply, usd: float | None) -> Taken:
        """Return the sum with one more answer."""
        usage = reply.usage or Usage()
        return Taken(
            self.replies + 1,
            self.prompt_tokens + usage.prompt_tokens,
            self.completion_tokens + usage.completion_tokens,
            None if usd is None or self.usd is None else self.usd + usd,
            self.unreported + (reply.usage is None),
        )

    @property
    def text(self) -> str:
        """What it comes to, on one line."""
        tokens = f"{self.prompt_tokens:,}→{self.completion_tokens:,} tokens"
        if self.unreported:
            tokens += f" and {self.unreported} unknown"
        return f"{self.replies} answers · {tokens} · {cost(self.usd)}"


def facts(reply: Reply, usd: float | None) -> str:
    """Return tokens, cost, time to the first text, time in all, speed and fingerprint in one line."""
    usage = reply.usage
    parts = ["tokens unknown" if usage is None else f"{usage.prompt_tokens}→{usage.completion_tokens} tokens"]
    parts.append(cost(None if usage is None and usd != 0 else usd))
    if reply.first_token_s is not None:
        parts.append(f"first {reply.first_token_s:.2f} s")
    parts.append(f"total {reply.total_s:.2f} s")
    if reply.tokens_per_second:
        parts.append(f"{reply.tokens_per_second:.0f} tokens/s")
    if reply.system_fingerprint:
        parts.append(f"weights {reply.system_fingerprint}")
    return " · ".join(parts)


def cost(usd: float | None) -> str:
    """Return what asking cost: some thousandth of a dollar as such, nothing as free, None as unknown."""
    if usd is None:
        return "cost unknown"
    return "free" if not usd else f"${usd:,.2f}" if usd >= 1 else f"${usd:.6f}".rstrip("0")


def system_line(system: str) -> Content:
    """Return the system prompt on one line, or that there is none."""
    head = Content.styled("system ", "bold")
    return head + (plain_line(system) if system else Content.styled("none", "italic"))
