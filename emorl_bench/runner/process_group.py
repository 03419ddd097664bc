"""The process group that ``accelerate launch`` or ``torchrun`` has started for it.

The launcher sets the environment of each process. accelerate reads it and chooses the backend (NCCL on GPUs, gloo on
CPUs). The base model is frozen, so little is exchanged: rollouts, scores, and one all-reduce of the adapter's gradients
for each optimiser step.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather, gather_object, reduce
from torch import Tensor

from emorl_bench.config.checks import launched
from emorl_bench.core.errors import UserError
from emorl_bench.core.ranks import ALONE, Ranks, T

PATIENCE = timedelta(days=2)  # ranks wait while rank 0 waits for an expert that another run is training


@dataclass(frozen=True)
class ProcessGroup(Ranks):
    """Ranks that exchange tensors through accelerate. ``device`` is where tensors must be to be exchanged."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @torch.no_grad()
    def gather(self, rows: Tensor) -> Tensor:
        """See `Ranks.gather`. Blocks are padded to the longest one for the exchange."""
        sizes = self.collect(len(rows))
        mine = rows.new_zeros(max(sizes), *rows.shape[1:], device=self.device)
        mine[: len(rows)] = rows
        padded = gather(mine).view(self.count, *mine.shape)
        whole = torch.cat([block[:size] for block, size in zip(padded, sizes, strict=True)])
        return whole.to(rows.device)

    @torch.no_grad()
    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """See `Ranks.sum_`. All tensors are summed in one exchange."""
        flat = torch.cat([tensor.flatten() for tensor in tensors]).to(self.device)
        parts = reduce(flat, reduction="sum").split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def agree(self, value: T) -> T:
        """See `Ranks.agree`."""
        agreed: list[T] = broadcast_object_list([value])
        return agreed[0]

    def collect(self, value: T) -> list[T]:
        """See `Ranks.collect`."""
        collected: list[T] = gather_object([value])
        return collected


def device_of(ranks: Ranks, name: str) -> torch.device:
    """This rank's own device of the named kind."""
    return ranks.device if isinstance(ranks, ProcessGroup) else torch.device(name)


@contextmanager
def process_group(device: str, *, in_step: bool = False) -> Iterator[Ranks]:
    """The ranks of this run; `ALONE` unless a launcher started several processes.

    Raises:
        UserError: the machine has fewer GPUs than processes.
    """
    if launched() == 1:
        yield ALONE
        return
    local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if device == "cuda" and local >= gpus:
        raise UserError(
            f"hardware.device=cuda: process {local + 1} on a machine with {gpus} GPUs; launch at most {gpus}"
        )
    threads = torch.get_num_threads()
    state = PartialState(cpu=device == "cpu", timeout=PATIENCE)
    torch.set_num_threads(threads)  # accelerate changes it on CPUs
    try:
        yield ProcessGroup(state.process_index, state.num_processes, in_step, state.device)
    finally:
        state.destroy_process_group()
