"""AGRO (2503.19612): at the optimum ``R = r - b log(pi / pi_ref)`` is the same for every answer to a prompt.

The loss is half the variance of R among the answers to a prompt, whoever gave them: ``L = 1/2 E_x Var_{y ~ mu}[R]``.
Its gradient, ``-b/(n-1) sum_i (R_i - mean R) grad log pi(y_i)``, is unbiased for any mu that covers the answers of pi:
the policy itself, an older policy, another method, a file. With mu = pi it is b times the gradient of leave-one-out
REINFORCE with the KL in the reward. The gradient that is followed here is that of L / b, so that the step does not
shrink with b.

Against the paper: older rollouts are drawn uniformly from a bounded buffer. They are used beside the fresh ones, with
the same weight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.protocols import Learner, Policy
from emorl_bench.core.types import Rollout
from emorl_bench.policies.adapter_policy import token_logprobs
from emorl_bench.rl.advantages import leave_one_out, spread
from emorl_bench.rl.kl import sequence_kl
from emorl_bench.rl.learner import AdapterRule
from emorl_bench.rl.replay import Replay, groups_of, joined
from emorl_bench.rl.scst import ReinforceLearner, Weighted


@dataclass(frozen=True)
class Agro(AdapterRule):
    """Settings. ``kl_coefficient`` is b, and above 0.

    Each update takes ``replay_prompts`` older prompts with their samples, out of the last ``buffer_prompts``, beside
    the fresh ones; 0 is on-policy.
    """

    kl_coefficient: float = 0.02
    replay_prompts: int = 0
    buffer_prompts: int = 256

    needs_behaviour_logprobs: ClassVar[bool] = False

    def learner(self, policy: Policy, ledger: Ledger, objectives: Sequence[str] = ()) -> Learner:
        """See `core.protocols.UpdateRule.learner`.

        Raises:
            UserError: ``kl_coefficient`` is not above 0, or ``replay_prompts`` is not from 0 to ``buffer_prompts``.
        """
        if self.kl_coefficient <= 0:
            raise UserError(
                f"update.kl_coefficient={self.kl_coefficient}: AGRO has no optimum without KL; give above 0"
            )
        if not 0 <= self.replay_prompts <= self.buffer_prompts:
            raise UserError(
                f"update.replay_prompts={self.replay_prompts}: give 0 to update.buffer_prompts={self.buffer_prompts}"
            )
        return _AgroLearner(self, policy, ledger, objectives)


class _AgroLearner(ReinforceLearner[Agro]):
    def __init__(self, rule: Agro, policy: Policy, ledger: Ledger, objectives: Sequence[str] = ()) -> None:
        super().__init__(rule, policy, ledger, objectives)
        self.replay = Replay(rule.buffer_prompts)
        self.replayed = 0.0  # share of older groups in the latest update

    @property
    def uses_reference(self) -> bool:
        return True

    def beside_older(self, rollout: Rollout, rewards_B: Tensor, rng: torch.Generator) -> tuple[Rollout, Tensor]:
        """The fresh rollout, followed by older groups. After that the fresh groups are stored."""
        if not self.rule.replay_prompts:
            return rollout, rewards_B
        fresh = groups_of(rollout, rewards_B)
        older = self.replay.draw(self.rule.replay_prompts, rng)
        self.replay.add(fresh)
        self.replayed = len(older) / (len(fresh) + len(older))
        return joined([*fresh, *older])

    def prepare(
        self, rollout: Rollout, rewards_B: Tensor, has_reward_B: Tensor, reference_BT: Tensor | None
    ) -> Weighted:
        assert reference_BT is not None
        # The policy as it is now; the answers may be those of an older policy, or of another sampler.
        current_BT = self.read(rollout, lambda hidden_BTH, part: token_logprobs(self.policy, hidden_BTH, part))
        log_ratio_B = sequence_kl(current_BT, reference_BT, rollout.response_mask_BT)
        regularised_B = rewards_B - self.rule.kl_coefficient * log_ratio_B
        metrics = {
            "loss": (spread(regularised_B.view(-1, rollout.group_size), 1) ** 2).mean().item() / 2,
            "log_ratio": log_ratio_B[has_reward_B]
            .mean()
            .item(),  # this is the KL where the answers are the policy's own
            "replayed": self.replayed,
        }
        shares_B = leave_one_out(regularised_B, rollout.group_size) / has_reward_B.sum()
        return Weighted(rollout, shares_B, metrics=metrics)

    def state_dict(self) -> dict[str, Tensor]:
        return super().state_dict() | self.replay.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        super().load_state_dict(state)
        device = next(iter(self.policy.parameters())).device
        self.replay.load_state_dict(state, device)
