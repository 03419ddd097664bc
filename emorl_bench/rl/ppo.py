"""Proximal policy optimisation for language models, encoder-decoder and decoder-only, with adapters.

Clipped surrogate and clipped value loss (Schulman 1707.06347), GAE over tokens (1506.02438), a per-token KL penalty to
the reference in the reward with a fixed or adaptive coefficient (Ziegler 1909.08593). The value head reads the same
forward pass as the policy.

What TRL's first PPO (up to 0.11, which CORY's release bundles) does beside that is a key each: the exact KL over the
vocabulary (``kl``), running scales of the reward (``reward_scale``), the adaptive coefficient (``kl_target``) and
minibatches that are skipped where the ratio has run away (``ratio_limit``). There a skipped minibatch has the loss 0,
and Adam moves on by its momentum; here nothing moves. Whitening divides by the number of tokens, there by one less.

The exact KL of a token is the same whichever token was drawn. As a reward it therefore tells only where an answer
should not go, never which token to draw there, and is no unbiased gradient of the KL; that of the sampled token is.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.protocols import Forward, ForwardBackward, Learner, Policy, Update
from emorl_bench.core.types import Metrics, Rollout
from emorl_bench.policies.bank import token_logprobs
from emorl_bench.rl.advantages import gae, token_rewards, whiten
from emorl_bench.rl.kl import vocabulary_kl
from emorl_bench.rl.learner import AdapterLearner, AdapterRule, Steps, in_turn, shuffled
from emorl_bench.rl.micro_batches import micro_batches, reference_logprobs
from emorl_bench.rl.optimiser import Optimiser, numbered
from emorl_bench.rl.reward_scale import RewardScale, RunningMoments


@dataclass(frozen=True)
class Ppo(AdapterRule):
    """Settings of the rule. Clips, value coefficient, gamma, lambda, epochs and ``ratio_limit`` are by default those of
    TRL's first PPO; its KL coefficient (0.2, adaptive to 6 nats) and learning rate are not.

    ``kl``: the penalty of a token is ``log pi - log pi_ref`` of the token ``sampled``, or its mean over the ``full``
    vocabulary, ``sum_v pi(v) (log pi(v) - log pi_ref(v))``. ``kl_target`` in nats per sequence makes ``kl_coefficient``
    adaptive over ``kl_horizon`` samples; ``None`` keeps it fixed. ``reward_scale``: rewards are divided by the standard
    deviation of all so far (``scaled``), after their mean is taken off (``normalised``). ``ratio_limit``: a minibatch
    whose mean ratio to the old policy is larger teaches nothing; ``None``: all teach.
    """

    value_learning_rate: float = 1e-3
    clip: float = 0.2
    value_clip: float = 0.2
    value_coefficient: float = 0.1
    gamma: float = 1.0
    lam: float = 0.95
    epochs: int = 4
    minibatches: int = 1
    kl_coefficient: float = 0.02
    kl: Literal["sampled", "full"] = "sampled"
    kl_target: float | None = None
    kl_horizon: int = 10_000
    reward_scale: RewardScale = "plain"
    ratio_limit: float | None = 10.0

    def learner(self, policy: Policy, ledger: Ledger) -> Learner:
        if self.ratio_limit is not None and self.ratio_limit <= 1:
            raise UserError(f"update.ratio_limit={self.ratio_limit}: give more than 1, which an unmoved policy has")
        return _PpoLearner(self, policy, ledger)


def surrogate_loss(logprobs_BT: Tensor, old_BT: Tensor, advantages_BT: Tensor, clip: float) -> Tensor:
    """(B, T) ``-min(r A, clip(r) A)`` with ``r = pi / pi_old`` (1707.06347, eq. 7)."""
    ratio_BT = (logprobs_BT - old_BT).exp()
    return -torch.minimum(ratio_BT * advantages_BT, ratio_BT.clamp(1 - clip, 1 + clip) * advantages_BT)


def value_loss(values_BT: Tensor, old_BT: Tensor, returns_BT: Tensor, clip: float) -> Tensor:
    """(B, T) half the larger squared error of the value and of the value clipped to ``old +- clip``."""
    clipped_BT = old_BT + (values_BT - old_BT).clamp(-clip, clip)
    return 0.5 * torch.maximum((values_BT - returns_BT) ** 2, (clipped_BT - returns_BT) ** 2)


def adapt_kl(coefficient: float, kl: float, target: float, samples: int, horizon: int) -> float:
    """Proportional control of the KL coefficient (Ziegler 1909.08593, section 2.2)."""
    error = min(max(kl / target - 1, -0.2), 0.2)
    return coefficient * (1 + error * samples / horizon)


@dataclass(frozen=True)
class _Batch:
    """One rollout with all that PPO freezes before its epochs, every tensor (B, T)."""

    rollout: Rollout
    values: Tensor
    advantages: Tensor
    returns: Tensor


class _PpoLearner(AdapterLearner[Ppo]):
    def __init__(self, rule: Ppo, policy: Policy, ledger: Ledger) -> None:
        super().__init__(rule, policy, ledger)
        self.kl_coefficient = rule.kl_coefficient
        self.moments = RunningMoments()
        self.value_head: nn.Linear | None = None  # made when the hidden width is seen
        self.value: Optimiser | None = None

    def _ensure_value_head(self, hidden: Tensor) -> nn.Linear:
        if self.value_head is None:
            self.value_head = nn.Linear(hidden.shape[-1], 1, device=hidden.device)
            nn.init.zeros_(self.value_head.weight)  # the first baseline is 0, not noise
            nn.init.zeros_(self.value_head.bias)
            named = numbered(self.value_head.parameters(), "value.")
            self.value = Optimiser(named, self.rule.value_learning_rate, 0.0, self.rule.clip_norm, self.policy.ranks)
        return self.value_head

    def _values(self, hidden_BTH: Tensor) -> Tensor:
        """(B, T) in float32, or float64 where the model is."""
        head = self._ensure_value_head(hidden_BTH)
        hidden_BTH = hidden_BTH if hidden_BTH.dtype == torch.float64 else hidden_BTH.float()
        return linear(hidden_BTH, head.weight.to(hidden_BTH.dtype), head.bias.to(hidden_BTH.dtype)).squeeze(-1)

    def learn(self, rollout: Rollout, rewards_B: Tensor, teaches_B: Tensor, rng: torch.Generator) -> Update:
        if self.rule.reward_scale != "plain":
            self.moments.add(rewards_B[teaches_B])
        told_B = self.moments.scaled(rewards_B, self.rule.reward_scale)
        batch, kl_B = yield from self._freeze(rollout, told_B.nan_to_num(0.0))
        minibatches = shuffled(teaches_B, self.rule.epochs, self.rule.minibatches, rng)
        metrics = yield from in_turn(self._minibatch(batch, rows) for rows in minibatches)
        kl, samples = kl_B[teaches_B].mean().item(), int(teaches_B.sum())
        if self.rule.kl_target is not None:
            self.kl_coefficient = adapt_kl(self.kl_coefficient, kl, self.rule.kl_target, samples, self.rule.kl_horizon)
        return {**metrics, "kl": kl, "kl_coefficient": self.kl_coefficient}

    def _freeze(self, rollout: Rollout, rewards_B: Tensor) -> Generator[Forward, Any, tuple[_Batch, Tensor]]:
        mask_BT = rollout.response_mask_BT
        values_BT, kl_BT = torch.zeros_like(rollout.logprobs_BT), torch.zeros_like(rollout.logprobs_BT)
        for picks in micro_batches(rollout, self.rule.micro_batch, ranks=self.policy.ranks):
            part = rollout.rows(picks)
            hidden_BTH = yield Forward(part)
            width = hidden_BTH.shape[1]
            values_BT[picks, :width] = self._values(hidden_BTH).detach().to(values_BT)
            if self.rule.kl == "full":
                reference_BTH = yield Forward(part, reference=True)
                kl_BT[picks, :width] = vocabulary_kl(self.policy, hidden_BTH, reference_BTH, part.temperature).to(kl_BT)
        self.policy.ranks.sum_([values_BT, kl_BT])  # every row is one rank's
        if self.rule.kl == "sampled":
            reference_BT = yield from reference_logprobs(self.policy, rollout, self.rule.micro_batch)
            kl_BT = rollout.logprobs_BT - reference_BT
        values_BT, kl_BT = values_BT * mask_BT, kl_BT * mask_BT
        rewards_BT = token_rewards(rewards_B, self.kl_coefficient * kl_BT, mask_BT)
        advantages_BT, returns_BT = gae(rewards_BT, values_BT, mask_BT, self.rule.gamma, self.rule.lam)
        return _Batch(rollout, values_BT, whiten(advantages_BT, mask_BT), returns_BT), kl_BT.sum(1)

    def _minibatch(self, batch: _Batch, rows: list[int]) -> Steps:
        """The loss is a mean over the minibatch's tokens."""
        tokens = batch.rollout.response_mask_BT[rows].sum()
        totals = yield from self.accumulate(batch.rollout, lambda picks: self._gradient(batch, picks, tokens), rows)
        if self.rule.ratio_limit is not None and totals["ratio"] > self.rule.ratio_limit:
            self._forget()
            return {**totals, "grad_norm": 0.0, "skipped": 1.0}
        self.ledger.current.optimiser_steps += 1
        return {**totals, "grad_norm": self.take_step(), "skipped": 0.0}

    def _forget(self) -> None:
        """Drop the gradients of a minibatch."""
        assert self.value is not None
        self.optimiser.drop()
        self.value.drop()

    def take_step(self) -> float:
        assert self.value is not None
        norm = super().take_step()
        self.value.step()
        return norm

    def _gradient(self, batch: _Batch, picks: list[int], tokens: Tensor) -> ForwardBackward:
        assert self.value_head is not None
        part = batch.rollout.rows(picks)
        mask_BT, width = part.response_mask_BT, part.response_mask_BT.shape[1]
        old_values, advantages, returns = (t[picks, :width] for t in (batch.values, batch.advantages, batch.returns))

        def loss(hidden_BTH: Tensor) -> tuple[Tensor, Metrics]:
            logprobs_BT = token_logprobs(self.policy.logits(hidden_BTH), part)
            policy_BT = surrogate_loss(logprobs_BT, part.logprobs_BT, advantages, self.rule.clip)
            value_BT = value_loss(self._values(hidden_BTH), old_values, returns, self.rule.value_clip)
            policy, value = (policy_BT * mask_BT).sum() / tokens, (value_BT * mask_BT).sum() / tokens
            ratio_BT = (logprobs_BT - part.logprobs_BT).exp()
            clipped = ((((ratio_BT - 1).abs() > self.rule.clip) & mask_BT).sum() / tokens).item()
            metrics = {"policy_loss": policy.item(), "value_loss": value.item(), "clip_fraction": clipped}
            metrics["ratio"] = ((ratio_BT * mask_BT).sum() / tokens).item()
            return policy + self.rule.value_coefficient * value, metrics

        return ForwardBackward(part, loss, list(self.value_head.parameters()))

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
