"""What a learner is rewarded with is the learner's own word, in every round of every method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from baselines.conditioned.pareto_set import ParetoSet
from baselines.cory import Cory
from baselines.morlhf import Morlhf
from baselines.offline.offline_policy import OfflinePolicy
from baselines.single_objective import SingleObjective
from baselines.weighted_policy import WeightedPolicy
from emorl_bench.core.protocols import Bench, Weighting
from emorl_bench.rl.scst import Scst, _ScstLearner

MARK = 100.0  # more than any reward of scores between 0 and 1
heard: list[Tensor] = []


class MarkedLearner(_ScstLearner):
    def rewards(self, scores_BK: Tensor, weighting: Weighting, group_size: int) -> Tensor:
        return weighting.reward(scores_BK) + MARK

    def prepare(self, rollout: Any, rewards_B: Tensor, has_reward_B: Tensor, reference_BT: Tensor | None) -> Any:
        heard.append(rewards_B)
        return super().prepare(rollout, rewards_B, has_reward_B, reference_BT)


@dataclass(frozen=True)
class Marked(Scst):
    def learner(self, policy: Any, ledger: Any, objectives: Sequence[str] = ()) -> MarkedLearner:
        return MarkedLearner(self, policy, ledger, objectives)


@pytest.mark.parametrize(
    ("method", "agents"),
    [
        (WeightedPolicy(), 1),
        (OfflinePolicy(), 1),
        (Cory(), 2),
        (Cory(share_reward=False), 1),
        (SingleObjective(), 1),
        (ParetoSet(Marked(), preferences=2, width=4), 1),
    ],
    ids=["weighted", "offline", "cory", "cory alone", "experts", "conditioned"],
)
def test_every_round_asks_the_learner(bench: Callable[..., Bench], method: Any, agents: int) -> None:
    heard.clear()
    method.fit(bench("gpt2", steps=3, update=Marked()))
    assert heard
    for rewards_B in heard:
        assert (rewards_B >= agents * MARK).all()
        assert (rewards_B <= agents * (MARK + 1)).all()


def test_policies_of_several_preferences_ask_too(bench: Callable[..., Bench]) -> None:
    heard.clear()
    made = bench("gpt2", steps=4, update=Marked())
    Morlhf().fit(replace(made, preferences=((1.0, 0.0), (0.5, 0.5))))
    assert len(heard) > 1
    assert torch.stack(heard).min() >= MARK
