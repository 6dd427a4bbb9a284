"""The training recipe, in a process of its own: `python -m tunedesk.engine.trainer JOB_FOLDER`.

Reads job.json, writes one JSON object a line to standard output, the adapter to `adapter/`, one checkpoint an
epoch to `checkpoints/step-N/`, each row's loss to `row_losses.jsonl`, and its state so that the same command goes
on where a stopped or killed one was.

The recipe: LoRA of rank 16 on all linears, AdamW, a learning rate that warms up over 5 % of the steps and falls
linearly to zero, gradients clipped to norm 1, the loss being the mean over a batch's trained tokens. With
`tunedesk_patience` in the job's metadata, training ends after so many epochs without a lower validation loss, and
the best epoch's adapter is the result.
"""

from __future__ import annotations

import math
import os
import random
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from tunedesk.engine.adapters import load_adapter, save_adapter
from tunedesk.engine.batches import CHUNK_TOKENS, Renderer
from tunedesk.engine.channel import Channel
from tunedesk.engine.fetch import Interrupted, Report, in_words
from tunedesk.engine.fleet import Fleet, launch_command
from tunedesk.engine.models import (
    best_device,
    context_length,
    fastest_dtype,
    load_net,
    load_tokenizer,
    ready_model,
    silence,
)
from tunedesk.engine.nets import Net
from tunedesk.engine.objectives import Dpo, Item, Measured, Objective, Supervised
from tunedesk.engine.recipe import LEARNING_RATE, Job, learning_rate, order, schedule
from tunedesk.engine.row_losses import NAME as ROW_LOSSES
from tunedesk.engine.row_losses import RowLosses
from tunedesk.engine.training_state import Position, named_parameters, restore, save_state, saved_position
from tunedesk.errors import DataError, EngineError, TunedeskError

CLIP = 1.0
VALIDATE_EVERY = 10
"""Steps between losses of the small validation batch; fewer in runs of under a hundred steps."""
SAVE_SECONDS = 60.0


class _Stopped(Interrupted):
    """The server asked to stop."""


class _BadFile(Exception):
    """A file of the job cannot be trained on; `param` is its name in the request."""

    def __init__(self, error: DataError, param: str) -> None:
        super().__init__(error.message)
        self.error, self.param = error, param


@dataclass(slots=True)
class Run:
    """A job being trained."""

    job: Job
    base: str
    fleet: Fleet
    net: Net
    optimizer: torch.optim.Optimizer
    dtype: str
    objective: Objective
    training: Sequence[Item]
    validation: Sequence[Item]
    probe: Sequence[Item]
    """The small validation batch."""
    peak: float
    """The highest learning rate."""
    rows: RowLosses | None
    """The leader's alone."""
    step: int = 0
    """Steps done."""
    unmeasured: dict[str, float] = field(default_factory=dict)
    """Training loss and accuracy of the last step while its metrics are not yet written."""
    best: tuple[int, float] | None = None
    """Step and loss of the epoch's end with the lowest validation loss so far."""
    began: float = field(default_factory=time.monotonic)
    tokens_done: int = 0
    """Tokens trained since `began`."""
    steps_done: int = 0
    """Steps since `began`."""
    saved_at: float = field(default_factory=time.monotonic)

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch; the last may be of fewer rows."""
        return math.ceil(len(self.training) / self.job.batch_size)

    @property
    def steps(self) -> int:
        """Steps of the whole job."""
        return self.steps_per_epoch * self.job.epochs

    @property
    def epoch_ends(self) -> bool:
        """Whether the last step was the last of an epoch."""
        return self.step % self.steps_per_epoch == 0

    @property
    def ended(self) -> bool:
        """Whether all steps are done and measured, or as many epochs as were asked brought nothing better."""
        if self.unmeasured or self.step == 0:
            return False
        waited = (self.step - self.best[0]) // self.steps_per_epoch if self.best else 0
        return self.step >= self.steps or 0 < self.job.patience <= waited

    def save(self) -> None:
        """Write the training state, which the leader does for all. Raises StoreError."""
        if self.rows is None:
            return
        best_step, best_loss = self.best or (0, 0.0)
        position = Position(self.step, self.dtype, self.rows.sync(), self.unmeasured, best_step, best_loss)
        save_state(self.job.folder, position, self.net.adapter, self.optimizer)
        self.saved_at = time.monotonic()


def train(job: Job, channel: Channel, fleet: Fleet) -> None:
    """Run the recipe from where the job stands to its end, or to the next request to stop.

    Every process of the fleet runs it; what is measured, saved and told is the leader's.
    """
    run = None
    try:
        run = load(job, channel, fleet)
        announce(run, channel)
        if run.step == 0:
            leading(run, channel, measure_before)
        while not fleet.any(run.ended):
            if not run.unmeasured:
                if fleet.any(channel.stopping):
                    raise _Stopped
                advance(run)
            leading(run, channel, measure)
            run.unmeasured = {}
            if run.epoch_ends or time.monotonic() - run.saved_at > SAVE_SECONDS:
                run.save()
    except _Stopped:
        if run and (run.step or run.unmeasured):
            run.save()
        channel.emit("stopped", step=run.step if run else 0)
        return
    if fleet.leads:
        finish(run, channel)


def finish(run: Run, channel: Channel) -> None:
    """Save the result: the last adapter, or the best epoch's when early stopping was asked for; and say it."""
    adapter = run.net.adapter
    if run.best:
        step, loss = run.best
        channel.message(f"Lowest validation loss {loss:.4f} after step {step}: checkpoint ckpt-step-{step}")
        if run.job.patience and step != run.step:
            adapter = load_adapter(run.job.folder / f"checkpoints/step-{step}")
            channel.message(
                f"Stopped after step {run.step} of {run.steps}; the result is that of step {step}"
            )
    save_adapter(run.job.folder / "adapter", adapter, run.base)
    epochs = run.step // run.steps_per_epoch
    billed = sum(item.tokens for item in run.training) * epochs
    channel.emit("done", trained_tokens=billed, path="adapter")


def leading(run: Run, channel: Channel, work: Callable[[Run, Channel], None]) -> None:
    """Do what the leader does for all; when it is asked to stop meanwhile, the others, who wait, learn of it."""
    if run.fleet.leads:
        try:
            work(run, channel)
        except _Stopped:
            run.fleet.any(True)
            raise


def measure_before(run: Run, channel: Channel) -> None:
    """Say how good the model is before it is trained. Raises _Stopped."""
    if run.validation:
        before = evaluate(run, run.validation, channel)
        accuracy = before.hits / before.targets
        channel.message(f"Before training: validation loss {before.loss:.4f}, token accuracy {accuracy:.4f}")


def load(job: Job, channel: Channel, fleet: Fleet) -> Run:
    """Load the base model (fetched if need be), the rows, the adapter, and the saved state if there is one."""
    base = fleet.leader_first(lambda: ready_model(job.model, job.models, _fetch_reporter(channel)))
    renderer = Renderer(load_tokenizer(base), context_length(base))
    known = saved_position(job.folder)
    device = best_device()
    dtype = getattr(torch, known.dtype) if known else fleet.collect(fastest_dtype(device))[0]
    parent = load_adapter(job.parent) if job.parent else None
    net, size = load_net(base, dtype, device, job.seed, parent, four_bit=job.four_bit)
    objective: Objective = Dpo(job.beta, net) if job.method == "dpo" else Supervised()
    training = _items(job.training_file, "training_file", objective, renderer, channel)
    validation: Sequence[Item] = ()
    if job.validation_file:
        validation = _items(job.validation_file, "validation_file", objective, renderer, channel)
    parameters = list(named_parameters(net.adapter).values())
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    rows = RowLosses(job.folder / ROW_LOSSES, known.row_losses_bytes if known else 0) if fleet.leads else None
    run = Run(
        job, base.name, fleet, net, optimizer, str(dtype).removeprefix("torch."), objective, training, validation,
        _small_batch(validation, job.seed), learning_rate(size, job.multiplier) * objective.rate, rows,
    )  # fmt: skip
    if known:
        restore(job.folder, net.adapter, optimizer)
        run.step, run.unmeasured = known.step, known.unmeasured
        run.best = (known.best_step, known.best_loss) if known.best_step else None
    return run


def announce(run: Run, channel: Channel) -> None:
    """Say what will be done; tokens are counted as OpenAI bills them: whole rows, not the trained tokens alone."""
    channel.emit(
        "started",
        total_steps=run.steps,
        tokens_per_epoch=sum(item.tokens for item in run.training),
        trained_tokens_per_epoch=sum(item.targets for item in run.training),
        examples=len(run.training),
    )
    if run.step:
        channel.message(f"Resumed after step {run.step} of {run.steps}")
    else:
        channel.message(f"Training {run.base} in {run.dtype}, peak learning rate {run.peak:.2g}")


def advance(run: Run) -> None:
    """Do one step: gradients of the batch's mean loss, clipped, applied at the schedule's rate.

    Each process of the fleet works on its share of the batch, weighted by what of the batch it is.
    Raises EngineError when the loss is no longer a number.
    """
    size = run.job.batch_size
    epoch, place = divmod(run.step, run.steps_per_epoch)
    chosen = order(run.job.seed, epoch, len(run.training))[place * size : (place + 1) * size]
    batch = [run.training[number] for number in chosen]
    mine = run.fleet.share(batch)
    weight = run.objective.weight(mine) / run.objective.weight(batch)
    own, by_row = Measured(), []
    for part in run.objective.parts(run.net, mine):
        (part.loss * weight).backward()  # type: ignore[no-untyped-call]
        own.add(part, weight)
        by_row += part.rows
    parameters = list(named_parameters(run.net.adapter).values())
    run.fleet.add_up(parameters)
    told = run.fleet.collect((own, by_row))
    measured = Measured.together(one for one, _ in told)
    if not math.isfinite(measured.loss):
        raise EngineError(
            f"the loss is no longer a number at step {run.step + 1}", "lower the learning rate multiplier"
        )
    torch.nn.utils.clip_grad_norm_(parameters, CLIP)
    for group in run.optimizer.param_groups:
        group["lr"] = run.peak * schedule(run.step, run.steps)
    run.optimizer.step()
    run.optimizer.zero_grad()
    run.step += 1
    run.steps_done += 1
    run.tokens_done += sum(item.tokens for item in batch)
    run.unmeasured = measured.named("train")
    if run.rows is not None:
        run.rows.write(run.step, epoch + 1, [row for _, rows in told for row in rows])


def measure(run: Run, channel: Channel) -> None:
    """Write the last step's metrics, with the small validation batch now and then and all of it at an epoch's end.

    At an epoch's end the adapter is saved as a checkpoint. Raises _Stopped while validating.
    """
    metrics: dict[str, float | None] = {
        **run.unmeasured,
        "valid_loss": None,
        "valid_mean_token_accuracy": None,
    }
    every = max(1, min(VALIDATE_EVERY, run.steps // 10))
    if run.probe and (run.step % every == 0 or run.epoch_ends):
        metrics.update(evaluate(run, run.probe, channel).named("valid"))
    if run.validation and run.epoch_ends:
        whole = evaluate(run, run.validation, channel)
        metrics.update(whole.named("full_valid"))
        if run.best is None or whole.loss < run.best[1]:
            run.best = (run.step, whole.loss)
    channel.emit("metrics", step=run.step, total_steps=run.steps, **metrics)
    if run.steps_done:
        seconds = time.monotonic() - run.began
        left = seconds / run.steps_done * (run.steps - run.step)
        speed = run.tokens_done / seconds
        channel.emit(
            "progress", step=run.step, tokens_per_second=round(speed, 1), seconds_left=round(left, 1)
        )
    if run.epoch_ends:
        path = f"checkpoints/step-{run.step}"
        save_adapter(run.job.folder / path, run.net.adapter, run.base)
        channel.emit(
            "checkpoint", step=run.step, epoch=run.step // run.steps_per_epoch, path=path, metrics=metrics
        )


@torch.no_grad()
def evaluate(run: Run, items: Sequence[Item], channel: Channel) -> Measured:
    """Return the mean loss and accuracy over `items`. Raises _Stopped."""
    measured = Measured()
    for part in run.objective.parts(run.net, items):
        measured.add(part)
        if channel.stopping:
            raise _Stopped
    return measured


def _small_batch(items: Sequence[Item], seed: int) -> Sequence[Item]:
    """Choose up to eight items of at most one chunk together, the same for the whole job."""
    chosen = random.Random(seed).sample(list(items), min(8, len(items)))
    while len(chosen) > 1 and sum(item.tokens for item in chosen) > CHUNK_TOKENS:
        chosen.pop()
    return chosen


def _items(
    path: Path, param: str, objective: Objective, renderer: Renderer, channel: Channel
) -> Sequence[Item]:
    """Read a file of the job; rows cut at the context limit, or left out by it, are told. Raises _BadFile."""
    left_out: list[int] = []
    try:
        items: Sequence[Item] = objective.read(path, renderer, left_out.append)
        if not items:
            raise DataError(f"no row has anything to train within the model's {renderer.context} tokens")
    except DataError as error:
        raise _BadFile(error, param) from error
    cut = [item.line for item in items if item.cut]
    if cut:
        told = f"{len(cut)} rows are longer than {renderer.context} tokens, cut at their end"
        channel.message(f"{param}: {told} ({_rows(cut)})", "warn")
    if left_out:
        told = (
            f"{len(left_out)} rows are left out, as none of their answers fits into {renderer.context} tokens"
        )
        channel.message(f"{param}: {told} ({_rows(left_out)})", "warn")
    return items


def _rows(lines: Sequence[int]) -> str:
    return "rows " + ", ".join(map(str, lines[:10])) + (", …" if len(lines) > 10 else "")


def _fetch_reporter(channel: Channel) -> Report:
    """Return what tells of the base model's fetching; it raises _Stopped."""

    def look() -> None:
        if channel.stopping:
            raise _Stopped

    return in_words(channel.message, look)


def main(arguments: Sequence[str]) -> int:
    """Train the job in the folder named by the only argument, with all devices of this host."""
    if (command := launch_command(arguments)) is not None:
        os.execv(command[0], command)
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # large pages: fewer faults on the big temporaries
    channel = Channel()
    fleet = Fleet()
    channel.speaks = fleet.leads
    try:
        return attempt(Path(arguments[0]), channel, fleet)
    finally:
        fleet.leave()


def attempt(folder: Path, channel: Channel, fleet: Fleet) -> int:
    """Train the job in `folder` and return the exit status; a crash too ends in a line that says why."""
    silence()
    try:
        train(Job.read(folder), channel, fleet)
    except _BadFile as bad:
        channel.emit("failed", code=f"invalid_{bad.param}", message=_told(bad.error), param=bad.param)
    except TunedeskError as error:
        channel.emit("failed", code="training_failed", message=_told(error), param=None)
    except Exception as error:  # noqa: BLE001
        traceback.print_exc()
        channel.emit(
            "failed",
            code="internal_error",
            message=f"training crashed: {type(error).__name__}: {error}",
            param=None,
        )
    else:
        return 0
    return 1


def _told(error: TunedeskError) -> str:
    """Return the message with its hint as one text."""
    return f"{error.message}; {error.hint}" if error.hint else error.message


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
