"""Rows whose shapes and addresses stay as they are between two checks: a step makes no decision on the host.

On a GPU a step of a small model takes as long as launching its kernels, and a decision on the host has to wait until
all of them have run. Here the number of tokens so far is a tensor on the device, every output has a row of its own,
and keys and values have a fixed number of positions. Rows are dropped, and positions added, at a check alone
(`decoding.static_rows`). So a step is a fixed list of kernels, which can be recorded and replayed
(`decoding.graphs`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from emorl_bench.decoding.fused.cache import room
from emorl_bench.decoding.fused.engine import FusedModel, FusedStepper
from emorl_bench.decoding.fused.rows import PromptStates, Rows
from emorl_bench.decoding.graphs import Record, Replays
from emorl_bench.models.lora import Adapter


class StaticRows(Rows):
    """See `Rows`. `keep` and `reserve` change shapes, and nothing else does.

    ``version`` counts these changes.
    """

    def __init__(self, prompts: PromptStates, steps: int, mix_RM: Tensor | None) -> None:
        """Begin with one row for each prompt, and room for the first tokens."""
        super().__init__(prompts, steps, mix_RM)
        self.place = torch.zeros(1, dtype=torch.long, device=self.prompt_R.device)
        self.version, self.room = 0, 0
        for cache in (*self.keys, *self.values):
            cache.reserve(len(self), 0)
        self.reserve(1)

    @property
    def position(self) -> Tensor:
        """See `Rows.position`: (1,)."""
        return self.place

    def advance(self) -> None:
        """See `Rows.advance`: on the device."""
        self.place.add_(1)

    def reserve(self, positions: int) -> None:
        """Let the caches have at least so many positions; they grow by doubling, to the largest length at most."""
        wanted = room(positions - 1, self.steps)
        if wanted <= self.room:
            return
        self.room, self.version = wanted, self.version + 1
        for cache in (*self.keys, *self.values):
            cache.reserve(len(self), wanted)

    def keep(self, rows: Tensor) -> None:
        """Have these rows, by index: dropped, repeated or reordered."""
        for cache in (*self.keys, *self.values):
            cache.tensor = cache.tensor[rows]
        self.prompt_R = self.prompt_R[rows]
        self.mix_RM = None if self.mix_RM is None else self.mix_RM[rows]
        self.version += 1
        self._regroup()

    def append(self, layer: int, key_RHD: Tensor, value_RHD: Tensor) -> tuple[Tensor, Tensor]:
        """See `Rows.append`."""
        keys, values = self.keys[layer].tensor, self.values[layer].tensor
        keys.index_copy_(2, self.place, key_RHD[:, :, None])
        values.index_copy_(2, self.place, value_RHD[:, :, None])
        return keys, values

    def biases(self, bias_HTT: Tensor) -> Tensor:
        """See `Rows.biases`."""
        return bias_HTT.index_select(1, self.place)[:, 0, : self.room]

    def ahead(self, dtype: torch.dtype) -> Tensor:
        """See `Rows.ahead`."""
        place = torch.arange(self.room, device=self.place.device)
        return torch.zeros_like(place, dtype=dtype).masked_fill_(place > self.place, torch.finfo(dtype).min)


class StaticStepper(FusedStepper):
    """A fused step on static rows.

    ``record`` makes a graph of a step; None launches each kernel.
    """

    rows: StaticRows

    def __init__(
        self,
        fused: FusedModel,
        adapters: Sequence[Adapter],
        rows: StaticRows,
        first_token: int | None,
        record: Record | None,
    ) -> None:
        """Prepare the products; nothing is decoded yet."""
        super().__init__(fused, adapters, rows, first_token)
        self.replays = None if record is None else Replays(record)

    def step(self, tokens_R: Tensor) -> Tensor:
        """See `Stepper.step`. The states are overwritten by the next step."""
        if self.replays is None:
            return super().step(tokens_R)
        return self.replays.step(super().step, tokens_R, self.rows.version)
