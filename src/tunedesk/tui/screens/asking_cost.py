"""What an answer cost, by the usage that its endpoint reported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunedesk.core.counting.pricing import asking_usd

if TYPE_CHECKING:
    from tunedesk.evaluate import Answer
    from tunedesk.providers.replies import Reply
    from tunedesk.workbench import Workbench


def answer_cost(workbench: Workbench | None, profile: str, answer: Answer | Reply | None) -> float | None:
    """Return US dollars, 0 on this machine, None where usage or price are unknown."""
    if workbench is None or answer is None:
        return None
    if workbench.profile(profile).is_local:
        return 0.0
    read, written = _tokens(answer)
    return None if read is None else asking_usd(answer.model, read, written, workbench.prices)


def _tokens(answer: Answer | Reply) -> tuple[int | None, int]:
    if hasattr(answer, "usage"):
        usage = answer.usage
        return (usage.prompt_tokens, usage.completion_tokens) if usage else (None, 0)
    return answer.prompt_tokens, answer.completion_tokens
