"""Keys or values of the rows of a decode: one contiguous tensor, zero where nothing is written, grown by doubling.

Attention reads the whole tensor and masks the positions that are not written yet. On a CPU, products of slices of
unequal length would take several times as long.
"""

from __future__ import annotations

from torch import Tensor

from emorl_bench.decoding.prefix_tree import Moves

BLOCK = 16  # positions at first; the number is doubled when more are needed


def room(position: int, steps: int) -> int:
    """How many positions are allocated when ``position`` is written, in a decode of at most ``steps`` tokens."""
    return min(steps, max(BLOCK, 1 << position.bit_length()))


class BlockCache:
    """A tensor (rows, H, room, D). Rows and room grow by doubling, so a growing tree is seldom copied.

    Args:
        like_RHSD: it gives the heads H, the head size D, dtype and device.
        steps: the largest number of positions that are ever needed.
    """

    def __init__(self, like_RHSD: Tensor, steps: int) -> None:
        """Begin without rows and without positions."""
        self.steps = steps
        self.tensor = like_RHSD.new_zeros(0, like_RHSD.shape[1], 0, like_RHSD.shape[3])

    def write(self, position: int, new_RHD: Tensor) -> Tensor:
        """Set one position of all R rows to (R, H, D); returns everything that they hold, (R, H, room, D)."""
        rows = len(new_RHD)
        self.reserve(rows, room(position, self.steps))
        self.tensor[:rows, :, position] = new_RHD
        return self.tensor[:rows]

    def move(self, moves: Moves) -> None:
        """Copy rows in place as the prefix tree says; no row is both a source and a target."""
        self.reserve(moves.rows, self.tensor.shape[2])
        self.tensor[moves.target] = self.tensor[moves.source]

    def reserve(self, rows: int, positions: int) -> None:
        """Have so many rows and positions, at least."""
        held, heads, filled, size = self.tensor.shape
        if rows <= held and positions <= filled:
            return
        rows = held if rows <= held else max(rows, 2 * held)
        grown = self.tensor.new_zeros(rows, heads, max(positions, filled), size)
        grown[:held, :, :filled] = self.tensor
        self.tensor = grown
