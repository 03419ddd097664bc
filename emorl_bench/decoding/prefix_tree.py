"""Outputs that have said the same so far share one row of the decode; a row splits where their next tokens differ.

The experts' states depend on the prefix alone, not on who weighs them, so sharing is exact: samples of one prompt start
in one row, and so do all weight vectors of a blend (but not where experts meet before the head: `meeting`). A row whose
outputs have all ended leaves the batch. Prefixes that have parted never meet again, so once every output has a row of
its own there is nothing left to look for.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Moves:
    """Row ``source[i]`` is copied to ``target[i]``, and then rows ``0 … rows-1`` are the batch.

    No target is a source: all copies can be made at once, in place.
    """

    source: Tensor
    target: Tensor
    rows: int


class PrefixTree:
    """The L outputs that still speak (``output_L`` names them) and the row that each of them reads."""

    def __init__(self, start_O: Tensor, rows: int) -> None:
        self.output_L = torch.arange(len(start_O), device=start_O.device)
        self.row_L = start_O
        self.rows = rows

    def grow(self, token_L: Tensor, ended_L: Tensor, vocabulary: int) -> tuple[Tensor, Moves | None]:
        """Each output says a token, and may have ended with it.

        Returns:
            the tokens that the new rows are fed (R,), and how the rows change, or None where they stay as they are.
        """
        if ended_L.any():
            going_on = ~ended_L
            self.output_L, self.row_L, token_L = self.output_L[going_on], self.row_L[going_on], token_L[going_on]
        elif self.rows == len(self.row_L):
            return torch.empty_like(token_L).scatter_(0, self.row_L, token_L), None
        pair, child_L = torch.unique(self.row_L * vocabulary + token_L, return_inverse=True)  # sorted by parent row
        parent, token = pair // vocabulary, pair % vocabulary
        place, moves = _place(parent, self.rows)
        self.row_L, self.rows = place[child_L], len(place)
        return torch.empty_like(token).scatter_(0, place, token), moves


def _place(parent: Tensor, rows: int) -> tuple[Tensor, Moves | None]:
    """Where each child row lives: a parent's first child in its parent's place, the others in places left empty."""
    count = len(parent)
    first = torch.ones(count, dtype=torch.bool, device=parent.device)
    first[1:] = parent[1:] != parent[:-1]
    stays = first & (parent < count)
    if count == rows and bool(stays.all()):
        return parent, None
    taken = torch.zeros(count, dtype=torch.bool, device=parent.device)
    taken[parent[stays]] = True
    place = torch.where(stays, parent, 0)
    target = (~taken).nonzero().squeeze(1)
    place[~stays] = target
    return place, Moves(parent[~stays], target, count)
