"""What a job learns from: answers (supervised) or preferences between two answers (dpo).

An objective reads the job's files, and turns a batch into parts, each with its share of the batch's mean loss, so
that the trainer needs to know nothing else of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from tunedesk.engine.batches import Example, Renderer, RowError, RowTooLong, chunks, read_rows
from tunedesk.engine.nets import Net
from tunedesk.engine.training_state import named_parameters


class Item(Protocol):
    """One thing to learn from: an example, or a pair of them."""

    @property
    def line(self) -> int:
        """Physical line of its row in the file, from 1."""

    @property
    def tokens(self) -> int:
        """All its tokens, as they are billed."""

    @property
    def targets(self) -> int:
        """Tokens that are trained."""

    @property
    def cut(self) -> int:
        """Tokens that were cut off because of the context limit."""


@dataclass(frozen=True, slots=True)
class Part:
    """What came of a few items of a batch, computed at once."""

    loss: Tensor
    """Their share of the batch's mean loss, differentiable."""
    hits: int
    """Trained tokens (of the preferred answers) that were the likeliest."""
    targets: int
    """How many such tokens there are."""
    rows: list[tuple[int, float, int]]
    """(line, its own mean loss, trained tokens) of each item."""
    margins: list[float]
    """For each pair how much more the preferred answer is rewarded; empty for supervised items."""


@dataclass(slots=True)
class Measured:
    """The loss and accuracy of a batch or a file, added up part by part."""

    loss: float = 0.0
    hits: int = 0
    targets: int = 0
    margins: tuple[float, ...] = ()

    def add(self, part: Part, weight: float = 1.0) -> None:
        """Take in a part; `weight` is the share of what is measured that the part's batch is."""
        self.loss += float(part.loss.detach()) * weight
        self.hits += part.hits
        self.targets += part.targets
        self.margins += tuple(part.margins)

    @classmethod
    def together(cls, shares: Iterable[Measured]) -> Measured:
        """Return what the shares of one batch come to."""
        whole = cls()
        for one in shares:
            whole.loss += one.loss
            whole.hits += one.hits
            whole.targets += one.targets
            whole.margins += one.margins
        return whole

    def named(self, prefix: str) -> dict[str, float]:
        """Return the metrics under OpenAI's names: `prefix` is train, valid or full_valid."""
        named = {f"{prefix}_loss": self.loss, f"{prefix}_mean_token_accuracy": self.hits / self.targets}
        if self.margins:
            won = sum(margin > 0 for margin in self.margins)
            named[f"{prefix}_reward_accuracy"] = won / len(self.margins)
            named[f"{prefix}_reward_margin"] = sum(self.margins) / len(self.margins)
        return named


class Objective(Protocol):
    """A way to learn."""

    rate: float
    """What the learning rate is multiplied by."""

    def read(self, path: Path, renderer: Renderer, too_long: Callable[[int], None]) -> list[Any]:
        """Read a file's items; rows of which nothing can be trained go to `too_long` by their lines.

        Raises DataError naming the row.
        """
        ...

    def weight(self, items: Sequence[Any]) -> float:
        """Return what `items` count for in the mean over a batch."""
        ...

    def parts(self, net: Net, batch: Sequence[Any]) -> Iterator[Part]:
        """Yield the batch's parts; each must have been gone back through before the next is asked for."""
        ...


class Supervised:
    """The mean negative log-likelihood of a batch's trained tokens."""

    rate = 1.0

    def read(self, path: Path, renderer: Renderer, too_long: Callable[[int], None]) -> list[Example]:
        """See Objective.read."""
        found: list[Example] = []
        for line, row in read_rows(path):
            try:
                found += renderer.examples(line, row)
            except RowTooLong:
                too_long(line)
        return found

    def weight(self, items: Sequence[Example]) -> float:
        """See Objective.weight: every trained token counts alike."""
        return sum(example.targets for example in items)

    def parts(self, net: Net, batch: Sequence[Example]) -> Iterator[Part]:
        """See Objective.parts."""
        trained = sum(example.targets for example in batch)
        for chunk in chunks(batch, packed=net.packs):
            losses, hit = net.losses(chunk)
            means = [float(one.mean()) for one in _by_example(losses.detach(), chunk)]
            rows = [(one.line, mean, one.targets) for one, mean in zip(chunk, means, strict=True)]
            yield Part(losses.sum() / trained, int(hit.sum()), len(hit), rows, [])


@dataclass(frozen=True, slots=True)
class Pair:
    """The same input with the preferred answer and with the other one; only the answers are trained."""

    chosen: Example
    rejected: Example

    @property
    def line(self) -> int:
        """See Item."""
        return self.chosen.line

    @property
    def sequences(self) -> tuple[Example, ...]:
        """Both answers, each behind the input."""
        return self.chosen, self.rejected

    @property
    def length(self) -> int:
        """Tokens of the longer one."""
        return max(self.chosen.length, self.rejected.length)

    @property
    def tokens(self) -> int:
        """See Item."""
        return self.chosen.tokens + self.rejected.tokens

    @property
    def targets(self) -> int:
        """See Item."""
        return self.chosen.targets + self.rejected.targets

    @property
    def cut(self) -> int:
        """See Item."""
        return max(self.chosen.cut, self.rejected.cut)


class Dpo:
    """Direct preference optimisation (Rafailov et al., 2023), against the model as it was when the job began.

    With d = log p(answer) under the model being trained minus under the frozen one, the loss of a pair is
    -log sigmoid(beta (d of the preferred answer - d of the other)). A batch's loss is the mean over its pairs.
    """

    rate = 0.1
    """Preferences overturn a model sooner than answers do."""

    def __init__(self, beta: float, net: Net) -> None:
        """Freeze `net` as it is now: before the state of a resumed job is put into it."""
        self._beta = beta
        self._frozen = [tensor.detach().clone() for tensor in named_parameters(net.adapter).values()]

    def read(self, path: Path, renderer: Renderer, too_long: Callable[[int], None]) -> list[Pair]:
        """See Objective.read."""
        found: list[Pair] = []
        for line, row in read_rows(path):
            try:
                found.append(_pair(line, row, renderer))
            except RowTooLong:
                too_long(line)
        return found

    def weight(self, items: Sequence[Pair]) -> float:
        """See Objective.weight: every pair counts alike."""
        return len(items)

    def parts(self, net: Net, batch: Sequence[Pair]) -> Iterator[Part]:
        """See Objective.parts."""
        for chunk in chunks(batch, packed=net.packs):
            examples = [example for pair in chunk for example in pair.sequences]
            with self._as_it_was(net), torch.no_grad():
                before = _summed(net.losses(examples)[0], examples)
            losses, hit = net.losses(examples)
            gained = before - _summed(losses, examples)  # 2 n: log p now - log p before
            margins = self._beta * (gained[0::2] - gained[1::2])
            each = -F.logsigmoid(margins)
            preferred = torch.split(hit, [example.targets for example in examples])[0::2]
            yield Part(
                each.sum() / len(batch),
                sum(int(one.sum()) for one in preferred),
                sum(len(one) for one in preferred),
                [
                    (pair.line, float(loss), pair.targets)
                    for pair, loss in zip(chunk, each.detach(), strict=True)
                ],
                margins.detach().tolist(),
            )

    @contextmanager
    def _as_it_was(self, net: Net) -> Iterator[None]:
        """Put the starting matrices into the net for a while."""
        live = [tensor.detach() for tensor in named_parameters(net.adapter).values()]
        now = [tensor.clone() for tensor in live]
        try:
            for tensor, old in zip(live, self._frozen, strict=True):
                tensor.copy_(old)
            yield
        finally:
            for tensor, new in zip(live, now, strict=True):
                tensor.copy_(new)


def _by_example(values: Tensor, examples: Sequence[Example]) -> tuple[Tensor, ...]:
    """Cut a value for each trained token into one tensor an example."""
    return torch.split(values, [example.targets for example in examples])


def _summed(values: Tensor, examples: Sequence[Example]) -> Tensor:
    """Add up each example's values."""
    return torch.stack([one.sum() for one in _by_example(values, examples)])


def _pair(line: int, row: Mapping[str, Any], renderer: Renderer) -> Pair:
    """Render a row {input: {messages, tools}, preferred_output, non_preferred_output}. Raises RowError."""
    asked = row.get("input")
    if not isinstance(asked, dict) or not isinstance(asked.get("messages"), list):
        raise RowError(line, "it has no input with messages")
    said = [
        {**message, "weight": 0}
        if isinstance(message, dict) and message.get("role") == "assistant"
        else message
        for message in asked["messages"]
    ]
    sides = []
    for name in ("preferred_output", "non_preferred_output"):
        answer = row.get(name)
        if not isinstance(answer, list) or len(answer) != 1:
            raise RowError(line, f"its {name} is not a list of one message")
        sides.append(renderer.examples(line, {"messages": [*said, *answer], "tools": asked.get("tools")})[-1])
    return Pair(*sides)
