"""Several processes that train one job together: each takes its share of every batch, their gradients are added up.

Each has the whole model and the same adapter, which stays the same everywhere as all make the same step. torchrun
(several GPUs of this host) or Ray (on_ray.py) starts them; alone, one process is a fleet of one and sends nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")

PROCESSES = "TUNEDESK_TRAINERS"
"""Variable with the number of processes on this host; as many as there are CUDA devices unless it is set."""
_PATIENCE = timedelta(hours=12)
"""How long the others wait while the first one validates or fetches the model."""


class Fleet:
    """The processes of a job, seen from one of them."""

    def __init__(self) -> None:
        """Join the fleet that the environment names (RANK, WORLD_SIZE …), or be alone."""
        if not dist.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            if torch.cuda.is_available():
                torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
            dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=_PATIENCE)
        together = dist.is_initialized()
        self.rank = dist.get_rank() if together else 0
        self.size = dist.get_world_size() if together else 1

    @property
    def leads(self) -> bool:
        """Whether this process reports, saves and validates for all."""
        return self.rank == 0

    def share(self, batch: Sequence[T]) -> Sequence[T]:
        """Return this process's part of a batch; it is empty when there are more processes than items."""
        return batch[self.rank :: self.size]

    def leader_first(self, work: Callable[[], T]) -> T:
        """Have the leader do `work` before the others do it, as what is fetched then is there for them."""
        if self.size == 1:
            return work()
        if self.leads:
            done = work()
            dist.barrier()
            return done
        dist.barrier()
        return work()

    def add_up(self, parameters: Iterable[Tensor]) -> None:
        """Replace each parameter's gradient by the sum over all processes, in one message."""
        if self.size == 1:
            return
        listed = list(parameters)
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in listed])
        dist.all_reduce(flat)
        sizes = [p.numel() for p in listed]
        for parameter, grad in zip(listed, torch.split(flat, sizes), strict=True):
            parameter.grad = grad.view_as(parameter)

    def collect(self, mine: T) -> list[T]:
        """Return what every process gives, in the order of their ranks, to all of them."""
        if self.size == 1:
            return [mine]
        given: list[Any] = [None] * self.size
        dist.all_gather_object(given, mine)
        return given

    def any(self, wish: bool) -> bool:
        """Whether any process wishes it: what all must do at the same step."""
        return any(self.collect(wish)) if self.size > 1 else wish

    def leave(self) -> None:
        """Part from the others."""
        if dist.is_initialized():
            dist.destroy_process_group()


def launch_command(arguments: Sequence[str]) -> list[str] | None:
    """Return the command that starts this host's fleet on `arguments`, None when this process trains (alone)."""
    if "RANK" in os.environ:
        return None
    count = int(os.environ.get(PROCESSES) or torch.cuda.device_count())
    if count < 2:
        return None
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    return [sys.executable, *launcher, "-m", "tunedesk.engine.trainer", *arguments]
