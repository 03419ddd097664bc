"""What a scorer learns and is judged by: the seam between data and the training loop."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from emorl_bench.scorer_training.nets import Text


@dataclass(frozen=True)
class Batch:
    """Texts to read and the loss (a scalar) of their logits (B, O)."""

    texts: Sequence[Text]
    loss: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Verdict:
    """How good a scorer is on texts that it has not seen.

    ``metrics``: name -> value, low, high (95 % bootstrap over groups) and n (rows or pairs). ``calibration``: the
    expected calibration error and the bins behind it.
    """

    metrics: Mapping[str, Mapping[str, float]]
    calibration: Mapping[str, Any]
    groups: int


class Subject(Protocol):
    """Training and report rows of one scorer, and how it learns from the first and is judged on the second."""

    @property
    def outputs(self) -> int: ...  # logits of a text
    @property
    def units(self) -> int: ...  # that an epoch goes through
    def batches(self, size: int, rng: random.Random) -> Iterator[Batch]: ...  # of one epoch
    def report_texts(self) -> Sequence[Text]: ...
    def judge(self, logits_NO: Tensor) -> Verdict: ...  # of the report texts


@dataclass(frozen=True)
class Study:
    """A subject and where its rows came from (``data`` goes into the card and its fingerprint into the hash)."""

    subject: Subject
    data: Mapping[str, Any]


def bucketed(lengths: Sequence[int], size: int, rng: random.Random, span: int = 8) -> list[list[int]]:
    """Shuffled batches of like length: rows are shuffled, sorted within ``span`` batches, and batches shuffled."""
    order = rng.sample(range(len(lengths)), len(lengths))
    batches: list[list[int]] = []
    for start in range(0, len(order), size * span):
        near = sorted(order[start : start + size * span], key=lambda i: lengths[i])
        batches += [near[at : at + size] for at in range(0, len(near), size)]
    rng.shuffle(batches)
    return batches
