"""Did it get better? Held-out prompts through several models, scored against what people wrote, and told honestly.

comparing.py asks, scores.py measures, judging.py lets a model judge, report.py writes the page and the lines for
the terminal.
"""

from __future__ import annotations

from tunedesk.evaluate.comparing import Answer, CompareResult, Item, compare, win_rate
from tunedesk.evaluate.judging import Judgement, Verdict, judge, questions
from tunedesk.evaluate.report import judged, summary, write_report
from tunedesk.evaluate.scores import Difference, HouseRule, Interval, ModelScore

__all__ = [
    "Answer",
    "CompareResult",
    "Difference",
    "HouseRule",
    "Interval",
    "Item",
    "Judgement",
    "ModelScore",
    "Verdict",
    "compare",
    "judge",
    "judged",
    "questions",
    "summary",
    "win_rate",
    "write_report",
]
