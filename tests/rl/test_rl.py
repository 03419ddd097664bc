"""Update rules against closed forms, hand calculations and exact enumeration on a tabular policy."""

from __future__ import annotations

import itertools

import pytest
import torch
from conftest import make_bank, shaken, word_prompts
from support.tabular import Tabular, TabularPolicy

from emorl_bench.core.ledger import Cost, Ledger
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Budget, Example, Rollout, Sampling, Training
from emorl_bench.policies.adapter_policy import token_logprobs
from emorl_bench.rl.advantages import group_advantages
from emorl_bench.rl.convergence import has_converged, spent
from emorl_bench.rl.kl import kl_to_reference
from emorl_bench.rl.ppo import Ppo, adapt_kl, gae, surrogate_loss, token_rewards, value_loss, whiten
from emorl_bench.rl.scst import Scst, scst_loss
from emorl_bench.rl.weighting import FixedWeights

SAMPLED = Sampling(6, temperature=1.0, samples_per_prompt=4)
RULES = [Scst(kl_coefficient=0.0), Ppo(epochs=1, kl_coefficient=0.0)]


def test_scst_gradient_in_expectation_is_the_policy_gradient():
    """Over all pairs of samples, the mean gradient is (1 - 1/n) times that of E[R]: the mean baseline includes the
    sample.
    """
    logits_TV = torch.randn(2, 3, generator=stream(0), dtype=torch.float64)
    policy, n = Tabular(logits_TV), 2
    sequences = torch.tensor(list(itertools.product(range(3), repeat=2)))
    rewards = torch.rand(len(sequences), generator=stream(1), dtype=torch.float64)

    probability = policy.logprobs_of(sequences).sum(1).exp()
    expected = torch.autograd.grad((probability * rewards).sum(), policy.table)[0]

    total = torch.zeros_like(logits_TV)
    with torch.no_grad():
        p = policy.logprobs_of(sequences).sum(1).exp()
    for i, j in itertools.product(range(len(sequences)), repeat=n):
        ids, reward = sequences[[i, j]], rewards[[i, j]]
        loss = scst_loss(policy.logprobs_of(ids), group_advantages(reward, n)) / n
        total += p[i] * p[j] * torch.autograd.grad(loss, policy.table)[0]
    torch.testing.assert_close(-total, expected * (1 - 1 / n), atol=1e-12, rtol=0)


def test_ppo_gradient_at_the_old_policy_is_the_policy_gradient():
    """With ratio 1 the clipped surrogate's gradient is that of ``-A log pi``, here by finite differences of E[A
    pi/pi_old].
    """
    logits_TV = torch.randn(2, 3, generator=stream(2), dtype=torch.float64)
    policy = Tabular(logits_TV)
    ids_BT = torch.tensor([[0, 2], [1, 1], [2, 0]])
    advantages_BT = torch.randn(3, 2, generator=stream(3), dtype=torch.float64)
    old_BT = policy.logprobs_of(ids_BT).detach()
    gradient = torch.autograd.grad(
        surrogate_loss(policy.logprobs_of(ids_BT), old_BT, advantages_BT, 0.2).sum(), policy.table
    )[0]
    step, numeric = 1e-6, torch.zeros_like(logits_TV)
    for t, v in itertools.product(range(2), range(3)):
        for sign in (1, -1):
            moved = logits_TV.clone()
            moved[t, v] += sign * step
            ratio_BT = (Tabular(moved).logprobs_of(ids_BT) - old_BT).exp()
            numeric[t, v] -= sign * (ratio_BT * advantages_BT).sum().item() / (2 * step)
    torch.testing.assert_close(gradient, numeric, atol=1e-7, rtol=0)


def test_ppo_clips_only_what_has_gone_too_far():
    old = torch.zeros(1, 4)
    new = torch.tensor([[0.5, 0.5, -0.5, -0.5]], requires_grad=True)
    advantages = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    surrogate_loss(new, old, advantages, 0.2).sum().backward()
    assert new.grad[0].tolist() == pytest.approx([0.0, new[0, 1].exp().item(), -new[0, 2].exp().item(), 0.0])


def test_value_loss_takes_the_larger_error():
    values, old, returns = torch.tensor([[1.0, 0.1]]), torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 1.0]])
    assert value_loss(values, old, returns, 0.2)[0].tolist() == pytest.approx([0.5 * 0.8**2, 0.5 * 0.9**2])


def test_gae_against_a_hand_calculation():
    """Two episodes of lengths 3 and 2, gamma 0.9, lambda 0.5, worked out on paper."""
    rewards = torch.tensor([[1.0, 0.0, 2.0], [0.5, 1.0, 9.0]], dtype=torch.float64)
    values = torch.tensor([[0.5, 1.0, 1.5], [1.0, 2.0, 7.0]], dtype=torch.float64)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    advantages, returns = gae(rewards, values, mask, 0.9, 0.5)
    d = [1.0 + 0.9 * 1.0 - 0.5, 0.0 + 0.9 * 1.5 - 1.0, 2.0 - 1.5]
    e = [0.5 + 0.9 * 2.0 - 1.0, 1.0 - 2.0]
    expected = [[d[0] + 0.45 * (d[1] + 0.45 * d[2]), d[1] + 0.45 * d[2], d[2]], [e[0] + 0.45 * e[1], e[1], 0.0]]
    torch.testing.assert_close(advantages, torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(returns, (advantages + values) * mask)


def test_gae_with_lambda_one_is_the_monte_carlo_return():
    rewards, values = torch.rand(4, 6, generator=stream(0)), torch.rand(4, 6, generator=stream(1))
    mask = torch.arange(6) < torch.tensor([[6], [4], [1], [3]])
    advantages, _ = gae(rewards * mask, values * mask, mask, 1.0, 1.0)
    to_go = (rewards * mask).flip(1).cumsum(1).flip(1)
    torch.testing.assert_close(advantages, (to_go - values) * mask)


def test_sequence_reward_lands_on_the_last_token():
    mask = torch.tensor([[True, True, False], [True, True, True]])
    rewards = token_rewards(torch.tensor([2.0, 3.0]), torch.full((2, 3), 0.1), mask)
    torch.testing.assert_close(rewards, torch.tensor([[-0.1, 1.9, 0.0], [-0.1, -0.1, 2.9]]))


def test_whitening_ignores_padding():
    values = torch.tensor([[1.0, 2.0, 99.0], [3.0, 6.0, 5.0]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    white = whiten(values, mask)
    assert white[0, 2] == 0
    torch.testing.assert_close(white[mask].mean(), torch.tensor(0.0), atol=1e-6, rtol=0)
    torch.testing.assert_close(white[mask].std(unbiased=False), torch.tensor(1.0), atol=1e-4, rtol=0)


@pytest.mark.parametrize("rule", RULES, ids=lambda r: type(r).__name__)
def test_zero_advantage_moves_nothing(architecture, rule):
    """Equal rewards in every group (and, for PPO, everywhere): the adapter stays where it is."""
    policy = shaken(make_bank(architecture), 1)
    before = policy.adapter()
    rollout = policy.generate(word_prompts(4), Sampling(6, 1.0, 4), stream(0))
    rewards_B = torch.zeros(16) if isinstance(rule, Ppo) else torch.arange(4.0).repeat_interleave(4)
    rule.learner(policy, Ledger()).step(rollout, rewards_B, stream(1))
    for key, value in policy.adapter().items():
        torch.testing.assert_close(value, before[key], atol=1e-6, rtol=0)


@pytest.mark.parametrize("rule", RULES, ids=lambda r: type(r).__name__)
def test_a_step_moves_every_parameter_and_leaves_the_base_alone(architecture, rule):
    policy = shaken(make_bank(architecture), 1)
    before, base = policy.adapter(), {k: v.clone() for k, v in policy.backbone.model.named_parameters()}
    rollout = policy.generate(word_prompts(6), SAMPLED, stream(0))
    rule.learner(policy, Ledger()).step(rollout, torch.rand(24, generator=stream(1)), stream(2))
    assert all((value != before[key]).any() for key, value in policy.adapter().items())
    assert all(torch.equal(v, base[k]) for k, v in policy.backbone.model.named_parameters())


def test_scst_makes_better_samples_likelier(architecture):
    policy = shaken(make_bank(architecture), 1)
    rollout = policy.generate(word_prompts(6), SAMPLED, stream(0))
    rewards_B = torch.rand(24, generator=stream(1))
    before = policy.logprobs(rollout).sum(1).detach()
    Scst(learning_rate=1e-3, kl_coefficient=0.0).learner(policy, Ledger()).step(rollout, rewards_B, stream(2))
    gain = (policy.logprobs(rollout).sum(1).detach() - before) @ group_advantages(rewards_B, 4)
    assert gain > 0


@pytest.mark.parametrize(
    "make", [lambda m: Scst(micro_batch=m, kl_coefficient=0.1), lambda m: Ppo(micro_batch=m, epochs=4)]
)
def test_gradient_accumulation_changes_nothing(make):
    adapters = []
    for micro_batch in (None, 5):
        policy = shaken(make_bank("t5", dtype=torch.float64), 1)
        rollout = policy.generate(word_prompts(4), SAMPLED, stream(0))
        make(micro_batch).learner(policy, Ledger()).step(rollout, torch.rand(16, generator=stream(1)), stream(2))
        adapters.append(policy.adapter())
    for key in adapters[0]:
        torch.testing.assert_close(adapters[0][key], adapters[1][key], atol=1e-5, rtol=0)


def test_kl_estimate_against_the_exact_kl():
    """Enumerate every response of at most 2 tokens over a small vocabulary, for a policy far from its reference."""
    policy = shaken(make_bank("gpt2", dtype=torch.float64), 4, strength=2.0)
    prompt, vocabulary, eos = word_prompts(1), 40, policy.backbone.eos
    rows = [[eos, 0]] + [[a, b] for a in range(vocabulary) for b in range(vocabulary) if a != eos]
    ids_BT = torch.tensor(rows)
    mask_BT = torch.ones_like(ids_BT, dtype=torch.bool)
    mask_BT[0, 1] = False
    every = Rollout(
        tuple(prompt * len(rows)), ("",) * len(rows), ids_BT, mask_BT, torch.zeros_like(mask_BT).double(), 1
    )
    with torch.no_grad():
        own, reference = policy.logprobs(every).sum(1), policy.reference().logprobs(every).sum(1)
    torch.testing.assert_close(own.exp().sum().item(), 1.0)
    exact = (own.exp() * (own - reference)).sum().item()
    samples = policy.generate(prompt, Sampling(2, 1.0, samples_per_prompt=8000), stream(0))
    estimate = kl_to_reference(samples, policy.reference())
    assert exact > 0.05
    assert estimate == pytest.approx(exact, rel=0.1)


def test_temperature_is_part_of_the_trained_distribution():
    logits = torch.randn(1, 2, 5, generator=stream(0))
    ids, mask = torch.tensor([[3, 1]]), torch.ones(1, 2, dtype=torch.bool)
    rollout = Rollout((Example("0", ""),), ("",), ids, mask, torch.zeros(1, 2), 1, temperature=0.5)
    expected = (logits / 0.5).log_softmax(-1).gather(-1, ids[..., None]).squeeze(-1)
    torch.testing.assert_close(token_logprobs(TabularPolicy(logits[0]), logits, rollout), expected)


def test_kl_coefficient_follows_its_target():
    assert adapt_kl(0.2, kl=12, target=6, samples=100, horizon=1000) == pytest.approx(0.2 * 1.02)
    assert adapt_kl(0.2, kl=3, target=6, samples=100, horizon=1000) == pytest.approx(0.2 * 0.98)
    assert adapt_kl(0.2, kl=6.3, target=6, samples=1000, horizon=1000) == pytest.approx(0.2 * 1.05)


def test_log_reward_is_the_clipped_logarithm():
    scores = torch.tensor([[0.0, 0.5], [1.0, 0.25]])
    reward = FixedWeights((0.25, 0.75), "log").reward(scores)
    expected = [0.25 * torch.tensor(1e-4).log() + 0.75 * torch.tensor(0.5).log()]
    expected += [0.25 * torch.tensor(0.9999).log() + 0.75 * torch.tensor(0.25).log()]
    torch.testing.assert_close(reward, torch.stack(expected))


def test_convergence_needs_a_full_and_steady_window():
    training = Training(window=4, variation=0.02)
    assert not has_converged([0.8, 0.8, 0.8], training)
    assert has_converged([0.1, 0.80, 0.81, 0.80, 0.81], training)
    assert not has_converged([0.1, 0.70, 0.81, 0.80, 0.81], training)


def test_budget_ends_at_whichever_limit_comes_first():
    cost = Cost(prompts=10, samples=40, generated_tokens=500, wall_seconds=3.0)
    assert spent(cost, Budget(prompts=11, samples=41)) is None
    assert spent(cost, Budget(prompts=11, samples=40)) == "samples"
    assert spent(cost, Budget(seconds=2.5)) == "seconds"
    assert Budget(prompts=9, seconds=6).share(3) == Budget(prompts=3, seconds=2)
