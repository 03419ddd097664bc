"""What the trained scorers share: a twin, weights that are trained when they are first needed, and reading in batches.

The files beside this one say what each scorer learns from (`study`). How it learns is in `emorl_bench.scorer_training`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from emorl_bench.core.errors import UserError, did_you_mean
from emorl_bench.core.types import Example
from emorl_bench.data.splitting import Division
from emorl_bench.scorer_training import artefacts
from emorl_bench.scorer_training.loop import read
from emorl_bench.scorer_training.nets import ScorerNet, scores
from emorl_bench.scorer_training.settings import Settings
from emorl_bench.scorer_training.study import Study
from emorl_bench.scorers.rule import DeviceScorer

PARTS = {"train": "scorer", "held_out": "held_out"}  # twin -> part of a corpus that it learns from
JUDGED_ON = ("select", "report")  # parts that neither twin learns from


@dataclass(frozen=True, kw_only=True)
class Trained(DeviceScorer, Settings, ABC):
    """A scorer whose fields are the settings of its training.

    ``twin`` is ``train`` or ``held_out``. The held-out twin has another part of the corpus, another seed and, with
    ``held_out_encoder``, another encoder. ``data_dir`` holds the corpus. It is needed not only to train the weights but
    also to find them. Wrong settings are reported when the scorer is first used, not when it is built.
    """

    data_dir: str | None
    held_out_encoder: str | None = None
    twin: str = "train"

    @property
    @abstractmethod
    def name(self) -> str:
        """The name of the objective."""

    @abstractmethod
    def study(self) -> Study:
        """What this twin learns from and is judged by; reads the corpus."""

    def check(self, owner: str) -> None:
        """See `Settings.check`."""
        super().check(owner)
        if self.twin not in PARTS:
            raise UserError(f"scorer {owner}: twin={self.twin}: unknown{did_you_mean(self.twin, PARTS)}")

    def held_out(self) -> Self:
        """The held-out twin."""
        return replace(self, twin="held_out")

    def prepare(self) -> None:
        """Train what is not in the cache, with a progress bar."""
        self.train()

    def train(self, *, afresh: bool = False) -> Path:
        """The directory of weights and card. They are trained first where they are absent, or with ``afresh``."""
        return artefacts.ensure(self._order(), _study(self._plain()), afresh=afresh)

    def place(self) -> Path:
        """The directory in which weights and card are, or will be."""
        order = self._order()
        return artefacts.place(order, _study(self._plain()).data["fingerprint"])

    def fingerprint(self) -> str:
        """Hash of settings, data and encoder. The trained weights need not exist yet."""
        return f"{self.name}-{self.twin}-{self.place().name}"

    @torch.no_grad()
    def score(self, examples: Sequence[Example], responses: Sequence[str]) -> Tensor:
        """(B,) in [0, 1]. An empty response scores 0, whatever the network would say."""
        net, tokenizer = _net(self)
        said = [i for i, response in enumerate(responses) if response.strip()]
        score_B = torch.zeros(len(responses))
        if said:
            texts = [(examples[i].prompt, responses[i]) for i in said]
            score_B[said] = scores(read(net, tokenizer, texts, self, self.block_bytes)).float()
        return score_B

    def part(self) -> str:
        """The part of the corpus that this twin learns from."""
        return PARTS[self.twin]

    def described(self, corpus: str, division: Division[Any], judged_on: str = "") -> dict[str, Any]:
        """What the card says about the data."""
        return {
            "corpus": corpus,
            "part": self.part(),
            "judged_on": judged_on or " + ".join(JUDGED_ON),
            "rows": {name: len(rows) for name, rows in division.parts.items()},
            "removed": dict(division.removed),
            "fingerprint": division.fingerprint,
        }

    def _order(self) -> artefacts.Order:
        self.check(self.name)
        held_out = self.twin == "held_out"
        encoder = (held_out and self.held_out_encoder) or self.encoder
        settings = replace(self._plain(), encoder=encoder, seed=self.seed + held_out)
        return artefacts.Order(self.name, self.twin, settings, self.device)

    def _plain(self) -> Self:
        return replace(self, device="cpu")


def judged(parts: Mapping[str, Sequence[Any]]) -> list[Any]:
    """The rows of the parts that neither twin learns from."""
    return [row for name in JUDGED_ON for row in parts[name]]


@lru_cache(maxsize=8)  # a run calls this several times, and a corpus may have 25,000 reviews
def _study(scorer: Trained) -> Study:
    return scorer.study()


@lru_cache(maxsize=16)
def _net(scorer: Trained) -> tuple[ScorerNet, Any]:
    order, study = scorer._order(), _study(scorer._plain())
    return artefacts.load_net(order, artefacts.ensure(order, study), study.subject.outputs)
