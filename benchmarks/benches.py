"""A `Bench` around random experts: what a search or a training step needs, with rewards that cost almost no time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.models import Setting
from emorl_bench.core.ledger import Cost
from emorl_bench.core.protocols import Bench, Runtime
from emorl_bench.core.types import Budget, Example, Sampling, Training
from emorl_bench.rl.scst import Scst
from emorl_bench.scorers.panel import ScorerPanel
from emorl_bench.tracking.silent import Silent


@dataclass(frozen=True)
class WordShare:
    """The share of a response's words ``w<number>`` whose number is ``remainder`` modulo ``of``."""

    name: str
    remainder: int
    of: int
    bounds: tuple[float, float] = (0.0, 1.0)

    def score(self, examples: Sequence[Example], responses: Sequence[str]) -> Tensor:
        """(B,) in [0, 1]."""
        return torch.tensor(self.of_texts(responses))

    def of_texts(self, responses: Sequence[str]) -> list[float]:
        """The share of each response, 0 for a response without words."""
        words = [[word for word in response.split() if word[0] == "w"] for response in responses]
        hits = [sum(int(word[1:]) % self.of == self.remainder for word in row) for row in words]
        return [hit / max(len(row), 1) for hit, row in zip(hits, words, strict=True)]

    def prepare(self) -> None:
        """There is nothing to make."""

    def on(self, device: torch.device) -> WordShare:
        """This scorer: it uses no device."""
        return self

    def held_out(self) -> WordShare:
        """This scorer: a rule is its own twin."""
        return self

    def fingerprint(self) -> str:
        """The settings."""
        return f"{self.remainder}/{self.of}"

    def costs(self) -> Mapping[str, Cost]:
        """Nothing: a rule costs nothing before it scores."""
        return {}


def random_bench(setting: Setting, directory: Path, *, steps: int = 1, samples: int = 4) -> Bench:
    """A bench with one objective for each expert.

    Every bench has its own prompts and its own memory of scores.

    Args:
        setting: model, experts and prompts.
        directory: where checkpoints and experts go.
        steps: training steps that the budget pays for.
        samples: answers to each prompt.
    """
    count = len(setting.experts)
    ledger = setting.bank.decoder.ledger
    panel = ScorerPanel([WordShare(f"share{k}", k, count) for k in range(count)], ledger)
    prompts = setting.prompts()
    rarely = steps + 1
    training = Training(len(prompts), samples, validate_every=rarely, checkpoint_every=rarely)
    return Bench(
        train=prompts,
        select=prompts,
        objectives=panel.objectives,
        score=panel.score,
        new_policy=setting.bank.new_policy,
        update=Scst(kl_coefficient=0.0),
        reward="linear",
        training=training,
        budget=Budget(samples=count * steps * len(prompts) * samples),
        sampling=Sampling(setting.new_tokens, samples_per_prompt=samples),
        tracker=Silent(),
        ledger=ledger,
        seed=0,
        dir=directory,
        runtime=Runtime(experts_dir=directory / "experts", fingerprint=setting.name),
    )
