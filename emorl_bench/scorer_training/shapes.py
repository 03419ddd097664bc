"""What a network says of a text does not depend on the texts beside it: batches of fixed shape, or no batches.

Matrix products of another shape round in another order. On a CPU even the place of a row in its batch changes the last
bit. So a CPU reads every text alone and without padding, which saves as much time as batches do. On a GPU every batch
has the same number of rows, and a width that follows from a text's own length. An incomplete batch is filled with
copies of its last text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

STEP = 16  # widths are multiples of this number of tokens
ROWS = 32  # of a batch


def fixed_batches(
    lengths: Sequence[int], most: int, device: str, batch_tokens: int | None = None
) -> Iterator[tuple[list[int], int, int]]:
    """Batches from short to long: indices of complete batches, how many of them are no copies, and the width.

    Args:
        lengths: the number of tokens of each text.
        most: the largest width that the network reads.
        device: the type of the device, such as ``cpu``.
        batch_tokens: a batch has no more tokens than this, padding included, unless it has one row.
    """
    alone = device == "cpu"
    by_width: dict[int, list[int]] = {}
    for place, length in enumerate(lengths):
        by_width.setdefault(max(1, length) if alone else width_of(length, most), []).append(place)
    for width, places in sorted(by_width.items()):
        rows = 1 if alone else ROWS if batch_tokens is None else max(1, min(ROWS, batch_tokens // width))
        for start in range(0, len(places), rows):
            own = places[start : start + rows]
            yield [*own, *[own[-1]] * (rows - len(own))], len(own), width


def width_of(length: int, most: int) -> int:
    """The next multiple of `STEP`; no more than ``most``, but at least the text itself."""
    return max(length, min(-(-max(length, 1) // STEP) * STEP, most))


def exact_sigmoid(values: Tensor) -> Tensor:
    """The logistic function in float64, rounded to float32.

    In float32 the last elements of a tensor are computed by other instructions than the rest.
    """
    return torch.sigmoid(values.double()).float()
