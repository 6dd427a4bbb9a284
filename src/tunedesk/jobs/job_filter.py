"""The query grammar over jobs: `status:failed -provider:openai model:mini cost>5 refund`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tunedesk.core.datasets.indexing import fold
from tunedesk.core.searching.query import (
    And,
    Compare,
    Everything,
    Field,
    Node,
    Not,
    Or,
    Pattern,
    QueryError,
    State,
    Text,
    parse,
)
from tunedesk.store import KnownJob

FIELDS = ("status", "provider", "model", "method", "job", "dataset")
NUMBERS = ("epochs", "batch", "rate", "tokens", "cost", "minutes")
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "=": operator.eq, "!=": operator.ne,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class JobFacts:
    """A job with what is known of it elsewhere."""

    known: KnownJob
    cost: float | None = None
    """US dollars; None when unknown."""
    minutes: float = 0.0
    """From its creation to its end, or to now."""
    dataset: str = ""
    """Name of the dataset that it was trained on."""

    def text(self, name: str) -> str:
        """Return what a field of FIELDS says of the job."""
        job = self.known.job
        told = {
            "status": job.status, "provider": self.known.profile, "method": job.method, "job": job.id,
            "model": f"{job.fine_tuned_model or ''} {job.model}", "dataset": self.dataset,
        }  # fmt: skip
        return told[name]

    def number(self, name: str) -> float | None:
        """Return a number of NUMBERS, None when it is unknown or left to the provider."""
        job = self.known.job
        asked = job.hyperparameters
        told = {
            "epochs": asked.n_epochs, "batch": asked.batch_size, "rate": asked.learning_rate_multiplier,
            "tokens": job.trained_tokens, "cost": self.cost, "minutes": self.minutes,
        }  # fmt: skip
        value = told[name]
        return float(value) if isinstance(value, int | float) else None


def matching(jobs: Sequence[JobFacts], text: str) -> list[int]:
    """Return the places of the jobs that a query matches, in their order; raises QueryError."""
    root = parse(text).root
    return [place for place, one in enumerate(jobs) if _met(root, one)]


def _met(node: Node, one: JobFacts) -> bool:
    match node:
        case Everything():
            return True
        case And(parts=parts):
            return all(_met(part, one) for part in parts)
        case Or(parts=parts):
            return any(_met(part, one) for part in parts)
        case Not(part=part):
            return not _met(part, one)
        case Text(needle=needle):
            return any(needle in fold(one.text(name)) for name in FIELDS)
        case Pattern(source=source, column=column):
            return any(_found(source, one.text(name), column) for name in FIELDS)
        case Compare():
            return _compared(node, one)
        case Field() | State():
            return _field(node, one)


def _found(source: str, text: str, column: int) -> bool:
    try:
        return re.search(source, text, re.IGNORECASE) is not None
    except re.error as error:
        raise QueryError(f"the pattern cannot be read: {error}", column=column) from error


def _field(node: Field | State, one: JobFacts) -> bool:
    if node.field not in FIELDS:
        raise QueryError(
            f"jobs have no field {node.field}", f"one of {', '.join(FIELDS)}", column=node.column
        )
    return node.value in fold(one.text(node.field))


def _compared(node: Compare, one: JobFacts) -> bool:
    if node.field not in NUMBERS:
        raise QueryError(
            f"jobs have no number {node.field}", f"one of {', '.join(NUMBERS)}", column=node.column
        )
    value = one.number(node.field)
    return value is not None and _OPERATORS[node.operator](value, node.bound)
