"""Outputs with the same tokens so far share one row of the decode; a row splits where their next tokens differ.

Sharing is exact, because the experts' hidden states depend on the prefix alone and not on the weights that mix them. So
the samples of a prompt start in one row, and so do all weight vectors of a blend. (Weight vectors share no row where
adapters are averaged inside the decoder: `layer_averaging`.) A row leaves the batch when all its outputs have ended.
Two prefixes that differ never become equal again, so when every output has its own row, no search for equal ones is
needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Moves:
    """How rows change between two steps: row ``source[i]`` is copied to ``target[i]``; rows ``0 … rows-1`` remain.

    No target is also a source, so all copies can be made at once and in place.
    """

    source: Tensor
    target: Tensor
    rows: int


class PrefixTree:
    """The L outputs that have not ended: ``output_L`` are their indices, ``row_L`` the row that each of them reads.

    Args:
        start_O: the starting row of each of the O outputs.
        rows: the number of starting rows.
    """

    def __init__(self, start_O: Tensor, rows: int) -> None:
        """Begin with all outputs in their starting rows."""
        self.output_L = torch.arange(len(start_O), device=start_O.device)
        self.row_L = start_O
        self.rows = rows

    def grow(self, token_L: Tensor, is_eos_L: Tensor, vocabulary: int) -> tuple[Tensor, Moves | None]:
        """Append one token to each output. An output whose token is an end token leaves.

        Args:
            token_L: the ids.
            is_eos_L: whether each is an end token.
            vocabulary: a number that all ids are below.

        Returns:
            the tokens that the new rows are fed (R,), and how the rows change, or None if they stay as they are.
        """
        if is_eos_L.any():
            going_on = ~is_eos_L
            self.output_L, self.row_L, token_L = self.output_L[going_on], self.row_L[going_on], token_L[going_on]
        elif self.rows == len(self.row_L):
            return torch.empty_like(token_L).scatter_(0, self.row_L, token_L), None
        # A new row is a pair (parent row, token), written as the integer parent * vocabulary + token. Equal pairs are
        # equal integers, so `unique` finds all new rows and the row of each output in one call.
        pair, child_L = torch.unique(self.row_L * vocabulary + token_L, return_inverse=True)  # sorted by parent row
        parent, token = pair // vocabulary, pair % vocabulary
        place, moves = _place(parent, self.rows)
        self.row_L, self.rows = place[child_L], len(place)
        return torch.empty_like(token).scatter_(0, place, token), moves


def _place(parent: Tensor, rows: int) -> tuple[Tensor, Moves | None]:
    """The place (count,) of each child row in the batch, and the copies that this needs; ``parent`` is sorted.

    A parent's first child stays in its parent's place, so most rows are not copied. The other children go to places
    where nobody stays. First children whose parent lies beyond the smaller batch (``parent >= count``) move there too.
    So no target is a source: a source below ``count`` keeps its first child in its place, and no target is above.
    """
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
