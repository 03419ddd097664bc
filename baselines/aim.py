"""AIM (2502.02421) of the experts that EMORL blends: a merge that spares the channels the base model uses most.

`emorl_bench.ensemble.aim` has the rule. Against the paper: calibrated on training prompts and the base model's own
sampled answers, where it takes general text; the prompts and tokens are charged as those of a learner, and taken from
what is reserved for the search. Merging weights are searched with the very search that EMORL uses; ``search=null``
merges uniformly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Bench, FrontStrategy, Policy, SearchStrategy, Solution
from emorl_bench.core.seeds import stream
from emorl_bench.ensemble.aim import Aim, salience
from emorl_bench.ensemble.dense import Merge
from emorl_bench.ensemble.front import searched_or_uniform
from emorl_bench.ensemble.merging import Parameters
from emorl_bench.rl.experts import expert_bank


@dataclass(frozen=True)
class AimMerge:
    """``omega``: how much of its update the most used channel keeps. ``merge``: what AIM follows, such as the soup."""

    omega: float = 0.4
    calibration_prompts: int = 32
    merge: Merge = field(default_factory=Parameters)
    search: SearchStrategy | FrontStrategy | None = None
    search_share: float = 0.25  # of the budget's prompts, where there is a search

    def fit(self, bench: Bench) -> Solution:
        rule = Aim({}, self.omega, self.merge)  # before anything is trained: it refuses bad values
        if self.calibration_prompts < 1:
            raise UserError(f"method.calibration_prompts={self.calibration_prompts}: give 1 or more")
        share = 0.0 if self.search is None else self.search_share
        whole = bench.budget.prompts
        reserve = share if whole is None else min(0.99, max(share, self.calibration_prompts / whole))
        experts = expert_bank(bench, reserve=reserve)
        rule = replace(rule, salience=self._calibrated(bench, experts))
        return searched_or_uniform(bench, experts, rule, self.search, share)

    def _calibrated(self, bench: Bench, experts: Sequence[Policy]) -> dict[str, Tensor]:
        """On training prompts only. A phase of its own: it needs no expert, so it could run beside their training."""
        order = torch.randperm(len(bench.train), generator=stream(bench.seed, "calibration", "prompts"))
        prompts = [bench.train[i] for i in order[: self.calibration_prompts].tolist()]
        once = replace(bench.sampling, samples_per_prompt=1)
        with bench.ledger.phase("train/calibration"):
            answers = experts[0].reference().generate(prompts, once, stream(bench.seed, "calibration"))
            with bench.ledger.metered("calibrate") as call:
                call.tokens = answers.tokens
                return salience(experts, answers)
