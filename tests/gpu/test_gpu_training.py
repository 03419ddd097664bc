"""Gradients and KL on the device against the CPU in float64, from the same base weights and the same responses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from conftest import word_prompts
from on_device import DEVICE, Trio, exact_trio, moved, needs_device, on_architectures, on_types, trio
from torch import Tensor

from emorl_bench.core.ledger import Ledger
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Rollout, Sampling
from emorl_bench.policies.adapter_policy import AdapterPolicy, token_logprobs
from emorl_bench.policies.together import hidden_together
from emorl_bench.rl.advantages import group_advantages
from emorl_bench.rl.grpo import Grpo
from emorl_bench.rl.kl import kl_to_reference
from emorl_bench.rl.scst import Scst, scst_loss
from emorl_bench.rl.update import Updater

pytestmark = [pytest.mark.gpu, needs_device]

SAMPLED = Sampling(8, 1.0, samples_per_prompt=4)
PROMPTS = word_prompts(6)
MILD = 0.1  # adapters of a size at which rounding is not magnified
REWARDS_B = torch.rand(4 * len(PROMPTS), generator=stream(1))
# Relative error of a gradient's vector, |g - exact| / |exact|, and of the KL.
BOUND = {torch.float32: 1e-4, torch.bfloat16: 0.1}

Record = Callable[[str, object], None]


def responses(of: Trio) -> list[Rollout]:
    return [policy.generate(PROMPTS, SAMPLED, stream(i, "said")) for i, policy in enumerate(of.experts)]


def gradients(policies: Sequence[AdapterPolicy], rollouts: Sequence[Rollout]) -> list[Tensor]:
    """Of each policy's REINFORCE loss, its parameters' in one float64 vector on the CPU; all in one stacked pass."""
    hidden_MBTH = hidden_together(policies, rollouts)
    losses = []
    for policy, rollout, hidden_BTH in zip(policies, rollouts, hidden_MBTH, strict=True):
        width = rollout.response_ids_BT.shape[1]
        logprobs_BT = token_logprobs(policy, hidden_BTH[:, :width], rollout)
        losses.append(scst_loss(logprobs_BT, group_advantages(REWARDS_B, 4).to(logprobs_BT)))
    owned = [list(policy.parameters()) for policy in policies]
    found = iter(torch.autograd.grad(sum(losses), [p for own in owned for p in own]))
    return [torch.cat([next(found).flatten().double().cpu() for _ in own]) for own in owned]


def relative(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).norm() / exact.norm())


@on_architectures
@on_types
def test_gradients_are_those_of_float64(architecture: str, dtype: torch.dtype, record_property: Record) -> None:
    """One policy alone and three stacked."""
    exact, made = exact_trio(architecture, dtype, MILD), trio(architecture, dtype, MILD)
    said = responses(exact)
    right = [gradients([policy], [rollout])[0] for policy, rollout in zip(exact.experts, said, strict=True)]
    here = [moved(rollout, DEVICE) for rollout in said]
    (alone,) = gradients(made.experts[:1], here[:1])
    stacked = gradients(made.experts, here)
    errors = [relative(alone, right[0]), *map(relative, stacked, right)]
    record_property("gradient_relative_error", max(errors))
    assert max(errors) < BOUND[dtype]
    assert relative(right[1], right[0]) > 0.5  # experts differ, or the test would be empty


@on_architectures
@on_types
def test_kl_is_that_of_float64(architecture: str, dtype: torch.dtype, record_property: Record) -> None:
    """Of log-probabilities that the device computes for given responses, to its own reference."""
    exact, made = exact_trio(architecture, dtype, MILD), trio(architecture, dtype, MILD)
    rollout = responses(exact)[0]
    right = kl_to_reference(rollout, exact.experts[0].reference())
    here = moved(rollout, DEVICE)
    with torch.no_grad():
        here = replace(here, logprobs_BT=made.experts[0].logprobs(here))
    found = kl_to_reference(here, made.experts[0].reference())
    record_property("kl_relative_error", abs(found - right) / right)
    assert right > 0.05
    assert abs(found - right) < BOUND[dtype] * right


@on_architectures
@on_types
@pytest.mark.parametrize(
    "rule",
    [Scst(learning_rate=1e-2, kl_coefficient=0.05), Grpo(learning_rate=1e-2, epochs=2, kl_coefficient=0.05)],
    ids=["scst", "grpo"],
)
def test_a_step_makes_better_answers_likelier(architecture: str, dtype: torch.dtype, rule: Scst | Grpo) -> None:
    """Rollout, reward and one update of three experts in step; adapters stay in float32 and finite."""
    made = trio(architecture, dtype, MILD)
    said = responses(made)
    learners = [rule.learner(policy, made.bank.decoder.ledger) for policy in made.experts]
    before = [total(policy, rollout) for policy, rollout in zip(made.experts, said, strict=True)]
    metrics = Updater(Ledger(DEVICE)).update(learners, said, [REWARDS_B] * 3, [stream(i, "update") for i in range(3)])
    advantages_B = group_advantages(REWARDS_B, 4)
    for policy, rollout, logprob_B, own in zip(made.experts, said, before, metrics, strict=True):
        assert float((total(policy, rollout) - logprob_B) @ advantages_B) > 0
        assert all(value == value for value in own.values())
        assert {(p.dtype, p.device.type) for p in policy.parameters()} == {(torch.float32, DEVICE.type)}


@torch.no_grad()
def total(policy: AdapterPolicy, rollout: Rollout) -> Tensor:
    return policy.logprobs(rollout).sum(1).float().cpu()
