"""What answers took and cost is told by the usage that the endpoint reports, and unknown without it."""

from __future__ import annotations

from tunedesk.core.conversations import Conversation
from tunedesk.core.fine_tuning import Usage
from tunedesk.evaluate import Answer
from tunedesk.providers.replies import Reply
from tunedesk.tui.panes.answers import answer_facts
from tunedesk.tui.panes.compare_view import CompareView, taken_lines
from tunedesk.tui.panes.transcript import Taken, cost, facts

REPLY = Reply("m", "Hello", Usage(120, 8), first_token_s=0.25, total_s=1.5)
SILENT = Reply("m", "Hello", first_token_s=0.25, total_s=1.5)


def test_a_reply_tells_tokens_cost_and_latency_and_what_is_unknown() -> None:
    assert facts(REPLY, 0.00042) == "120→8 tokens · $0.00042 · first 0.25 s · total 1.50 s · 6 tokens/s"
    assert facts(REPLY, 0.0).split(" · ")[1] == "free"
    assert facts(SILENT, None) == "tokens unknown · cost unknown · first 0.25 s · total 1.50 s"
    assert cost(1234.5) == "$1,234.50"


def test_a_chat_tells_what_its_answers_took_together() -> None:
    total = Taken().with_reply(REPLY, 0.25).with_reply(REPLY, 0.25)
    assert total.text == "2 answers · 240→16 tokens · $0.5"
    assert total.with_reply(SILENT, None).text == "3 answers · 240→16 tokens and 1 unknown · cost unknown"


def test_a_comparison_tells_it_by_answer_and_by_model() -> None:
    told = Answer(0, "m", "Hi", 0.5, 2.0, completion_tokens=7, prompt_tokens=90)
    silent = Answer(1, "m", "Hi", 0.5, 2.0)
    item = Conversation(messages=())
    assert "90→7 tokens · $0.001 · first 0.50 s · total 2.0 s" in answer_facts(told, item, 0.001)
    assert "tokens unknown · cost unknown" in answer_facts(silent, item)
    view = CompareView(models=("m", "n"), answers={(0, "m"): told})
    lines = taken_lines(view, lambda _: 0.001)
    assert lines == ["m: 1 answers · 90→7 tokens · $0.001", "n: 0 answers · 0→0 tokens · free"]
    both = taken_lines(view.with_answer(silent), lambda one: None if one.prompt_tokens is None else 0.001)
    assert both[0] == "m: 2 answers · 90→7 tokens and 1 unknown · cost unknown"
