"""A trainer without training: speaks the engine's protocol, saves its step, resumes, and misbehaves on order.

Usage: scripted_trainer.py [--steps N] [--delay S] [--save-every N] [--say JSON] [--mode MODE] JOB_FOLDER
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

stopped = threading.Event()


def say(**message: Any) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def leave_with_the_server() -> None:
    os.read(0, 1)  # sys.stdin would be locked when the interpreter ends
    os._exit(3)


def save_adapter(folder: Path, step: int) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_model.safetensors").write_bytes(f"weights at step {step}".encode())
    return str(folder)


def train(job: Path, options: argparse.Namespace) -> int:
    orders = json.loads((job / "job.json").read_text())
    assert orders["job"] == job.name
    assert Path(orders["training_file"]).stat().st_size > 0
    kept = job / "scripted_state.json"
    first = json.loads(kept.read_text())["step"] + 1 if kept.exists() else 1
    with (job / "starts").open("a") as starts:
        starts.write(f"{first} {os.environ.get('OPENAI_API_KEY', 'scrubbed')}\n")
    total = options.steps
    say(type="started", total_steps=total, tokens_per_epoch=100, trained_tokens_per_epoch=50, examples=10)
    for step in range(first, total + 1):
        time.sleep(options.delay)
        at_end = step % max(1, total // 2) == 0
        metrics = {"train_loss": 2.0 / step, "train_mean_token_accuracy": 0.5, "valid_loss": None}
        if at_end:
            metrics["full_valid_loss"] = 3.0 / step
        say(type="metrics", step=step, total_steps=total, **metrics)
        say(type="progress", step=step, tokens_per_second=123.0, seconds_left=(total - step) * options.delay)
        if at_end:
            save_adapter(job / f"checkpoints/step-{step}", step)
            say(type="checkpoint", step=step, epoch=1, path=f"checkpoints/step-{step}", metrics=metrics)
        if step % options.save_every == 0 or stopped.is_set():
            kept.write_text(json.dumps({"step": step}))
        if stopped.is_set():
            say(type="stopped", step=step)
            return 0
        if options.mode == "crash" or (options.mode == "crash-once" and first == 1 and step == 3):
            sys.stderr.write("Segmentation of the scripted kind\n")
            return 9
    save_adapter(job / "adapter", total)
    say(type="done", trained_tokens=1000, path="adapter")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--save-every", type=int, default=2)
    parser.add_argument("--say", default="")
    parser.add_argument("--mode", default="train")
    parser.add_argument("job", type=Path)
    options = parser.parse_args()
    if options.mode == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    threading.Thread(target=leave_with_the_server, daemon=True).start()
    if options.say:
        sys.stdout.write(options.say + "\n")
        sys.stdout.flush()
        return 0
    return train(options.job, options)


if __name__ == "__main__":
    raise SystemExit(main())
