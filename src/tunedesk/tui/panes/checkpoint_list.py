"""The checkpoints of the followed job: models from the middle of it that can be chatted with."""

from __future__ import annotations

from collections.abc import Sequence

from textual import events
from textual.reactive import reactive

from tunedesk.core.fine_tuning import Checkpoint
from tunedesk.tui.panes.job_view import JobView
from tunedesk.tui.widgets.virtual_list import Column, ListRow, VirtualList

_COLUMNS = (
    Column("mark", "", 1),
    Column("step", "step", 6, right=True),
    Column("epoch", "epoch", 5, right=True),
    Column("train", "train", 6, right=True),
    Column("valid", "valid", 6, right=True),
    Column("accuracy", "accuracy", 8, right=True),
    Column("model", "model"),
)
_FIRST_TO_GO = ("accuracy", "epoch", "train")
_MODEL_LEAST = 16


class CheckpointList(VirtualList):
    """By step; ★ is the best: the one that the user starred, else the one with the lowest validation loss."""

    BORDER_TITLE = "Checkpoints"

    view: reactive[JobView] = reactive(JobView, init=False)

    def __init__(self) -> None:
        """Show none yet."""
        super().__init__(_COLUMNS, self._rows, empty="no checkpoint yet: one is saved after each epoch")

    @property
    def highlighted(self) -> Checkpoint | None:
        """The checkpoint under the cursor, None when there is none."""
        shown = self.view.checkpoints
        return shown[self.index] if self.index is not None and self.index < len(shown) else None

    def watch_view(self, old: JobView, new: JobView) -> None:
        """Show the checkpoints that are known now; another job's from the first."""
        if old.checkpoints != new.checkpoints or old.key != new.key:
            self.show(range(len(new.checkpoints)), keep_place=old.key == new.key)
        elif old.best != new.best or old.points != new.points:
            self.reload()

    def on_resize(self, event: events.Resize) -> None:
        """Show the columns that there is room for."""
        super().on_resize(event)
        shown = {column.key: column for column in _COLUMNS}
        for key in _FIRST_TO_GO:
            if (
                self.scrollable_content_region.width - 2 - sum(column.width + 1 for column in shown.values())
                >= _MODEL_LEAST
            ):
                break
            del shown[key]
        self.columns = tuple(shown.values())
        self.reload()

    def _rows(self, indexes: Sequence[int]) -> list[ListRow]:
        best = self.view.best
        rows = []
        for one in (self.view.checkpoints[index] for index in indexes):
            point = self.view.points.get(one.step)

            def told(*names: str, one: Checkpoint = one, point: object = point) -> str:
                values = [one.metrics.get(name, getattr(point, name, None)) for name in names]
                value = next((value for value in values if value is not None), None)
                return "" if value is None else f"{value:.3f}"

            cells = {
                "mark": "★" if best is not None and one.id == best.id else "◆",
                "step": str(one.step),
                "epoch": _epoch(self.view, one),
                "train": told("train_loss"),
                "valid": told("full_valid_loss", "valid_loss"),
                "accuracy": told("full_valid_mean_token_accuracy", "valid_mean_token_accuracy"),
                "model": one.model,
            }
            rows.append(ListRow([cells[column.key] for column in self.columns]))
        return rows


def _epoch(view: JobView, one: Checkpoint) -> str:
    epochs = view.job.hyperparameters.n_epochs if view.job else None
    steps = max((point.total_steps or 0 for point in view.points.values()), default=0)
    return f"{one.step * epochs / steps:.3g}" if isinstance(epochs, int) and steps else ""
