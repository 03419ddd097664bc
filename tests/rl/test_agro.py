"""AGRO: the tabular case, gradients by finite differences, on-policy equality, replay, offline files."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_bank, shaken, word_prompts
from support.finite_differences import middle_slope
from torch import Tensor

from baselines.weighted_policy import WeightedPolicy
from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Rollout, Sampling
from emorl_bench.rl.advantages import leave_one_out
from emorl_bench.rl.agro import Agro
from emorl_bench.rl.loop import train
from emorl_bench.rl.replay import Replay, groups_of, joined
from emorl_bench.rl.rloo import Rloo
from emorl_bench.rl.scst import scst_loss
from emorl_bench.rl.weighting import one_hot

NAN = math.nan
SAMPLED = Sampling(6, temperature=1.0, samples_per_prompt=4)
RULE = Agro(learning_rate=2e-2)
REPLAY = Agro(learning_rate=2e-2, replay_prompts=4, buffer_prompts=10)


class Killed(BaseException):
    """Stands for kill -9."""


# the tabular case ---------------------------------------------------------------------------------
def divergences(seed: int, *, agro: bool, steps: int = 1500) -> tuple[float, float]:
    """KL(pi || pi*) of a softmax over 8 answers, before and after learning from answers of pi_ref alone.

    The gradient is the exact expectation over all pairs of answers, through the very loss and advantages of the
    learner. The naive gradient takes the reward's part as if pi had answered, and the KL's part exactly.
    """
    beta, n = 0.5, 2
    reference_V = torch.randn(8, generator=stream(seed), dtype=torch.float64).log_softmax(0)
    rewards_V = torch.randn(8, generator=stream(seed + 100), dtype=torch.float64)
    best_V = (reference_V + rewards_V / beta).log_softmax(0)
    table = torch.nn.Parameter(reference_V.clone())
    pairs = torch.tensor(list(itertools.product(range(8), repeat=n)))
    chance_B = reference_V[pairs].sum(1).exp().repeat_interleave(n)
    found = []
    for step in range(steps + 1):
        now_V = table.log_softmax(0)
        if step in (0, steps):
            found.append((now_V.exp() * (now_V - best_V)).sum().item())
        judged_V = rewards_V - beta * (now_V - reference_V).detach() if agro else rewards_V
        advantages_B = leave_one_out(judged_V[pairs].flatten(), n) * chance_B / n
        loss = scst_loss(now_V[pairs].flatten()[:, None], advantages_B)
        if not agro:
            loss = loss + beta * (now_V.exp() * (now_V - reference_V)).sum()
        (slope,) = torch.autograd.grad(loss, table)
        with torch.no_grad():
            table -= slope
    return found[0], found[1]


@pytest.mark.parametrize("seed", [0, 1, 4])
def test_from_the_base_model_s_answers_agro_finds_the_optimum_and_a_naive_gradient_does_not(seed: int) -> None:
    before, after = divergences(seed, agro=True)
    assert before > 0.5
    assert after < 1e-5
    assert divergences(seed, agro=False)[1] > 0.3


# the gradient -------------------------------------------------------------------------------------
def others_answers(policy: Any, rng: int = 0) -> Rollout:
    """Answers of another policy on the same base: neither this one's nor the reference's."""
    return shaken(make_bank("gpt2", dtype=torch.float64), 7).generate(word_prompts(2), SAMPLED, stream(rng))


def loss_of(policy: Any, rollout: Rollout, rewards: Sequence[float], beta: float) -> Tensor:
    """``1/4 E (R - R')^2`` over pairs of different answers to one prompt: the paper's loss, written as pairs."""
    log_ratio_B = (policy.logprobs(rollout) - policy.reference().logprobs(rollout)).sum(1)
    total, pairs = torch.zeros((), dtype=log_ratio_B.dtype), 0
    for low in range(0, len(rewards), rollout.group_size):
        rows = [i for i in range(low, low + rollout.group_size) if not math.isnan(rewards[i])]
        for i, j in itertools.permutations(rows, 2):
            total = total + (rewards[i] - beta * log_ratio_B[i] - rewards[j] + beta * log_ratio_B[j]) ** 2 / 4
            pairs += 1
    return total / pairs


def test_the_gradient_is_that_of_the_paper_s_loss_by_finite_differences(monkeypatch) -> None:
    beta, policy = 0.4, shaken(make_bank("gpt2", dtype=torch.float64), 1)
    rollout = others_answers(policy)
    rewards = torch.rand(8, generator=stream(3), dtype=torch.float64).tolist()
    learner = Agro(kl_coefficient=beta, micro_batch=3).learner(policy, Ledger())
    kept: list[Tensor] = []
    monkeypatch.setattr(learner.optimiser, "step", lambda: kept.extend(p.grad for p in policy.parameters()) or 0.0)
    metrics = learner.step(rollout, torch.tensor(rewards, dtype=torch.float64), stream(2))
    with torch.no_grad():
        assert metrics["loss"] == pytest.approx(loss_of(policy, rollout, rewards, beta).item(), rel=1e-6)
        for i, parameter in enumerate(policy.parameters()):
            at, slope = middle_slope(parameter, lambda: loss_of(policy, rollout, rewards, beta).item())
            numeric = slope / beta  # L / b is what is descended
            assert kept[i].flatten()[at].item() == pytest.approx(numeric, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("rewards", [[0.1, 0.7, 0.4, 0.9], [0.1, NAN, 0.4, 0.9]], ids=["all", "one without"])
def test_on_policy_it_is_leave_one_out_with_the_kl_in_the_reward(architecture: str, rewards: list[float]) -> None:
    taken = []
    for rule in (Agro(learning_rate=1e-2, kl_coefficient=0.3), Rloo(learning_rate=1e-2, kl_coefficient=0.3)):
        policy = shaken(make_bank(architecture, dtype=torch.float64), 1)
        rollout = policy.generate(word_prompts(2), SAMPLED, stream(0))
        rewards_B = torch.tensor(rewards * 2, dtype=torch.float64)
        norm = rule.learner(policy, Ledger()).step(rollout, rewards_B, stream(2))["grad_norm"]
        taken.append((norm, policy.adapter()))
    assert taken[0][0] == pytest.approx(taken[1][0], rel=1e-5)
    for key, value in taken[0][1].items():
        torch.testing.assert_close(value, taken[1][1][key], atol=1e-5, rtol=0)


def test_where_rewards_are_what_the_policy_s_own_kl_says_nothing_moves() -> None:
    """``r = b log(pi / pi_ref) + c`` is the optimum: R is constant, for anybody's answers."""
    policy = shaken(make_bank("gpt2", dtype=torch.float64), 1)
    rollout, beta = others_answers(policy), 0.4
    with torch.no_grad():
        log_ratio_B = (policy.logprobs(rollout) - policy.reference().logprobs(rollout)).sum(1)
    metrics = Agro(kl_coefficient=beta).learner(policy, Ledger()).step(rollout, beta * log_ratio_B + 2, stream(0))
    assert metrics["grad_norm"] == pytest.approx(0, abs=1e-5)
    assert metrics["loss"] == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("rule", [RULE, REPLAY], ids=["on-policy", "replay"])
def test_it_learns(bench, rule: Agro) -> None:
    made = bench("gpt2", steps=20, update=rule)
    policy = made.new_policy("even")
    before = made.score(policy.generate(word_prompts(24), SAMPLED, stream(9))).mean(0)
    train(made, policy, one_hot(0, 2, "linear"), name="even", budget=made.budget)
    after = made.score(policy.generate(word_prompts(24), SAMPLED, stream(9))).mean(0)
    assert after[0] > before[0] + 0.15
    rows = [row for row in made.tracker.rows if "train/even/replayed" in row]
    assert [row["train/even/replayed"] for row in rows[:2]] == [0, pytest.approx(0.4) if rule is REPLAY else 0]
    assert made.ledger.phases["train/even"].samples == 20 * 6 * 4, "older answers are not paid for again"


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (Agro(kl_coefficient=0.0), r"update\.kl_coefficient=0\.0"),
        (Agro(replay_prompts=5, buffer_prompts=4), r"update\.replay_prompts=5.*buffer_prompts=4"),
    ],
)
def test_settings_without_sense_are_refused(rule: Agro, says: str) -> None:
    with pytest.raises(UserError, match=says):
        rule.learner(make_bank("gpt2").new_policy("p"), Ledger())


# replay -------------------------------------------------------------------------------------------
def test_replay_is_bounded_and_comes_back_from_its_state_whole() -> None:
    policy = shaken(make_bank("t5"), 1)
    replay = Replay(5)
    for step in range(3):
        examples = [replace(e, shown=f"{e.prompt} w{4 + step}", answer="w5") for e in word_prompts(3)]
        rollout = policy.generate(examples, SAMPLED, stream(step))
        rewards_B = torch.arange(12.0) + 100 * step
        if step == 2:
            rewards_B[:4] = NAN  # nothing to learn from: not kept
        replay.add(groups_of(rollout, rewards_B))
    assert [int(group.rewards[0]) for group in replay.groups] == [100, 104, 108, 204, 208]
    again = Replay(5)
    again.load_state_dict(replay.state_dict(), torch.device("cpu"))
    mine, theirs = joined(list(replay.groups)), joined(list(again.groups))
    assert torch.equal(mine[1], theirs[1])
    assert (mine[0].examples, mine[0].responses, mine[0].group_size) == (
        theirs[0].examples,
        theirs[0].responses,
        theirs[0].group_size,
    )
    torch.testing.assert_close(policy.logprobs(mine[0]), policy.logprobs(theirs[0]))
    drawn = again.draw(3, stream(4))
    assert len({id(group) for group in drawn}) == 3
    assert len(again.draw(9, stream(4))) == 5


def test_resume_after_a_kill_replays_what_an_uninterrupted_run_replays(bench, tmp_path: Path) -> None:
    def fresh(directory: str) -> Any:
        return bench("t5", steps=8, update=REPLAY, dir=tmp_path / directory)

    expected = WeightedPolicy([0.9, 0.1]).fit(fresh("whole")).policy.adapter()
    deaths = 0
    while True:
        made, calls = fresh("killed"), itertools.count(1)

        def score(rollout: Rollout, made: Any = made, calls: Any = calls) -> Tensor:
            if next(calls) == 6:
                raise Killed
            return made.score(rollout)

        try:
            resumed = WeightedPolicy([0.9, 0.1]).fit(replace(made, score=score)).policy.adapter()
            break
        except Killed:
            deaths += 1
            assert deaths < 9
    assert deaths >= 1
    assert all(torch.equal(expected[key], resumed[key]) for key in expected)
