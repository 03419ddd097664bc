"""The rows of a decode in flight: their own keys and values, and their prompts', shared.

Heads of all N adapters lie side by side, (rows, N*H, positions, D), so that whatever happens to a row is one copy. What
a prompt was read as is never copied to the rows that grew from it: queries of one prompt's rows attend to it together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from emorl_bench.decoding.fused.cache import BlockCache, room
from emorl_bench.decoding.prefix_tree import Moves


@dataclass(frozen=True)
class PromptStates:
    """P prompts as N adapters have read them: keys and values by layer, each (P, N*H, S, D).

    ``first_NPH`` is the hidden state of the first token where reading already gives it (decoder-only models).
    """

    keys: list[Tensor]
    values: list[Tensor]
    mask_PS: Tensor  # true where there is a token
    first_NPH: Tensor | None = None

    @property
    def bytes(self) -> int:
        return sum(t.nbytes for t in (*self.keys, *self.values))

    @classmethod
    def assembled(cls, parts: Sequence[PromptStates], places: Sequence[Tensor]) -> PromptStates:
        """Prompts that were read in parts, each put in its place; padded on the right, and a mask says what is real."""
        count, width = sum(map(len, places)), max(part.mask_PS.shape[1] for part in parts)

        def put(states: Sequence[Tensor]) -> Tensor:
            _, heads, _, size = states[0].shape
            whole = states[0].new_zeros(count, heads, width, size)
            for x, place in zip(states, places, strict=True):
                whole[place, :, : x.shape[2]] = x
            return whole

        layers = range(len(parts[0].keys))
        mask_PS = parts[0].mask_PS.new_zeros(count, width)
        for part, place in zip(parts, places, strict=True):
            mask_PS[place, : part.mask_PS.shape[1]] = part.mask_PS
        first = [part.first_NPH for part in parts if part.first_NPH is not None]
        first_NPH = torch.cat(first, dim=1)[:, torch.argsort(torch.cat(list(places)))] if first else None
        keys = [put([part.keys[i] for part in parts]) for i in layers]
        values = [put([part.values[i] for part in parts]) for i in layers]
        return cls(keys, values, mask_PS, first_NPH)

    def select(self, prompts: Tensor) -> PromptStates:
        """Some of the prompts, without the padding that only the others needed."""
        mask_PS = self.mask_PS[prompts]
        read = mask_PS.any(0)
        keys, values = ([x[prompts][:, :, read] for x in xs] for xs in (self.keys, self.values))
        first_NPH = None if self.first_NPH is None else self.first_NPH[:, prompts]
        return PromptStates(keys, values, mask_PS[:, read], first_NPH)


class Rows:
    """At first one row for each prompt; see `move` for what becomes of them."""

    def __init__(self, prompts: PromptStates, steps: int, mix_RM: Tensor | None) -> None:
        self.prompts, self.steps, self.mix_RM, self.length = prompts, steps, mix_RM, 0
        self.prompt_R = torch.arange(len(prompts.mask_PS), device=prompts.mask_PS.device)
        self.keys = [BlockCache(key, steps) for key in prompts.keys]
        self.values = [BlockCache(value, steps) for value in prompts.values]
        self._group()

    def __len__(self) -> int:
        return len(self.prompt_R)

    def move(self, moves: Moves) -> None:
        """Copy and drop rows; a prompt that nobody reads any more leaves when half of them have."""
        for cache in (*self.keys, *self.values):
            cache.move(moves)
        self.prompt_R = moved(self.prompt_R, moves)
        if self.mix_RM is not None:
            self.mix_RM = moved(self.mix_RM, moves)
        read, place_R = torch.unique(self.prompt_R, return_inverse=True)
        if 2 * len(read) <= len(self.prompts.mask_PS):
            self.prompts, self.prompt_R = self.prompts.select(read), place_R
        self._group()

    def append(self, layer: int, key_RHD: Tensor, value_RHD: Tensor) -> tuple[Tensor, Tensor]:
        """Write this step's keys and values; returns the rows' own, each (R, N*H, room, D), zero where unused."""
        return self.keys[layer].write(self.length, key_RHD), self.values[layer].write(self.length, value_RHD)

    def ahead(self, dtype: torch.dtype) -> Tensor:
        """(room,) added to the scores of own keys: the lowest number where nothing has been said yet."""
        place = torch.arange(room(self.length, self.steps), device=self.prompt_R.device)
        return torch.zeros_like(place, dtype=dtype).masked_fill_(place > self.length, torch.finfo(dtype).min)

    def unread(self, dtype: torch.dtype) -> Tensor:
        """(P, 1, 1, S) added to the scores of prompts: the lowest number where a prompt has no token."""
        mask = self.prompts.mask_PS[:, None, None]
        return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min)

    def by_prompt(self, x_RHLE: Tensor) -> Tensor:
        """(R, N*H, L, E) -> (P, N*H, U*L, E): a prompt's rows side by side, padded to the most that any has."""
        if self.in_order:
            return x_RHLE
        h, length, e = x_RHLE.shape[1:]
        x_PUHLE = x_RHLE[self.row_PU].view(-1, self.width, h, length, e)
        return x_PUHLE.transpose(1, 2).reshape(-1, h, self.width * length, e)

    def by_row(self, x_PHQE: Tensor) -> Tensor:
        """The way back."""
        if self.in_order:
            return x_PHQE
        p, h, q, e = x_PHQE.shape
        x_PHULE = x_PHQE.view(p, h, self.width, q // self.width, e)
        return x_PHULE.transpose(1, 2).reshape(-1, h, q // self.width, e)[self.place_R]

    def _group(self) -> None:
        count, device = len(self), self.prompt_R.device
        prompts = len(self.prompts.mask_PS)
        self.in_order = count == prompts and bool((self.prompt_R == torch.arange(count, device=device)).all())
        if self.in_order:
            return
        order = torch.argsort(self.prompt_R, stable=True)
        readers_P = torch.bincount(self.prompt_R, minlength=prompts)
        self.width = int(readers_P.max())
        before_P = readers_P.cumsum(0) - readers_P
        place = self.prompt_R[order] * self.width + torch.arange(count, device=device) - before_P[self.prompt_R[order]]
        self.row_PU = torch.zeros(prompts * self.width, dtype=torch.long, device=device).scatter_(0, place, order)
        self.place_R = torch.empty_like(order).scatter_(0, order, place)


def moved(values_R: Tensor, moves: Moves) -> Tensor:
    grown = values_R.new_empty(max(len(values_R), moves.rows), *values_R.shape[1:])
    grown[: len(values_R)] = values_R
    grown[moves.target] = values_R[moves.source]
    return grown[: moves.rows]
