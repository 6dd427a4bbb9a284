"""One held-out prompt: what people answered and what each model did, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.reactive import reactive

from tunedesk.core.conversations import Conversation
from tunedesk.evaluate import Answer
from tunedesk.evaluate.scores import chrf
from tunedesk.tui.panes.compare_view import CompareView
from tunedesk.tui.panes.transcript import cost
from tunedesk.tui.widgets.plain import plain_line
from tunedesk.tui.widgets.stream_pane import StreamPane
from tunedesk.tui.widgets.virtual_list import Column, ListRow, VirtualList


class ItemList(VirtualList):
    """The held-out prompts with the similarity of each model's answer."""

    BORDER_TITLE = "Held-out prompts"

    view: reactive[CompareView] = reactive(CompareView, init=False)

    def __init__(self) -> None:
        """Start without prompts."""
        super().__init__(_columns(()), self._rows, empty="r runs the comparison")

    def watch_view(self, old: CompareView, new: CompareView) -> None:
        """Show the prompts and the answers that are there."""
        if old.models != new.models:
            self.columns = _columns(new.models)
        if len(old.items) != len(new.items) or old.source != new.source:
            self.show(range(len(new.items)))
        self.reload()

    def _rows(self, indexes: Sequence[int]) -> Sequence[ListRow]:
        view = self.view
        return [
            ListRow([
                str(index + 1),
                question(view.items[index]),
                *(similarity(view.answers.get((index, model)), view.items[index]) for model in view.models),
            ])
            for index in indexes
        ]  # fmt: skip


class AnswerPanes(Horizontal):
    """The people's answer and one pane a model."""

    cost_of: Callable[[Answer], float | None] = staticmethod(lambda _: None)
    """US dollars of an answer, None where that is unknown."""

    def compose(self) -> ComposeResult:
        """Begin with the people's pane."""
        yield StreamPane(tails=False)

    async def show_models(self, models: Sequence[str]) -> None:
        """Lay out a pane for each model."""
        await self.remove_children()
        panes = [StreamPane(tails=False) for _ in range(len(models) + 1)]
        await self.mount_all(panes)
        for pane, title in zip(panes, ("people", *models), strict=True):
            pane.border_title = plain_line(title)

    def show_item(self, view: CompareView, index: int | None) -> None:
        """Show one prompt with its answers, or nothing."""
        panes = list(self.query(StreamPane))
        for pane in panes:
            pane.clear()
        if index is None or index >= len(view.items) or len(panes) != len(view.models) + 1:
            return
        item = view.items[index]
        panes[0].add("customer", "head")
        panes[0].add(question(item))
        panes[0].add("people answered", "head")
        panes[0].add(item.reference)
        for pane, model in zip(panes[1:], view.models, strict=True):
            answer = view.answers.get((index, model))
            if answer is None:
                pane.add("not asked yet", "quiet")
                continue
            pane.add(answer.text)
            if answer.error:
                pane.add(f"✗ {answer.error}", "bad")
            pane.add(answer_facts(answer, item, self.cost_of(answer)), "quiet")


def _columns(models: Sequence[str]) -> tuple[Column, ...]:
    scores = tuple(Column(model, f"chrF {number}", 7, right=True) for number, model in enumerate(models, 1))
    return (Column("number", "#", 4, right=True), Column("question", "prompt"), *scores)


def question(item: Conversation) -> str:
    """Return what the customer said last before the answer."""
    return next((m.text for m in reversed(item.prompt) if m.role == "user"), "")


def similarity(answer: Answer | None, item: Conversation) -> str:
    """Return the answer's chrF against the people's, empty while there is none."""
    if answer is None:
        return ""
    return f"{chrf(answer.text, item.reference):.0f}" if answer.text else "✗"


def answer_facts(answer: Answer, item: Conversation, usd: float | None = None) -> str:
    """Return what an answer took and cost, and how near it is."""
    known = answer.prompt_tokens is not None
    parts = [
        f"chrF {similarity(answer, item)}",
        f"{answer.prompt_tokens}→{answer.completion_tokens} tokens" if known else "tokens unknown",
        cost(usd),
    ]
    if answer.first_token_s is not None:
        parts.append(f"first {answer.first_token_s:.2f} s")
    parts.append(f"total {answer.total_s:.1f} s")
    if answer.system_fingerprint:
        parts.append(f"weights {answer.system_fingerprint}")
    return " · ".join(parts)
