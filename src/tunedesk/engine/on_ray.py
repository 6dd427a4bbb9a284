"""The trainer as a Ray Train job: `python -m tunedesk.engine.on_ray [--workers N] [--address A] JOB_FOLDER`.

The engine starts it in place of the trainer and hears the same lines from it. Ray places the processes on its nodes,
a GPU each where the cluster has any; all must see the engine's folder under the same path (a shared disk). The leader
among them tells what happens through a mailbox, which this process empties into its own output.
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from tunedesk.engine.channel import Channel
from tunedesk.engine.fleet import Fleet
from tunedesk.engine.trainer import attempt

_LOOK = 0.2
"""Seconds between two looks into the mailbox."""


@ray.remote(num_cpus=0)
class Mailbox:
    """What the processes tell, and whether they are to stop."""

    def __init__(self) -> None:
        self._told: list[tuple[str, dict[str, Any]]] = []
        self._stop = False

    def tell(self, kind: str, fields: dict[str, Any]) -> None:
        """Put in a message."""
        self._told.append((kind, fields))

    def take(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the messages that came since, in their order."""
        taken, self._told = self._told, []
        return taken

    def ask_to_stop(self) -> None:
        """Have every process save and end."""
        self._stop = True

    def stopping(self) -> bool:
        """Whether they are to end."""
        return self._stop


class Posted(Channel):
    """A channel whose other end is the mailbox."""

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox
        self.speaks = True

    @property
    def stopping(self) -> bool:
        """Whether the server asked to stop."""
        return bool(ray.get(self._mailbox.stopping.remote()))

    @stopping.setter
    def stopping(self, value: bool) -> None:
        raise AttributeError("the mailbox tells it")

    def emit(self, kind: str, **fields: Any) -> None:
        """Post one message; it is there when this returns."""
        if self.speaks:
            ray.get(self._mailbox.tell.remote(kind, fields))


def work(config: dict[str, Any]) -> None:
    """Be one of the processes; Ray has joined them by now."""
    channel = Posted(config["mailbox"])
    fleet = Fleet()
    channel.speaks = fleet.leads
    attempt(Path(config["folder"]), channel, fleet)


def main(arguments: Sequence[str]) -> int:
    """Have Ray train the job in the folder and return the exit status."""
    parser = argparse.ArgumentParser(prog="tunedesk.engine.on_ray")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--address", default="auto")
    parser.add_argument("folder")
    asked = parser.parse_args(arguments)
    channel = Channel()
    ray.init(address=asked.address, log_to_driver=False)
    mailbox = Mailbox.remote()  # type: ignore[attr-defined]
    gpus = ray.cluster_resources().get("GPU", 0) >= asked.workers
    trainer = TorchTrainer(
        work,
        train_loop_config={"folder": asked.folder, "mailbox": mailbox},
        scaling_config=ScalingConfig(num_workers=asked.workers, use_gpu=gpus),
        run_config=RunConfig(storage_path=str(Path(asked.folder) / "ray")),
    )
    ended: list[str] = []
    thread = threading.Thread(target=_fit, args=(trainer, ended), daemon=True)
    thread.start()
    last = ""
    while True:
        alive = thread.is_alive()
        if channel.stopping:
            mailbox.ask_to_stop.remote()
        for kind, fields in ray.get(mailbox.take.remote()):
            channel.emit(kind, **fields)
            last = kind
        if not alive:
            break
        thread.join(_LOOK)
    if last not in ("done", "stopped", "failed"):
        why = ended[0] if ended else "its processes ended without a word"
        channel.emit("failed", code="training_failed", message=f"Ray could not train: {why}", param=None)
    return 0 if last in ("done", "stopped") else 1


def _fit(trainer: TorchTrainer, ended: list[str]) -> None:
    """Run the job to its end; keep the reason when Ray gives it up."""
    try:
        trainer.fit()
    except (RuntimeError, ray.exceptions.RayError) as error:
        ended.append(str(error).strip().splitlines()[0])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
