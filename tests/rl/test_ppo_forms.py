"""What PPO can do beside its plain form: exact KL, running reward scales, skipped minibatches."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_bank, shaken, word_prompts
from support.composing import composed
from support.tabular import TabularPolicy
from torch import Tensor

from baselines.cory import Cory
from emorl_bench.config.compose import plain
from emorl_bench.config.targets import check_targets
from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.protocols import Bench
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Sampling
from emorl_bench.policies.adapter_policy import AdapterPolicy
from emorl_bench.rl.kl import vocabulary_kl
from emorl_bench.rl.ppo import Ppo
from emorl_bench.rl.reward_scale import RunningMoments

SAMPLED = Sampling(4, temperature=1.0, samples_per_prompt=4)
RULE = Ppo(learning_rate=1e-2, epochs=1)


# the exact KL -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_exact_kl_is_the_sum_over_the_vocabulary(temperature: float) -> None:
    """Token by token in plain Python, over a vocabulary of 3."""
    own, base = (torch.randn(2, 3, generator=stream(seed), dtype=torch.float64) for seed in (0, 1))
    found_BT = vocabulary_kl(TabularPolicy(own), own.expand(2, -1, -1), base.expand(2, -1, -1), temperature)
    for t in range(2):
        p, q = ([math.exp(v / temperature) for v in row[t].tolist()] for row in (own, base))
        p, q = [v / sum(p) for v in p], [v / sum(q) for v in q]
        expected = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        assert found_BT[:, t].tolist() == pytest.approx([expected] * 2, abs=1e-12)


def test_the_exact_kl_of_an_answer_has_the_mean_of_the_sampled_one() -> None:
    """Enumerated: the chain rule of the KL, over all 9 answers of two tokens."""
    own, base = (torch.randn(2, 3, generator=stream(seed), dtype=torch.float64) for seed in (2, 3))
    ids_BT = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    policy = TabularPolicy(own)
    mine_B, theirs_B = (
        policy.logprobs_of(ids_BT).sum(1).detach(),
        TabularPolicy(base).logprobs_of(ids_BT).sum(1).detach(),
    )
    sampled = (mine_B.exp() * (mine_B - theirs_B)).sum()
    exact_B = vocabulary_kl(policy, own.expand(9, -1, -1), base.expand(9, -1, -1), 1.0).sum(1)
    torch.testing.assert_close((mine_B.exp() * exact_B).sum(), sampled)


def kls(policy: AdapterPolicy, kl: Any, **changes: Any) -> tuple[float, dict[str, Tensor]]:
    """The KL that one update with rewards of 0 sees, and where it leaves the adapter."""
    rollout = policy.generate(word_prompts(4), SAMPLED, stream(0))
    rule = replace(RULE, kl=kl, kl_coefficient=0.5, **changes)
    metrics = rule.learner(policy, Ledger()).step(rollout, torch.zeros(len(rollout.examples)), stream(2))
    return metrics["kl"], policy.adapter()


def test_an_update_sees_the_exact_kl_of_its_answers(architecture: str) -> None:
    policy = shaken(make_bank(architecture, dtype=torch.float64), 4)
    rollout = policy.generate(word_prompts(4), SAMPLED, stream(0))
    with torch.no_grad():
        own, base = (p.logits(p.hidden(rollout)).log_softmax(-1) for p in (policy, policy.reference()))
        expected = ((own.exp() * (own - base)).sum(-1) * rollout.response_mask_BT).sum(1).mean().item()
    assert kls(policy, "full")[0] == pytest.approx(expected, rel=1e-5)
    assert kls(policy, "sampled")[0] != pytest.approx(expected, rel=1e-2)


def test_micro_batches_change_nothing_of_the_exact_kl() -> None:
    found = [kls(shaken(make_bank("t5", dtype=torch.float64), 1), "full", micro_batch=size) for size in (None, 5)]
    assert found[0][0] == pytest.approx(found[1][0])
    for key, value in found[0][1].items():
        torch.testing.assert_close(value, found[1][1][key], atol=1e-6, rtol=0)


def test_as_a_reward_the_exact_kl_tells_no_token_from_another() -> None:
    """Answers of one token: it is the same for all of them, so nothing is learnt; the sampled one pulls to the base."""
    moved = {}
    for kl in ("sampled", "full"):
        policy = shaken(make_bank("gpt2", dtype=torch.float64), 4)
        before = policy.adapter()
        rollout = policy.generate(word_prompts(1), Sampling(1, 1.0, 16), stream(0))
        learner = replace(RULE, kl=kl, kl_coefficient=1.0).learner(policy, Ledger())
        learner.step(rollout, torch.zeros(16), stream(1))
        moved[kl] = max((value - before[key]).abs().max().item() for key, value in policy.adapter().items())
    assert moved["full"] < 1e-9 < 1e-4 < moved["sampled"]


# running scales ---------------------------------------------------------------------------------------
def test_running_moments_are_those_of_all_values_together() -> None:
    rng, moments, told = np.random.default_rng(0), RunningMoments(), np.zeros(0)
    for size in (1, 7, 2, 40):
        batch = rng.normal(3.0, 2.0, size)
        moments.add(torch.from_numpy(batch))
        told = np.concatenate([told, batch])
        assert moments.mean == pytest.approx(told.mean())
        assert moments.deviation == pytest.approx(told.std(ddof=1) if len(told) > 1 else 1.0)
    batch_B = torch.tensor([1.0, math.nan, 5.0])
    scaled, normal = (moments.scaled(batch_B, scale).tolist() for scale in ("scaled", "normalised"))
    assert scaled == pytest.approx([1 / told.std(ddof=1), math.nan, 5 / told.std(ddof=1)], rel=1e-5, nan_ok=True)
    expected = [(r - told.mean()) / told.std(ddof=1) for r in (1.0, 5.0)]
    assert [normal[0], normal[2]] == pytest.approx(expected, rel=1e-5)
    assert RunningMoments.of(moments.state()) == moments


def test_normalised_rewards_make_a_sum_of_two_worth_as_much_as_one() -> None:
    """CORY's agents are told the sum of both rewards: under the running scale its factor is no factor."""
    adapters = []
    for factor in (1.0, 2.0):
        policy = shaken(make_bank("t5", dtype=torch.float64), 1)
        learner = replace(RULE, reward_scale="normalised", kl_coefficient=0.3).learner(policy, Ledger())
        for step in range(2):
            rollout = policy.generate(word_prompts(4), SAMPLED, stream(0, step))
            learner.step(rollout, factor * torch.rand(16, generator=stream(1, step)), stream(2, step))
        adapters.append(policy.adapter())
    for key, value in adapters[0].items():
        torch.testing.assert_close(value, adapters[1][key], atol=1e-5, rtol=0)


def test_a_checkpoint_keeps_the_running_moments() -> None:
    policy = shaken(make_bank("t5"), 1)
    learner = replace(RULE, reward_scale="scaled").learner(policy, Ledger())
    rollout = policy.generate(word_prompts(4), SAMPLED, stream(0))
    rewards_B = torch.rand(16, generator=stream(1))
    rewards_B[3] = math.nan  # it teaches nothing, and counts for nothing
    learner.step(rollout, rewards_B, stream(2))
    again: Any = replace(RULE, reward_scale="scaled").learner(policy, Ledger())
    again.load_state_dict(learner.state_dict())
    told = rewards_B[~rewards_B.isnan()].numpy()
    assert (again.moments.count, again.moments.mean) == (15, pytest.approx(told.mean()))
    assert again.moments.deviation == pytest.approx(told.std(ddof=1))


# skipped minibatches ----------------------------------------------------------------------------------
def run_away(limit: float | None) -> tuple[dict[str, float], bool, int]:
    """One update on answers whose sampling is said to have been e^-3 times as likely as it is now."""
    policy = shaken(make_bank("gpt2"), 1)
    before, ledger = policy.adapter(), Ledger(flops_every=0)
    rollout = policy.generate(word_prompts(4), SAMPLED, stream(0))
    rollout = replace(rollout, logprobs_BT=(rollout.logprobs_BT - 3) * rollout.response_mask_BT)
    learner = replace(RULE, ratio_limit=limit).learner(policy, ledger)
    metrics = dict(learner.step(rollout, torch.rand(16, generator=stream(1)), stream(2)))
    moved = any(not torch.equal(value, before[key]) for key, value in policy.adapter().items())
    return metrics, moved, ledger.current.optimiser_steps


def test_a_minibatch_whose_ratio_has_run_away_teaches_nothing() -> None:
    ratio = math.exp(3)  # 20.1
    for limit, skipped in ((10.0, True), (21.0, False), (None, False)):
        metrics, moved, steps = run_away(limit)
        assert metrics["ratio"] == pytest.approx(ratio, rel=1e-3)
        assert (metrics["skipped"], moved, steps) == (float(skipped), not skipped, int(not skipped))


def test_a_limit_below_the_ratio_of_an_unmoved_policy_is_refused() -> None:
    with pytest.raises(UserError, match=r"update\.ratio_limit=1\.0: give more than 1"):
        replace(RULE, ratio_limit=1.0).learner(TabularPolicy(torch.zeros(1, 2)), Ledger())


# the release's form -----------------------------------------------------------------------------------
def test_the_released_form_is_the_plain_one_with_the_release_s_keys() -> None:
    sets = {"epochs": 4, "kl": "full", "kl_coefficient": 0.4, "kl_target": 6.0, "reward_scale": "normalised"}
    for released, own in (("cory_released", "cory"), ("ppo_released", "weighted_ppo")):
        theirs, ours = (plain(composed(f"method={name}")) for name in (released, own))
        check_targets(theirs)
        assert theirs["update"] == ours["update"] | sets
        assert theirs["method"] == ours["method"] | ({"template": "sentence"} if "cory" in released else {})


def test_agents_learn_in_the_released_form(bench: Callable[..., Bench]) -> None:
    rule = Ppo(2e-2, value_learning_rate=2e-2, epochs=4, kl="full", kl_coefficient=0.05, reward_scale="normalised")
    made = bench("gpt2", steps=16, update=replace(rule, kl_target=6.0))
    before = made.score(made.new_policy("base").generate(word_prompts(24), SAMPLED, stream(9))).mean(0)[0]
    solution = Cory([0.9, 0.1], template="sentence").fit(made)
    after = made.score(solution.policy_for(torch.ones(2)).generate(word_prompts(24), SAMPLED, stream(9))).mean(0)[0]
    assert after > before + 0.1
    rows = [row for row in made.tracker.rows if "train/cory/first/kl_coefficient" in row]  # type: ignore[attr-defined]
    assert len({row["train/cory/first/kl_coefficient"] for row in rows}) > 1  # it adapts
