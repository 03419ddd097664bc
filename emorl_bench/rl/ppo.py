"""Proximal policy optimisation of adapters, for encoder-decoder and decoder-only language models.

Clipped surrogate and clipped value loss (Schulman 1707.06347), generalised advantage estimation over tokens
(1506.02438), and a KL penalty to the reference in the reward of each token, with a fixed or adaptive coefficient
(Ziegler 1909.08593). The value head reads the same forward pass as the policy. docs/decisions/own_ppo.md lists what
TRL's first PPO does differently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.protocols import Learner, Policy
from emorl_bench.core.types import Metrics, Rollout
from emorl_bench.policies.adapter_policy import token_logprobs
from emorl_bench.rl.kl import vocabulary_kl
from emorl_bench.rl.learner import AdapterLearner, AdapterRule, shuffled
from emorl_bench.rl.optimiser import Optimiser, numbered
from emorl_bench.rl.reward_scale import RewardScale, RunningMoments
from emorl_bench.rl.update import Batch


@dataclass(frozen=True)
class Ppo(AdapterRule):
    """Settings. Clips, value coefficient, gamma, lambda and ``ratio_limit`` are by default those of TRL's first PPO.

    ``kl``: the penalty of a token is ``log pi - log pi_ref`` of the ``sampled`` token, or its mean over the ``full``
    vocabulary, ``sum_v pi(v) (log pi(v) - log pi_ref(v))``. ``kl_target`` (nats per sequence) makes ``kl_coefficient``
    adaptive over ``kl_horizon`` samples; ``None`` keeps it fixed. ``reward_scale``: rewards are divided by the standard
    deviation of all rewards so far (``scaled``), after their mean is subtracted (``normalised``). ``ratio_limit``: a
    minibatch is skipped if its mean ratio to the old policy is larger; ``None`` skips none.
    """

    value_learning_rate: float = 2e-3
    clip: float = 0.2
    value_clip: float = 0.2
    value_coefficient: float = 0.1
    gamma: float = 1.0
    lam: float = 0.95
    epochs: int = 2
    minibatches: int = 1
    kl_coefficient: float = 0.02
    kl: Literal["sampled", "full"] = "sampled"
    kl_target: float | None = None
    kl_horizon: int = 10_000
    reward_scale: RewardScale = "plain"
    ratio_limit: float | None = 10.0

    def learner(self, policy: Policy, ledger: Ledger, objectives: Sequence[str] = ()) -> Learner:
        """See `core.protocols.UpdateRule.learner`.

        Raises:
            UserError: ``ratio_limit`` is not above 1.
        """
        if self.ratio_limit is not None and self.ratio_limit <= 1:
            raise UserError(f"update.ratio_limit={self.ratio_limit}: give more than 1, which an unmoved policy has")
        return _PpoLearner(self, policy, ledger, objectives)


def token_rewards(rewards_B: Tensor, kl_penalty_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """(B, T): minus the KL penalty at each token, plus the sequence's reward at its last one (Ziegler 1909.08593).

    A row that is masked everywhere must have the reward 0.
    """
    last_B = (mask_BT.sum(1).long() - 1).clamp_min(0)
    rewards_BT = -kl_penalty_BT * mask_BT
    return rewards_BT.scatter_add(1, last_B[:, None], rewards_B[:, None].to(rewards_BT))


def gae(rewards_BT: Tensor, values_BT: Tensor, mask_BT: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (Schulman 1506.02438, eq. 16) on right-padded responses.

    ``delta_t = r_t + gamma V_{t+1} - V_t`` and ``A_t = delta_t + gamma lam A_{t+1}``; both are 0 after the last token.

    Returns:
        advantages (B, T) and returns ``A + V`` (B, T), 0 where masked.
    """
    advantages_BT = torch.zeros_like(values_BT)
    running_B, next_value_B = torch.zeros_like(values_BT[:, 0]), torch.zeros_like(values_BT[:, 0])
    for t in reversed(range(values_BT.shape[1])):
        here_B = mask_BT[:, t]
        delta_B = rewards_BT[:, t] + gamma * next_value_B - values_BT[:, t]
        running_B = torch.where(here_B, delta_B + gamma * lam * running_B, 0.0)
        next_value_B = torch.where(here_B, values_BT[:, t], 0.0)
        advantages_BT[:, t] = running_B
    return advantages_BT, (advantages_BT + values_BT) * mask_BT


def whiten(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Shift and scale to zero mean and unit variance over the tokens that are not masked."""
    count = mask_BT.sum().clamp_min(1)
    mean = (values_BT * mask_BT).sum() / count
    variance = ((values_BT - mean) ** 2 * mask_BT).sum() / count
    return (values_BT - mean) * (variance + 1e-8).rsqrt() * mask_BT


def surrogate_loss(logprobs_BT: Tensor, old_BT: Tensor, advantages_BT: Tensor, clip: float) -> Tensor:
    """(B, T) ``-min(r A, clip(r) A)`` with ``r = pi / pi_old`` (1707.06347, eq. 7)."""
    ratio_BT = (logprobs_BT - old_BT).exp()
    return -torch.minimum(ratio_BT * advantages_BT, ratio_BT.clamp(1 - clip, 1 + clip) * advantages_BT)


def value_loss(values_BT: Tensor, old_BT: Tensor, returns_BT: Tensor, clip: float) -> Tensor:
    """(B, T) half the larger squared error: of the value, or of the value clipped to ``old +- clip``."""
    clipped_BT = old_BT + (values_BT - old_BT).clamp(-clip, clip)
    return 0.5 * torch.maximum((values_BT - returns_BT) ** 2, (clipped_BT - returns_BT) ** 2)


def adapt_kl(coefficient: float, kl: float, target: float, samples: int, horizon: int) -> float:
    """Proportional control of the KL coefficient (Ziegler 1909.08593, section 2.2)."""
    error = min(max(kl / target - 1, -0.2), 0.2)
    return coefficient * (1 + error * samples / horizon)


@dataclass(frozen=True)
class Estimated(Batch):
    """Values before the update, and the advantages and returns that follow from them; 0 where masked."""

    old_values_BT: Tensor
    advantages_BT: Tensor
    returns_BT: Tensor


class _PpoLearner(AdapterLearner[Ppo, Estimated]):
    def __init__(self, rule: Ppo, policy: Policy, ledger: Ledger, objectives: Sequence[str] = ()) -> None:
        super().__init__(rule, policy, ledger, objectives)
        self.kl_coefficient = rule.kl_coefficient
        self.moments = RunningMoments()
        self.value_head: nn.Linear | None = None  # made once the hidden width is known
        self.value: Optimiser | None = None

    @property
    def uses_reference(self) -> bool:
        return self.rule.kl == "sampled"

    def prepare(
        self, rollout: Rollout, rewards_B: Tensor, has_reward_B: Tensor, reference_BT: Tensor | None
    ) -> Estimated:
        mask_BT = rollout.response_mask_BT
        values_BT, kl_BT = (self.read(rollout, self._values_and_kl) * mask_BT[..., None]).unbind(-1)
        if reference_BT is not None:
            kl_BT = (rollout.logprobs_BT - reference_BT) * mask_BT
        rewards_BT = token_rewards(self._scaled(rewards_B, has_reward_B), self.kl_coefficient * kl_BT, mask_BT)
        advantages_BT, returns_BT = gae(rewards_BT, values_BT, mask_BT, self.rule.gamma, self.rule.lam)
        weighted_BT = rollout.weighted(whiten(advantages_BT, mask_BT))
        metrics = self._adapt_kl(kl_BT.sum(1)[has_reward_B])
        return Estimated(rollout, values_BT, weighted_BT, returns_BT, metrics=metrics)

    def minibatches(self, batch: Estimated, rng: torch.Generator) -> Sequence[Estimated]:
        return shuffled(batch, self.rule.epochs, self.rule.minibatches, rng)

    def loss(self, hidden_BTH: Tensor, part: Estimated, minibatch: Estimated) -> tuple[Tensor, Metrics]:
        rule, old_BT, mask_BT = self.rule, part.rollout.logprobs_BT, part.rollout.response_mask_BT
        tokens = minibatch.rollout.response_mask_BT.sum()
        logprobs_BT = token_logprobs(self.policy, hidden_BTH, part.rollout)
        policy_BT = surrogate_loss(logprobs_BT, old_BT, part.advantages_BT, rule.clip)
        value_BT = value_loss(self._values(hidden_BTH), part.old_values_BT, part.returns_BT, rule.value_clip)
        policy, value = (policy_BT * mask_BT).sum() / tokens, (value_BT * mask_BT).sum() / tokens
        ratio_BT = (logprobs_BT - old_BT).exp()
        clipped = ((((ratio_BT - 1).abs() > rule.clip) & mask_BT).sum() / tokens).item()
        metrics = {"policy_loss": policy.item(), "value_loss": value.item(), "clip_fraction": clipped}
        metrics["ratio"] = ((ratio_BT * mask_BT).sum() / tokens).item()
        return policy + rule.value_coefficient * value, metrics

    def descend(self, totals: Metrics) -> Metrics:
        """Step the adapter and the value head; or skip the minibatch, if its mean ratio is above ``ratio_limit``."""
        assert self.value is not None
        if self.rule.ratio_limit is not None and totals["ratio"] > self.rule.ratio_limit:
            self.optimiser.drop()
            self.value.drop()
            return {**totals, "grad_norm": 0.0, "skipped": 1.0}
        metrics = super().descend(totals)
        self.value.step()
        return {**metrics, "skipped": 0.0}

    def _scaled(self, rewards_B: Tensor, has_reward_B: Tensor) -> Tensor:
        """(B,) rewards in the units of ``reward_scale``; 0 where there is none."""
        if self.rule.reward_scale != "plain":
            self.moments.add(rewards_B[has_reward_B])
        return self.moments.scaled(rewards_B, self.rule.reward_scale).nan_to_num(0.0)

    def _adapt_kl(self, kl_B: Tensor) -> dict[str, float]:
        """Adapt the coefficient for the next update: the rewards of this one were made with the old coefficient."""
        rule, kl = self.rule, kl_B.mean().item()
        if rule.kl_target is not None:
            self.kl_coefficient = adapt_kl(self.kl_coefficient, kl, rule.kl_target, len(kl_B), rule.kl_horizon)
        return {"kl": kl, "kl_coefficient": self.kl_coefficient}

    # the value head -----------------------------------------------------------------------------
    @property
    def beside_adapter(self) -> Sequence[nn.Parameter]:
        return () if self.value_head is None else list(self.value_head.parameters())

    def _values_and_kl(self, hidden_BTH: Tensor, part: Rollout) -> Tensor:
        """(B, T, 2): values and, with ``kl: full``, the exact KL to the reference."""
        values_BT = self._values(hidden_BTH)
        if self.rule.kl == "sampled":
            return torch.stack([values_BT, torch.zeros_like(values_BT)], -1)
        reference_BTH = self.policy.reference().hidden(part)
        kl_BT = vocabulary_kl(self.policy, hidden_BTH, reference_BTH, part.temperature)
        return torch.stack([values_BT, kl_BT.to(values_BT)], -1)

    def _values(self, hidden_BTH: Tensor) -> Tensor:
        """(B, T) in float32, or in float64 where the model is."""
        head = self._ensure_value_head(hidden_BTH)
        hidden_BTH = hidden_BTH if hidden_BTH.dtype == torch.float64 else hidden_BTH.float()
        return linear(hidden_BTH, head.weight.to(hidden_BTH.dtype), head.bias.to(hidden_BTH.dtype)).squeeze(-1)

    def _ensure_value_head(self, hidden: Tensor) -> nn.Linear:
        if self.value_head is None:
            self.value_head = nn.Linear(hidden.shape[-1], 1, device=hidden.device)
            nn.init.zeros_(self.value_head.weight)  # so the first values are 0, not noise
            nn.init.zeros_(self.value_head.bias)
            named = numbered(self.value_head.parameters(), "value.")
            self.value = Optimiser(named, self.rule.value_learning_rate, 0.0, self.rule.clip_norm, self.policy.ranks)
        return self.value_head

    def state_dict(self) -> dict[str, Tensor]:
        state = super().state_dict()
        if self.value_head is not None and self.value is not None:
            state |= self.value.state_tensors()
            state |= {f"value_head.{k}": v for k, v in self.value_head.state_dict().items()}
        state |= {"kl_coefficient": torch.tensor(self.kl_coefficient, dtype=torch.float64)}
        return state | {"reward_moments": self.moments.state()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.kl_coefficient = float(state["kl_coefficient"])
        self.moments = RunningMoments.of(state["reward_moments"])
        super().load_state_dict(state)
        head = {k.removeprefix("value_head."): v for k, v in state.items() if k.startswith("value_head.")}
        if head:
            self._ensure_value_head(head["weight"]).load_state_dict(head)
            assert self.value is not None
            self.value.load_state_tensors(state)
