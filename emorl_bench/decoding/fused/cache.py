"""Keys or values of rows that are being decoded: contiguous, zero where nothing is written, grown by doubling.

Attention reads the whole of it and masks what is ahead: on a CPU, products of ragged slices take several times as long.
"""

from __future__ import annotations

from torch import Tensor

from emorl_bench.decoding.prefix_tree import Moves

BLOCK = 16  # positions at first; then twice as many, and so on


def room(position: int, steps: int) -> int:
    """Positions there is room for once ``position`` is written, in a decode of at most ``steps`` tokens."""
    return min(steps, max(BLOCK, 1 << position.bit_length()))


class BlockCache:
    """(rows, H, room, D). Both are added by doubling, so that a growing tree is seldom copied."""

    def __init__(self, like_RHSD: Tensor, steps: int) -> None:
        self.steps = steps
        self.tensor = like_RHSD.new_zeros(0, like_RHSD.shape[1], 0, like_RHSD.shape[3])

    def write(self, position: int, new_RHD: Tensor) -> Tensor:
        """Set one position of all R rows; returns their (R, H, room, D)."""
        rows = len(new_RHD)
        self._reserve(rows, room(position, self.steps))
        self.tensor[:rows, :, position] = new_RHD
        return self.tensor[:rows]

    def move(self, moves: Moves) -> None:
        self._reserve(moves.rows, self.tensor.shape[2])
        self.tensor[moves.target] = self.tensor[moves.source]

    def _reserve(self, rows: int, positions: int) -> None:
        held, heads, filled, size = self.tensor.shape
        if rows <= held and positions <= filled:
            return
        rows = held if rows <= held else max(rows, 2 * held)
        grown = self.tensor.new_zeros(rows, heads, max(positions, filled), size)
        grown[:held, :, :filled] = self.tensor
        self.tensor = grown
