"""What a scorer learns from and is judged by: the interface between data and training loop."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from emorl_bench.scorer_training.nets import Text


@dataclass(frozen=True)
class TextBatch:
    """Texts to read, and the loss (a scalar) of their logits (B, O)."""

    texts: Sequence[Text]
    loss: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Verdict:
    """How good a scorer is on texts that it has not seen.

    ``metrics``: name -> value, low, high (95 % bootstrap over groups) and n (rows or pairs). ``calibration``: the
    expected calibration error and its bins.
    """

    metrics: Mapping[str, Mapping[str, float]]
    calibration: Mapping[str, Any]
    groups: int


class Subject(Protocol):
    """Training and report rows of one scorer, with the loss for the first and the measures for the second."""

    @property
    def outputs(self) -> int:
        """Logits of a text."""

    @property
    def units(self) -> int:
        """Units of an epoch."""

    def batches(self, size: int, rng: random.Random) -> Iterator[TextBatch]:
        """The batches of one epoch, with ``size`` units each."""

    def report_texts(self) -> Sequence[Text]:
        """The N texts that it is judged on."""

    def judge(self, logits_NO: Tensor) -> Verdict:
        """Judge the logits (N, O) of the report texts."""


@dataclass(frozen=True)
class Study:
    """A subject, and where its rows come from: ``data`` is part of the card, and its fingerprint of the hash."""

    subject: Subject
    data: Mapping[str, Any]


def bucketed(lengths: Sequence[int], size: int, rng: random.Random, span: int = 8) -> list[list[int]]:
    """Indices in shuffled batches of similar length: rows are shuffled and sorted within ``span`` batches.

    Then the batches are shuffled.
    """
    order = rng.sample(range(len(lengths)), len(lengths))
    batches: list[list[int]] = []
    for start in range(0, len(order), size * span):
        near = sorted(order[start : start + size * span], key=lambda i: lengths[i])
        batches += [near[at : at + size] for at in range(0, len(near), size)]
    rng.shuffle(batches)
    return batches
