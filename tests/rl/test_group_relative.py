"""GRPO, GDPO, MO-GRPO and RLOO: advantages against TRL's formulas and by hand, gradients by finite differences."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import make_bank, shaken, word_prompts
from support.finite_differences import middle_slope
from support.tabular import Tabular
from torch import Tensor

from baselines.weighted_policy import WeightedPolicy
from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.protocols import Weighting
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Sampling
from emorl_bench.rl.advantages import decoupled, group_advantages, leave_one_out, scaled_advantages
from emorl_bench.rl.grpo import Grpo, token_kl, token_weights
from emorl_bench.rl.loop import train
from emorl_bench.rl.rloo import Rloo
from emorl_bench.rl.scst import Scst, scst_loss
from emorl_bench.rl.weighting import FixedWeights, one_hot

NAN = math.nan
GDPO = Grpo(learning_rate=2e-2, normalise="each", scale="batch", kl_coefficient=0.0, epochs=1)
MO_GRPO = Grpo(learning_rate=2e-2, normalise="each", scale="none", kl_coefficient=0.0, epochs=1)
RULES = {
    "grpo": Grpo(learning_rate=2e-2, kl_coefficient=0.0, epochs=1),
    "gdpo": GDPO,
    "mo_grpo": MO_GRPO,
    "rloo": Rloo(learning_rate=2e-2, kl_coefficient=0.0),
}
SAMPLED = Sampling(6, temperature=1.0, samples_per_prompt=4)


def trl_advantages(scores: np.ndarray, weights: np.ndarray, size: int, aggregation: str, scale: str) -> np.ndarray:
    """What TRL 1.16's GRPOTrainer makes of rewards per function (B, K), written down again in NumPy, loops and all."""
    grouped = scores.reshape(-1, size, scores.shape[1])
    if aggregation == "normalize_then_sum":
        rewards = np.zeros(scores.shape[0])
        for p, group in enumerate(grouped):
            for i in range(size):
                z = [(group[i, k] - group[:, k].mean()) / (group[:, k].std(ddof=1) + 1e-4) for k in range(len(weights))]
                rewards[p * size + i] = float(np.dot(weights, z))
        return (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-4)
    rewards = (scores * weights).sum(1)
    found = []
    for group in rewards.reshape(-1, size):
        wide = {"group": group.std(ddof=1) + 1e-4, "batch": rewards.std(ddof=1) + 1e-4, "none": 1.0}[scale]
        found += [(reward - group.mean()) / wide for reward in group]
    return np.array(found)


def advantages(rule: Grpo, weights: FixedWeights, scores_BK: Tensor, size: int) -> Tensor:
    """Ours, by the way a training takes: the learner is told a reward and scales it."""
    learner = rule.learner(make_bank("gpt2").new_policy("p"), Ledger())
    told_B = learner.rewards(scores_BK, weights, size)
    return scaled_advantages(told_B, size, rule.scale)


@pytest.mark.parametrize(
    ("rule", "aggregation", "scale"),
    [
        (Grpo(kl_coefficient=0.0, epochs=1), "sum_then_normalize", "group"),
        (Grpo(scale="batch", kl_coefficient=0.0, epochs=1), "sum_then_normalize", "batch"),
        (Grpo(scale="none", kl_coefficient=0.0, epochs=1), "sum_then_normalize", "none"),
        (GDPO, "normalize_then_sum", "batch"),
    ],
    ids=["grpo", "batch", "unscaled", "gdpo"],
)
def test_advantages_are_those_of_trl(rule: Grpo, aggregation: str, scale: str) -> None:
    scores_BK = torch.rand(24, 3, generator=stream(0), dtype=torch.float64)
    scores_BK[4:8, 1] = 0.25  # a group that an objective cannot tell apart
    scores_BK[8:12] = scores_BK[8:9].clone()  # nothing can
    weights = np.array([0.5, 0.3, 0.2])
    expected = trl_advantages(scores_BK.numpy(), weights, 4, aggregation, scale)
    mine = advantages(rule, FixedWeights((0.5, 0.3, 0.2)), scores_BK, 4)
    np.testing.assert_allclose(mine.numpy(), expected, atol=1e-12)


def test_mo_grpo_by_hand() -> None:
    """Two samples: whatever their distance, each objective says +-1/sqrt(2), and the weights decide."""
    scores_BK = torch.tensor([[0.0, 0.9], [1.0, 0.8], [0.1, 0.1], [0.4, 0.7]], dtype=torch.float64)
    found = advantages(MO_GRPO, FixedWeights((0.75, 0.25)), scores_BK, 2)
    half = 1 / math.sqrt(2)
    expected = [-0.75 * half + 0.25 * half, 0.75 * half - 0.25 * half, -half, half]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), atol=2e-3, rtol=0)  # + 1e-4 below


def test_mo_grpo_does_not_depend_on_an_objective_s_scale_and_grpo_does() -> None:
    scores_BK = torch.rand(12, 2, generator=stream(1), dtype=torch.float64) * 100  # so that 1e-4 is nothing
    stretched_BK = scores_BK * torch.tensor([1.0, 50.0], dtype=torch.float64) + 3
    weights = FixedWeights((0.5, 0.5))
    for rule in (MO_GRPO, GDPO):
        mine, other = (advantages(rule, weights, scores, 4) for scores in (scores_BK, stretched_BK))
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-4)
    assert (
        advantages(Grpo(kl_coefficient=0.0, epochs=1), weights, scores_BK, 4)
        - advantages(Grpo(kl_coefficient=0.0, epochs=1), weights, stretched_BK, 4)
    ).abs().max() > 0.1


def test_the_log_shape_comes_before_the_normalisation() -> None:
    scores_BK = torch.rand(8, 2, generator=stream(2), dtype=torch.float64)
    shaped_BK = scores_BK.clamp(1e-4, 1 - 1e-4).log()
    weights = (0.4, 0.6)
    torch.testing.assert_close(
        advantages(GDPO, FixedWeights(weights, "log"), scores_BK, 4),
        advantages(GDPO, FixedWeights(weights), shaped_BK, 4),
    )


def test_what_does_not_apply_is_in_no_spread_and_leaves_its_weight_to_the_others() -> None:
    scores_BK = torch.tensor([[0.0, NAN], [1.0, 0.2], [0.5, 0.4], [NAN, NAN]], dtype=torch.float64)
    away_BK = decoupled(scores_BK, 4)
    first, second = 0.5 / (0.5 + 1e-4), 0.1 / (math.sqrt(0.02) + 1e-4)
    expected = [[-first, NAN], [first, -second], [0.0, second], [NAN, NAN]]
    torch.testing.assert_close(away_BK, torch.tensor(expected, dtype=torch.float64), equal_nan=True)
    told_B = FixedWeights((0.5, 0.5)).weighted(away_BK)
    centre = (-first + (first - second) / 2 + second / 2) / 3
    mine_B = scaled_advantages(told_B, 4, "none")
    hand = [-first - centre, (first - second) / 2 - centre, second / 2 - centre, 0.0]
    torch.testing.assert_close(mine_B, torch.tensor(hand, dtype=torch.float64))


def test_leave_one_out_is_the_distance_from_the_others_mean() -> None:
    rewards = [0.1, 0.7, 0.4, 0.9, 0.2, NAN, 0.8, NAN]
    found = leave_one_out(torch.tensor(rewards, dtype=torch.float64), 4).tolist()
    for group in (range(4), range(4, 8)):
        for i in group:
            others = [rewards[j] for j in group if j != i and not math.isnan(rewards[j])]
            hand = 0.0 if math.isnan(rewards[i]) else rewards[i] - sum(others) / len(others)
            assert found[i] == pytest.approx(hand)
    assert leave_one_out(torch.tensor([0.3, NAN]), 2).tolist() == [0.0, 0.0]


def test_rloo_is_unbiased() -> None:
    """Over all pairs of samples the mean gradient is that of E[R], where k-SCST has (1 - 1/n) of it."""
    policy = Tabular(torch.randn(2, 3, generator=stream(0), dtype=torch.float64))
    sequences = torch.tensor(list(itertools.product(range(3), repeat=2)))
    rewards = torch.rand(len(sequences), generator=stream(1), dtype=torch.float64)
    p = policy.logprobs_of(sequences).sum(1).exp()
    expected = torch.autograd.grad((p * rewards).sum(), policy.table)[0]
    total = torch.zeros_like(expected)
    for i, j in itertools.product(range(len(sequences)), repeat=2):
        loss = (
            scst_loss(policy.logprobs_of(sequences[[i, j]]), Rloo(kl_coefficient=0.0).advantages(rewards[[i, j]], 2))
            / 2
        )
        total -= (p[i] * p[j]).detach() * torch.autograd.grad(loss, policy.table)[0]
    torch.testing.assert_close(total, expected, atol=1e-12, rtol=0)


def test_the_token_kl_is_the_kl_in_expectation() -> None:
    logprobs_V, reference_V = (torch.randn(5, generator=stream(i)).log_softmax(0) for i in (0, 1))
    exact = (logprobs_V.exp() * (logprobs_V - reference_V)).sum()
    torch.testing.assert_close((logprobs_V.exp() * token_kl(logprobs_V, reference_V)).sum(), exact)
    assert (token_kl(logprobs_V, reference_V) >= 0).all()


def test_a_response_or_a_token_is_what_counts_alike() -> None:
    mask_BT = torch.tensor([[True, True, False], [True, False, False], [False, False, False]])
    assert token_weights(mask_BT, "response", mask_BT).tolist() == [[0.25, 0.25, 0.0], [0.5, 0.0, 0.0], [0.0, 0.0, 0.0]]
    torch.testing.assert_close(token_weights(mask_BT, "token", mask_BT), mask_BT / 3)


def objective(rule: Grpo, policy, rollout, advantages_B: Tensor) -> Tensor:
    """The clipped objective with its KL, written down row by row and token by token."""
    logprobs_BT, reference_BT = policy.logprobs(rollout), policy.reference().logprobs(rollout)
    total = torch.zeros((), dtype=logprobs_BT.dtype)
    for b, length in enumerate(rollout.response_mask_BT.sum(1).tolist()):
        for t in range(length):
            ratio = (logprobs_BT[b, t] - rollout.logprobs_BT[b, t]).exp()
            gain = torch.min(ratio * advantages_B[b], ratio.clamp(1 - rule.clip, 1 + rule.clip) * advantages_B[b])
            q = (reference_BT[b, t] - logprobs_BT[b, t]).exp()
            share = length * len(rollout.examples) if rule.average == "response" else rollout.tokens
            total = total + (rule.kl_coefficient * (q - q.log() - 1) - gain) / share
    return total


@pytest.mark.parametrize("average", ["response", "token"])
def test_the_gradient_of_the_clipped_objective_by_finite_differences(monkeypatch, average) -> None:
    """The policy has moved since it answered, so that some ratios lie outside; micro-batches add up to the whole."""
    policy = shaken(make_bank("gpt2", dtype=torch.float64), 1)
    rule = Grpo(learning_rate=0.0, clip=0.05, kl_coefficient=0.3, average=average, micro_batch=3, epochs=1)
    rollout = policy.generate(word_prompts(2), SAMPLED, stream(0))
    moved = {
        k: v + 0.03 * torch.randn(v.shape, generator=stream(5), dtype=v.dtype) for k, v in policy.adapter().items()
    }
    policy.load_adapter(moved)
    rewards_B = torch.rand(8, generator=stream(1), dtype=torch.float64)
    advantages_B = scaled_advantages(rewards_B, 4, "group")
    learner = rule.learner(policy, Ledger())
    kept: list[Tensor] = []
    monkeypatch.setattr(learner.optimiser, "step", lambda: kept.extend(p.grad for p in policy.parameters()) or 0.0)
    metrics = learner.step(rollout, rewards_B, stream(2))
    with torch.no_grad():
        assert metrics["loss"] == pytest.approx(objective(rule, policy, rollout, advantages_B).item(), rel=1e-6)
        assert 0 < metrics["clip_fraction"] < 1
        for i, parameter in enumerate(policy.parameters()):
            at, numeric = middle_slope(parameter, lambda: objective(rule, policy, rollout, advantages_B).item())
            assert kept[i].flatten()[at].item() == pytest.approx(numeric, rel=1e-4, abs=1e-6)


def test_unscaled_and_at_the_old_policy_grpo_by_token_is_k_scst_by_token() -> None:
    """Ratio 1, no spread, no KL: what is left is centred REINFORCE, each token counting the same."""
    taken = []
    for rule in (
        Grpo(learning_rate=1e-2, scale="none", average="token", kl_coefficient=0.0, epochs=1),
        Scst(learning_rate=1e-2, kl_coefficient=0.0),
    ):
        policy = shaken(make_bank("t5", dtype=torch.float64), 1)
        rollout = policy.generate(word_prompts(3), SAMPLED, stream(0))
        rewards_B = torch.rand(12, generator=stream(1), dtype=torch.float64)
        metrics = rule.learner(policy, Ledger()).step(rollout, rewards_B, stream(2))
        share = rollout.tokens if isinstance(rule, Grpo) else len(rollout.examples)
        taken.append(metrics["grad_norm"] * share)
    assert taken[0] == pytest.approx(taken[1], rel=1e-5)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_learns(bench, name: str) -> None:
    made = bench("gpt2", steps=20, update=RULES[name])
    policy = made.new_policy("even")
    before = made.score(policy.generate(word_prompts(24), SAMPLED, stream(9))).mean(0)
    train(made, policy, one_hot(0, 2, "linear"), name="even", budget=made.budget)
    after = made.score(policy.generate(word_prompts(24), SAMPLED, stream(9))).mean(0)
    assert after[0] > before[0] + 0.15
    rewards = [row["train/even/reward"] for row in made.tracker.rows if "train/even/reward" in row]
    assert rewards[-1] > rewards[0] > 0.05, "the record shows the reward, not what the learner was told"


@pytest.mark.parametrize("name", RULES)
def test_rows_without_a_reward_teach_nothing(name: str) -> None:
    policy = shaken(make_bank("gpt2"), 1)
    before = policy.adapter()
    rollout = policy.generate(word_prompts(2), SAMPLED, stream(0))
    learner = replace(RULES[name], kl_coefficient=0.1).learner(policy, Ledger())
    assert learner.step(rollout, torch.full((8,), NAN), stream(1)) == {}
    assert all(torch.equal(value, before[key]) for key, value in policy.adapter().items())
    metrics = learner.step(rollout, torch.tensor([0.1, NAN, 0.9, 0.3] + [NAN] * 4), stream(1))
    assert all(math.isfinite(value) for value in metrics.values())
    assert any(not torch.equal(value, before[key]) for key, value in policy.adapter().items())


def test_a_weighting_that_cannot_be_taken_apart_is_refused(bench) -> None:
    class Whole(Weighting):
        def reward(self, scores_BK: Tensor) -> Tensor:
            return scores_BK.amin(1)

        def utility(self, scores_K: Tensor) -> float:
            return float(scores_K.amin())

    learner = GDPO.learner(make_bank("gpt2").new_policy("p"), Ledger())
    scores_BK = torch.rand(4, 2)
    with pytest.raises(UserError, match="update=grpo"):
        learner.rewards(scores_BK, Whole(), 4)
    plain = Grpo(kl_coefficient=0.0, epochs=1).learner(make_bank("gpt2").new_policy("p"), Ledger())
    assert torch.equal(plain.rewards(scores_BK, Whole(), 4), scores_BK.amin(1))


def test_gdpo_in_a_training_is_told_what_it_asks_for(bench, monkeypatch) -> None:
    made = bench("t5", steps=1, update=replace(GDPO, learning_rate=0.0))
    heard = []
    monkeypatch.setattr(
        "emorl_bench.rl.grpo.scaled_advantages", lambda r, *a: (heard.append(r), scaled_advantages(r, *a))[1]
    )
    scored = []
    WeightedPolicy([0.8, 0.2]).fit(replace(made, score=lambda r: (scored.append(made.score(r)), scored[-1])[1]))
    scores_BK = next(scores for scores in scored if len(scores) == 24)
    expected = trl_advantages(scores_BK.double().numpy(), np.array([0.8, 0.2]), 4, "normalize_then_sum", "batch")
    told_B = heard[0].double()
    np.testing.assert_allclose(scaled_advantages(told_B, 4, "batch").numpy(), expected, atol=1e-4)
    assert group_advantages(told_B, 4).abs().max() > 0.1
