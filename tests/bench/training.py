"""Training: this engine beside TRL's SFTTrainer, on the same rows, in turns; and that both learn the same.

Both train a LoRA of the same rank, scale and linears on the same tokens (assistant-only), in the same order and
batches, at the same rate, warm-up, decay and clipping. What is left to each is how: TRL keeps its defaults (padding,
bf16 autocast, gradient checkpointing), under the same OpenMP settings. Seconds are of the steps alone, first to last;
start and loading are left out for both. The validation loss is taken by plain transformers and PEFT in f32, one row
at a time, from the adapters that both have saved. Processor seconds say on a busy machine what wall time cannot.
Memory is a process's largest resident size, loading included.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tunedesk.engine.adapters import ALPHA, LINEARS, RANK, fresh_pair
from tunedesk.engine.batches import Renderer
from tunedesk.engine.models import context_length, load_tokenizer, silence
from tunedesk.engine.objectives import Supervised
from tunedesk.engine.recipe import LEARNING_RATE, order, schedule
from tunedesk.engine.trainer import CLIP
from tunedesk.engine.trainer_process import scrubbed

BATCH = 8
RATE = 1e-3
SEED = 7
VALIDATION = 24
ROUNDS = 2
_TITLES = ("s", "cpu s", "tok/s", "trained/s", "first loss", "last loss", "valid", "MB")
_WIDTH = 11
SAMPLE = Path(__file__).parents[2] / "sample_data" / "banking.jsonl"
NAMES = ("Isla", "Marcus", "Priya", "Tomasz", "Yuki", "Adaeze", "Bruno", "Chiara", "Dmitri", "Esther")
HOUSE_RULES = (
    "You are Isla of Ferncastle Bank and you answer customers in writing. Greet the customer once, in one short"
    " sentence, and thank them for writing. Before you open an account, ask for the last four digits of the account"
    " number and for the postcode that we hold; never ask for a PIN, a password, a one-time code or a full card"
    " number, and tell the customer not to send one. Promise nothing that you cannot keep: no refund before the"
    " disputes team has looked, no date for a card that the depot has not posted, no rate that is not on the public"
    " list. When money has left an account by fraud, first stop the card, then give the number of the fraud desk,"
    " 0808 157 0142, which answers day and night, and only then ask what happened. When a customer is ill, bereaved"
    " or in debt, say so kindly in one sentence, offer the support desk, and leave selling for another day. Give one"
    " next step, in a line of its own that begins with the words Next step. Write plain English without lists,"
    " headings or emojis, in at most six sentences. Do not guess at what an earlier colleague meant; say what you can"
    " see and what you cannot. Complaints go to the complaints team with a reference, and the customer hears within"
    " three working days. Sign off with your name and the bank's, on the last line."
)


@dataclass(frozen=True, slots=True)
class Case:
    """Rows to train on, as both contenders get them."""

    name: str
    train: Path
    valid: Path
    tokens: int
    """Of all training rows."""
    trained: int
    """Those of them that are trained."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one contender did with a case."""

    seconds: float
    """Wall time of the steps."""
    cpu: float
    """Processor seconds of the steps, all threads; 0 where the system does not tell."""
    losses: tuple[float, ...]
    """Mean loss of each step's batch."""
    adapter: Path
    megabytes: int


def report(model: Path, rows: int, folder: Path, file: Path | None = None) -> Iterator[str]:
    """Yield the table: for each case both contenders in turns, their ratio, their losses and memory."""
    silence()
    there = _trl_is_there()
    if not there:
        yield "TRL is left out: `pip install trl` into this environment to have it beside"
    for name in ("as they are",) if file else ("mixed", "shared prompt"):
        case = _case(name, model, rows, folder / name.replace(" ", "-"), file)
        yield f"\n{name}: {rows} rows, {case.tokens:,} tokens, {case.trained:,} of them trained; batches of {BATCH}"
        yield f"{'':<12}" + "".join(f"{title:>{_WIDTH}}" for title in _TITLES)
        found: dict[str, list[Outcome]] = {"tunedesk": [], "TRL": []}
        for number in range(ROUNDS):
            for who, run in (("tunedesk", _ours), ("TRL", _trl))[: 1 + there]:
                found[who].append(run(case, model, case.train.parent / f"{who}-{number}"))
        for who, outcomes in found.items():
            for outcome in outcomes:
                yield _line(who, case, outcome, _validation(case, model, outcome.adapter))
        if there:
            wall, cpu = (_ratio(found, clock) for clock in ("seconds", "cpu"))
            yield f"ratio (best of {ROUNDS}): {wall:.2f}x TRL by the wall, {cpu:.2f}x by processor seconds"


def _trl_is_there() -> bool:
    return importlib.util.find_spec("trl") is not None


def _ratio(found: dict[str, list[Outcome]], clock: str) -> float:
    ours, theirs = (min(getattr(one, clock) for one in found[who]) for who in ("tunedesk", "TRL"))
    return float(theirs / ours) if ours else math.nan


def _line(who: str, case: Case, outcome: Outcome, valid: float) -> str:
    speed, trained = case.tokens / outcome.seconds, case.trained / outcome.seconds
    cells = [f"{outcome.seconds:.1f}", f"{outcome.cpu:.1f}", f"{speed:.0f}", f"{trained:.0f}"]
    cells += [f"{loss:.4f}" for loss in (outcome.losses[0], outcome.losses[-1], valid)]
    return f"{who:<12}" + "".join(f"{cell:>{_WIDTH}}" for cell in (*cells, f"{outcome.megabytes:,}"))


def _case(name: str, model: Path, rows: int, folder: Path, file: Path | None) -> Case:
    folder.mkdir(parents=True)
    lines = (file or SAMPLE).read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines if line.strip()]
    random.Random(SEED).shuffle(found)
    for number, row in enumerate(found if file is None else ()):
        rules = HOUSE_RULES
        if name == "mixed":
            rules = (
                f"{NAMES[number % len(NAMES)]} writes for team {number} of Ferncastle Bank, in plain words."
            )
        row["messages"][0] = {"role": "system", "content": rules}
    paths = (folder / "train.jsonl", folder / "valid.jsonl")
    for path, part in zip(paths, (found[:rows], found[rows : rows + VALIDATION]), strict=True):
        path.write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
    examples = Supervised().read(paths[0], _renderer(model), lambda _: None)
    return Case(name, *paths, sum(one.tokens for one in examples), sum(one.targets for one in examples))


def _renderer(model: Path) -> Renderer:
    return Renderer(load_tokenizer(model), context_length(model))


def _ours(case: Case, model: Path, folder: Path) -> Outcome:
    """Train by the engine's own process, as its worker starts it."""
    folder.mkdir()
    tuning = {"n_epochs": 1, "batch_size": BATCH, "learning_rate_multiplier": RATE / LEARNING_RATE}
    job = {
        "job": "bench", "model": model.name, "models": [str(model.parent)], "training_file": str(case.train),
        "seed": SEED, "hyperparameters": tuning,
    }  # fmt: skip
    (folder / "job.json").write_text(json.dumps(job))
    losses, began, ended = [], (0.0, 0.0), (0.0, 0.0)
    with subprocess.Popen(
        [sys.executable, "-m", "tunedesk.engine.trainer", str(folder)],
        env=scrubbed(os.environ), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        for raw in process.stdout or ():
            line = json.loads(raw)
            if line["type"] == "started":
                began = (time.perf_counter(), _cpu(process.pid))
            elif line["type"] == "metrics":
                ended = (time.perf_counter(), _cpu(process.pid))
                losses.append(line["train_loss"])
            elif line["type"] == "failed":
                raise RuntimeError(line["message"])
        megabytes = _peak(process)
    seconds, cpu = (end - start for start, end in zip(began, ended, strict=True))
    return Outcome(seconds, cpu, tuple(losses), folder / "adapter", megabytes)


def _trl(case: Case, model: Path, folder: Path) -> Outcome:
    """Train by TRL in a process of its own: this module, run with the case."""
    folder.mkdir()
    arguments = [str(part) for part in (model, case.train, folder)]
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.bench.training", *arguments],
        env=scrubbed(os.environ), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        megabytes = _peak(process)
    if process.returncode:
        raise RuntimeError(f"TRL failed; run it alone: python -m tests.bench.training {' '.join(arguments)}")
    result = json.loads((folder / "result.json").read_bytes())
    return Outcome(result["seconds"], result["cpu"], tuple(result["losses"]), folder, megabytes)


def _cpu(process: int) -> float:
    """Return the processor seconds that a process has used, 0 where /proc is missing."""
    stat = Path(f"/proc/{process}/stat")
    if not stat.exists():
        return 0.0
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end of `process` and return its largest resident size in MB."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_maxrss >> 10


def train_with_trl(model: Path, rows: Path, folder: Path) -> None:
    """Train by SFTTrainer as it comes, and leave the adapter and result.json in `folder`."""
    trl, datasets, peft = (importlib.import_module(name) for name in ("trl", "datasets", "peft"))
    examples = Supervised().read(rows, _renderer(model), lambda _: None)
    ordered = [examples[number] for number in order(SEED, 0, len(examples))]
    longest = max(one.length for one in ordered)
    data = [
        {
            "input_ids": list(one.ids),
            "labels": [token if on else -100 for token, on in zip(one.ids, one.trained, strict=True)],
        }
        for one in ordered
    ]
    settings = trl.SFTConfig(
        output_dir=str(folder / "trl"), use_cpu=True, num_train_epochs=1, per_device_train_batch_size=BATCH,
        learning_rate=RATE, max_grad_norm=CLIP, seed=SEED,
        train_sampling_strategy="sequential", max_length=max(1024, longest), logging_steps=1, report_to="none",
        save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    trainer = trl.SFTTrainer(
        model=str(model), args=settings, train_dataset=datasets.Dataset.from_list(data),
        peft_config=peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(LINEARS), task_type="CAUSAL_LM"),
    )  # fmt: skip
    _start_as_ours(trainer, math.ceil(len(data) / BATCH))
    began, spent = time.perf_counter(), time.process_time()
    trainer.train()
    seconds, cpu = time.perf_counter() - began, time.process_time() - spent
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    trainer.save_model(str(folder))
    (folder / "result.json").write_text(json.dumps({"seconds": seconds, "cpu": cpu, "losses": losses}))


def _start_as_ours(trainer: Any, steps: int) -> None:
    """Give TRL's trainer this engine's starting matrices and its schedule of rates over `steps` steps."""
    trainer.create_optimizer()
    trainer.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
        trainer.optimizer, lambda step: schedule(step, steps) if step < steps else 0.0
    )
    with torch.no_grad():
        for name, parameter in trainer.model.named_parameters():
            linear = name.removeprefix("base_model.model.").partition(".lora_A")[0]
            if ".lora_A." in name:
                fresh, _ = fresh_pair(linear, 1, parameter.shape[1], RANK, SEED)
                parameter.copy_(fresh)


def _validation(case: Case, model: Path, adapter: Path) -> float:
    """Return the mean loss of the validation rows' trained tokens, by the libraries alone."""
    examples = Supervised().read(case.valid, _renderer(model), lambda _: None)
    net = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    net = PeftModel.from_pretrained(net, adapter).eval()
    total = 0.0
    with torch.inference_mode():
        for one in examples:
            ids = torch.tensor(one.ids)
            logits = net(input_ids=ids[None]).logits[0, :-1].float()
            trained = torch.tensor(one.trained)[1:]
            total += float(
                torch.nn.functional.cross_entropy(logits[trained], ids[1:][trained], reduction="sum")
            )
    return total / sum(one.targets for one in examples)


if __name__ == "__main__":
    train_with_trl(*map(Path, sys.argv[1:]))
