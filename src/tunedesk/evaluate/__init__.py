"""Did it get better? Held-out prompts through several models, scored against what people wrote, and told honestly.

comparing.py asks, scores.py measures, report.py writes the page and the lines for the terminal.
"""

from __future__ import annotations

from tunedesk.evaluate.comparing import Answer, CompareResult, Item, compare, win_rate
from tunedesk.evaluate.report import summary, write_report
from tunedesk.evaluate.scores import Difference, HouseRule, Interval, ModelScore

__all__ = [
    "Answer",
    "CompareResult",
    "Difference",
    "HouseRule",
    "Interval",
    "Item",
    "ModelScore",
    "compare",
    "summary",
    "win_rate",
    "write_report",
]
