"""The rows of a running decode: each has keys and values of its own tokens, and rows of one prompt share the prompt's.

The heads of all N adapters lie side by side, (rows, N*H, positions, D), so that copying a row is one copy. Keys and
values of a prompt are never copied to the rows that grew from it. Instead the queries of one prompt's rows are put
together and attend to it in one product.
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
    """P prompts as N adapters have read them: keys and values of each layer, each (P, N*H, S, D).

    ``mask_PS`` is true at real tokens. ``first_NPH`` are the hidden states that the first tokens are read from, for
    decoder-only models, where reading the prompt gives them; else None.
    """

    keys: list[Tensor]
    values: list[Tensor]
    mask_PS: Tensor
    first_NPH: Tensor | None = None

    @property
    def bytes(self) -> int:
        """Memory of all keys and values."""
        return sum(t.nbytes for t in (*self.keys, *self.values))

    @classmethod
    def assembled(cls, parts: Sequence[PromptStates], places: Sequence[Tensor]) -> PromptStates:
        """Prompts that were read in parts, as one. ``places``: the indices of each part's prompts."""
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
        """Some of the prompts, by index, without padding that only the others needed."""
        mask_PS = self.mask_PS[prompts]
        read = mask_PS.any(0)
        keys, values = ([x[prompts][:, :, read] for x in xs] for xs in (self.keys, self.values))
        first_NPH = None if self.first_NPH is None else self.first_NPH[:, prompts]
        return PromptStates(keys, values, mask_PS[:, read], first_NPH)


class Rows:
    """The rows of one decode. There is one row for each prompt at first; `move` copies and drops rows.

    Args:
        prompts: keys and values of the prompts.
        steps: the largest number of tokens of an answer.
        mix_RM: weights of each row for the adapters, None where all adapters decode each row.
    """

    def __init__(self, prompts: PromptStates, steps: int, mix_RM: Tensor | None) -> None:
        """Begin with one row for each prompt."""
        self.prompts, self.steps, self.mix_RM, self.length = prompts, steps, mix_RM, 0
        self.prompt_R = torch.arange(len(prompts.mask_PS), device=prompts.mask_PS.device)
        self.keys = [BlockCache(key, steps) for key in prompts.keys]
        self.values = [BlockCache(value, steps) for value in prompts.values]
        self._group()

    def __len__(self) -> int:
        """R, the number of rows."""
        return len(self.prompt_R)

    def move(self, moves: Moves) -> None:
        """Copy and drop rows. Prompts without rows are dropped when they are at least half of all prompts."""
        for cache in (*self.keys, *self.values):
            cache.move(moves)
        self.prompt_R = moved(self.prompt_R, moves)
        if self.mix_RM is not None:
            self.mix_RM = moved(self.mix_RM, moves)
        self._regroup()

    @property
    def position(self) -> int | Tensor:
        """The number of tokens that each row has said; `fused.static` has it on the device, (1,)."""
        return self.length

    def advance(self) -> None:
        """Count the token that this step has added."""
        self.length += 1

    def append(self, layer: int, key_RHD: Tensor, value_RHD: Tensor) -> tuple[Tensor, Tensor]:
        """Write the keys and values of this step's token, each (R, N*H, D).

        Returns:
            all keys and values of the rows' own tokens, each (R, N*H, room, D), zero at positions not written yet.
        """
        return self.keys[layer].write(self.length, key_RHD), self.values[layer].write(self.length, value_RHD)

    def biases(self, bias_HTT: Tensor) -> Tensor:
        """(H, room): of relative position biases, those of this step's token to own keys."""
        return bias_HTT[:, self.length, : room(self.length, self.steps)]

    def ahead(self, dtype: torch.dtype) -> Tensor:
        """(room,) to add to the attention scores of own keys: the lowest number at positions not written yet."""
        place = torch.arange(room(self.length, self.steps), device=self.prompt_R.device)
        return torch.zeros_like(place, dtype=dtype).masked_fill_(place > self.length, torch.finfo(dtype).min)

    def unread(self, dtype: torch.dtype) -> Tensor:
        """(P, 1, 1, S) to add to the attention scores of prompts: the lowest number where a prompt has padding."""
        mask = self.prompts.mask_PS[:, None, None]
        return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min)

    def by_prompt(self, x_RHLE: Tensor) -> Tensor:
        """(R, N*H, L, E) -> (P, N*H, U*L, E): the rows of each prompt side by side, padded to the largest number U."""
        if self.in_order:
            return x_RHLE
        h, length, e = x_RHLE.shape[1:]
        x_PUHLE = x_RHLE[self.row_PU].view(-1, self.width, h, length, e)
        return x_PUHLE.transpose(1, 2).reshape(-1, h, self.width * length, e)

    def by_row(self, x_PHQE: Tensor) -> Tensor:
        """The inverse of `by_prompt`: (P, N*H, U*L, E) -> (R, N*H, L, E)."""
        if self.in_order:
            return x_PHQE
        p, h, q, e = x_PHQE.shape
        x_PHULE = x_PHQE.view(p, h, self.width, q // self.width, e)
        return x_PHULE.transpose(1, 2).reshape(-1, h, q // self.width, e)[self.place_R]

    def _regroup(self) -> None:
        read, place_R = torch.unique(self.prompt_R, return_inverse=True)
        if 2 * len(read) <= len(self.prompts.mask_PS):
            self.prompts, self.prompt_R = self.prompts.select(read), place_R
        self._group()

    def _group(self) -> None:
        """Find which rows read which prompt, so that attention to prompts is one batched product without copies.

        Rows sorted by prompt form P groups. Group p has U places, U being the size of the largest group. ``row_PU``
        says which row stands in each place, and ``place_R`` says the place of each row, so `by_prompt` and `by_row`
        are two gathers that undo each other. An empty place holds row 0. It is exact: a query attends by itself, so
        what stands in an empty place changes no other query, and `by_row` never reads it.
        """
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
    """One value (or vector) of each row, after rows were copied and dropped."""
    grown = values_R.new_empty(max(len(values_R), moves.rows), *values_R.shape[1:])
    grown[: len(values_R)] = values_R
    grown[moves.target] = values_R[moves.source]
    return grown[: moves.rows]
