"""Objectives that do not apply to a row: every mean, reward, gradient and table against a calculation by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import MemoryTracker, WordShare, make_bank, shaken, word_prompts
from support.synthetic_runs import write_run

from baselines.cory import Cory
from emorl_bench.cli.report import main as report
from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.masked import mean_scores, not_applicable, weighted_mean
from emorl_bench.core.seeds import stream
from emorl_bench.core.solutions import OnePolicy
from emorl_bench.core.types import Example, Rollout, Sampling
from emorl_bench.emorl import Emorl
from emorl_bench.ensemble.blending import HiddenState
from emorl_bench.ensemble.evaluations import utilities
from emorl_bench.ensemble.front import SearchedFront
from emorl_bench.ensemble.search_record import FILE
from emorl_bench.rl.advantages import group_advantages
from emorl_bench.rl.loop import train
from emorl_bench.rl.ppo import Ppo
from emorl_bench.rl.scst import Scst
from emorl_bench.rl.weighting import FixedWeights, one_hot
from emorl_bench.runner.evaluate import Grader
from emorl_bench.runner.points import indicators
from emorl_bench.scorers.panel import ScorerPanel
from emorl_bench.scorers.precision import rank_correlations
from emorl_bench.search.simplex import SimplexSubdivision

NAN = math.nan
SAMPLED = Sampling(6, temperature=1.0, samples_per_prompt=4)


@dataclass(frozen=True)
class Sometimes:
    """A scorer that applies only to examples whose reference answer is ``when``."""

    name: str = "sometimes"
    when: str | None = "yes"
    bounds: tuple[float, float] = (0.0, 1.0)

    def score(self, examples: Sequence[Example], responses: Sequence[str]) -> list[float | None]:
        given = zip(examples, responses, strict=True)
        return [len(r) % 7 / 7 if e.answer == self.when else None for e, r in given]


def answered(examples: Sequence[Example]) -> list[Example]:
    return [replace(e, answer="yes" if i % 3 == 0 else None) for i, e in enumerate(examples)]


# means and rewards ------------------------------------------------------------------------------
def test_means_are_over_the_rows_that_apply() -> None:
    scores_BK = torch.tensor([[0.2, NAN, NAN], [0.4, 1.0, NAN], [0.9, 0.5, NAN]])
    means_K = mean_scores(scores_BK)
    torch.testing.assert_close(means_K[:2], torch.tensor([0.5, 0.75]))
    assert means_K[2].isnan()
    assert not_applicable(scores_BK, ["a", "b", "c"]) == {"b": 1, "c": 3}


def test_a_row_is_rewarded_by_what_applies_with_weights_scaled_up() -> None:
    scores_BK = torch.tensor([[0.2, 0.6, 1.0], [0.2, NAN, 1.0], [NAN, NAN, 0.3], [NAN, NAN, NAN]])
    rewards_B = FixedWeights((0.5, 0.3, 0.2)).reward(scores_BK)
    expected = [0.5 * 0.2 + 0.3 * 0.6 + 0.2, (0.5 * 0.2 + 0.2 * 1.0) / 0.7, 0.3]
    torch.testing.assert_close(rewards_B[:3], torch.tensor(expected))
    assert rewards_B[3].isnan()
    logged_B = FixedWeights((0.5, 0.3, 0.2), "log").reward(scores_BK)
    assert logged_B[1].item() == pytest.approx((0.5 * math.log(0.2) + 0.2 * math.log(0.9999)) / 0.7, rel=1e-5)


def test_a_weight_of_zero_does_not_make_an_objective_apply() -> None:
    assert one_hot(1, 2, "linear").reward(torch.tensor([[0.7, NAN]])).isnan().all()
    assert math.isnan(one_hot(1, 2, "linear").utility(torch.tensor([0.7, NAN])))


def test_nothing_changes_where_everything_applies() -> None:
    scores_BK, weights_K = torch.rand(9, 3, generator=stream(1)), torch.tensor([0.5, 0.3, 0.2])
    assert weighted_mean(scores_BK, weights_K).equal(scores_BK @ weights_K)
    assert mean_scores(scores_BK).equal(scores_BK.mean(0))


def test_group_advantages_by_hand() -> None:
    rewards_B = torch.tensor([1.0, NAN, 0.0, 0.5, NAN, NAN, NAN, NAN, NAN, 3.0, NAN, NAN])
    expected = torch.tensor([0.5, 0.0, -0.5, 0.0, *[0.0] * 8])
    torch.testing.assert_close(group_advantages(rewards_B, 4), expected)


# gradients --------------------------------------------------------------------------------------
def gradients(rule: Scst | Ppo, rollout: Rollout, rewards_B: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of a first step on a fixed policy, read from AdamW's first moment, (1 - 0.9) times the gradient."""
    bank = make_bank("gpt2")
    learner = rule.learner(shaken(bank, 1), Ledger())
    learner.step(rollout, rewards_B, stream(3))
    return {k: v / 0.1 for k, v in learner.state_dict().items() if k.endswith("exp_avg")}


def rolled() -> Rollout:
    return shaken(make_bank("gpt2"), 1).generate(word_prompts(3), SAMPLED, stream(2))


def test_scst_has_the_gradient_of_the_rows_that_have_a_reward() -> None:
    """Advantages by hand, and the plain formula through the policy's own differentiable log-probabilities."""
    rollout = rolled()
    rewards = [1.0, NAN, 0.0, 0.5, NAN, NAN, NAN, NAN, 0.1, 0.2, 0.3, 0.4]
    found = gradients(Scst(clip_norm=1e9, kl_coefficient=0.0), rollout, torch.tensor(rewards))
    policy = shaken(make_bank("gpt2"), 1)
    advantages_B = torch.tensor([0.5, 0, -0.5, 0, 0, 0, 0, 0, -0.15, -0.05, 0.05, 0.15])
    loss = -(advantages_B * policy.logprobs(rollout).sum(1)).sum() / 7  # rows with a reward
    expected = torch.autograd.grad(loss, list(policy.parameters()))
    assert len(found) == len(expected)
    for i, gradient in enumerate(expected):
        torch.testing.assert_close(found[f"adapter.{i}/exp_avg"], gradient, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(
    "rule", [Scst(clip_norm=1e9, kl_coefficient=0.0), Ppo(epochs=2, clip_norm=1e9)], ids=["scst", "ppo"]
)
def test_a_row_without_a_reward_teaches_nothing(rule: Scst | Ppo) -> None:
    """The same gradients as without its prompt's rows altogether."""
    rollout = rolled()
    rewards_B = torch.rand(12, generator=stream(5))
    rewards_B[4:8] = NAN
    kept = [0, 1, 2, 3, 8, 9, 10, 11]
    without = replace(rollout.rows(kept), group_size=4)
    found, expected = gradients(rule, rollout, rewards_B), gradients(rule, without, rewards_B[kept])
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(
    "rule",
    [Scst(weight_decay=0.1, kl_coefficient=0.0), Ppo(weight_decay=0.1, minibatches=3, epochs=4)],
    ids=["scst", "ppo"],
)
def test_a_batch_to_which_nothing_applies_changes_nothing(rule: Scst | Ppo) -> None:
    bank, rollout = make_bank("gpt2"), rolled()
    policy = shaken(bank, 1)
    learner = rule.learner(policy, Ledger())
    learner.step(rollout, torch.rand(12, generator=stream(5)), stream(3))
    adapter, state = ({k: v.clone() for k, v in d.items()} for d in (policy.adapter(), learner.state_dict()))
    assert learner.step(rollout, torch.full((12,), NAN), stream(4)) == {}
    assert all(v.equal(adapter[k]) for k, v in policy.adapter().items())
    assert all(v.equal(state[k]) for k, v in learner.state_dict().items())


def test_ppo_skips_the_minibatches_that_teach_nothing_and_stays_finite() -> None:
    bank, rollout = make_bank("gpt2"), rolled()
    policy, rewards_B = shaken(bank, 1), torch.full((12,), NAN)
    rewards_B[7] = 1.0
    metrics = Ppo(epochs=1, minibatches=12).learner(policy, Ledger()).step(rollout, rewards_B, stream(3))
    assert all(map(math.isfinite, metrics.values()))
    assert all(v.isfinite().all() for v in policy.adapter().values())


def test_scst_learns_from_a_single_row_and_says_finite_numbers() -> None:
    rollout, rewards_B = rolled(), torch.full((12,), NAN)
    rewards_B[3] = 1.0
    metrics = (
        Scst(kl_coefficient=0.0).learner(shaken(make_bank("gpt2"), 1), Ledger()).step(rollout, rewards_B, stream(3))
    )
    assert metrics["advantage_std"] == 0  # its group's mean is itself
    assert all(map(math.isfinite, metrics.values()))


def test_masked_rows_have_no_tokens() -> None:
    rollout = rolled()
    has_reward_B = torch.arange(12) % 2 == 0
    quiet = rollout.keeping(has_reward_B)
    assert not quiet.response_mask_BT[1::2].any()
    assert quiet.logprobs_BT[1::2].abs().sum() == 0
    assert quiet.response_mask_BT[::2].equal(rollout.response_mask_BT[::2])
    assert rollout.keeping(torch.ones(12, dtype=torch.bool)) is rollout


# the panel --------------------------------------------------------------------------------------
def test_the_panel_makes_none_a_nan_and_hands_over_the_answer() -> None:
    rollout = make_bank("gpt2").new_policy("a").generate(answered(word_prompts(6)), Sampling(4, 1.0), stream(2))
    scores_BK = ScorerPanel([Sometimes(), WordShare("even", 0)], Ledger()).score(rollout)
    expected = [len(r) % 7 / 7 if e.answer else NAN for e, r in zip(rollout.examples, rollout.responses, strict=True)]
    np.testing.assert_allclose(scores_BK[:, 0].numpy(), np.float32(expected))
    assert not scores_BK[:, 1].isnan().any()


@dataclass(frozen=True)
class Says:
    said: torch.Tensor | list[float | None]
    name: str = "says"
    bounds: tuple[float, float] = (0.0, 1.0)

    def score(self, examples: Sequence[Example], responses: Sequence[str]) -> torch.Tensor | list[float | None]:
        return self.said


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (torch.tensor([0.5, NAN]), "returned nan outside its bounds"),
        ([0.5, NAN], "returned nan outside its bounds"),
        ([None, 1.5], "returned 1.5 outside its bounds"),
        ([None], "returned shape"),
    ],
)
def test_only_none_means_not_applicable(said: torch.Tensor | list[float | None], message: str) -> None:
    rollout = make_bank("gpt2").new_policy("a").generate(word_prompts(2), Sampling(4, 1.0), stream(2))
    with pytest.raises(UserError, match=message):
        ScorerPanel([Says(said)], Ledger()).score(rollout)


def test_the_order_of_responses_is_compared_where_they_have_a_score() -> None:
    rollout = make_bank("gpt2").new_policy("a").generate(answered(word_prompts(9)), SAMPLED, stream(2))
    exact, fast = (ScorerPanel([Sometimes(), Sometimes("never", "never")], Ledger()) for _ in range(2))
    assert rank_correlations(exact, fast, rollout) == [1.0, 1.0]


# training, search and the report ------------------------------------------------------------------
def test_training_goes_by_what_applies_and_the_record_has_no_nan(bench) -> None:
    examples = answered(word_prompts(24))
    scorers = [Sometimes(), WordShare("odd", 1)]
    made = bench("gpt2", scorers=scorers, train=examples, select=examples[:8], steps=4)
    train(made, made.new_policy("p"), FixedWeights((0.5, 0.5)), name="p", budget=made.budget)
    assert isinstance(made.tracker, MemoryTracker)
    assert all(math.isfinite(v) for row in made.tracker.rows for v in row.values())
    counted = [row["train/p/not_applicable/sometimes"] for row in made.tracker.rows if "train/p/reward" in row]
    assert len(counted) == 4
    assert all(0 < count < 24 for count in counted)


def test_an_objective_that_applies_to_nothing_trains_nothing_and_ends(bench) -> None:
    made = bench("gpt2", scorers=[Sometimes(when="never"), WordShare("odd", 1)], steps=3)
    policy = made.new_policy("p")
    before = {k: v.clone() for k, v in policy.adapter().items()}
    train(made, policy, one_hot(0, 2, "linear"), name="p", budget=made.budget)
    assert all(v.equal(before[k]) for k, v in policy.adapter().items())
    assert all(math.isfinite(v) for row in made.tracker.rows for v in row.values())


def test_cory_shares_what_its_agents_have(bench) -> None:
    examples = answered(word_prompts(24))
    scorers = [Sometimes(), Sometimes("other", when=None)]
    made = bench("gpt2", scorers=scorers, train=examples, select=examples[:8], update=Ppo(epochs=1), steps=3)
    Cory([1.0, 0.0], swap_every=1).fit(made)
    assert all(math.isfinite(v) for row in made.tracker.rows for v in row.values())


def test_the_search_goes_by_what_applies_and_remembers_it(bench) -> None:
    examples = answered(word_prompts(8))
    never = Sometimes("never", when="never")
    made = bench("gpt2", scorers=[Sometimes(), never], select=examples)
    experts = [shaken(made.new_policy.__self__, seed) for seed in (1, 2)]
    front = SearchedFront(made, experts, HiddenState(), SimplexSubdivision(1))
    front.policy_for(torch.tensor([0.5, 0.5], dtype=torch.float64))
    rows = [json.loads(line) for line in (made.dir / FILE).read_text().splitlines()]
    assert len(rows) == 3
    for row in rows:
        assert row["scores"][1] is None
        assert row["utility"] == pytest.approx(row["scores"][0])
    again = SearchedFront(made, experts, HiddenState(), SimplexSubdivision(1))
    assert all(scores_K[1].isnan() for scores_K in again.evaluations.memory.values())
    assert utilities(torch.tensor([[0.3, NAN], [NAN, NAN]]), torch.tensor([0.5, 0.5])).tolist() == pytest.approx(
        [0.3, 0]
    )


def test_fronts_leave_out_what_is_not_whole() -> None:
    preferences_WK = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.25, 0.25]], dtype=torch.float64)
    points_WK = torch.tensor([[0.5, 0.4, NAN], [0.2, 0.8, NAN], [NAN, 0.9, NAN], [0.1, 0.1, NAN]], dtype=torch.float64)
    found = indicators(points_WK, preferences_WK)
    assert found["hypervolume"] == pytest.approx(0.5 * 0.4 + 0.2 * 0.4)
    assert found["deployed_utility"] == pytest.approx((0.5 + 0.8 + 0.1) / 3), "the third asks for nothing that applies"
    assert indicators(points_WK * NAN, preferences_WK) == {"hypervolume": None, "deployed_utility": None}


def test_the_report_split_is_graded_by_what_applies() -> None:
    bank, examples = make_bank("gpt2"), answered(word_prompts(9))
    scorers, ledger = [Sometimes(), WordShare("even", 0)], Ledger()
    grader = Grader(
        report=examples,
        panel=ScorerPanel(scorers, ledger),
        held_out=ScorerPanel([Sometimes("sometimes", when="never"), WordShare("even", 0)], ledger),
        reference=bank.new_policy("reference").reference(),
        preferences_WK=torch.tensor([[1.0, 0.0], [0.5, 0.5]], dtype=torch.float64),
        sampling=Sampling(6),
        decoding=("greedy",),
        seed=0,
    )
    grades = grader.grade(OnePolicy(shaken(bank, 1)), ledger)
    rows = grades.sample_rows
    said = [row["sometimes"] for row in rows]
    expected = [len(row["response"]) % 7 / 7 for row in rows[::3]]
    assert [score is None for score in said] == [i % 3 != 0 for i in range(9)]
    uniform = grades.summary["decoding"]["greedy"]["uniform"]
    means = sum(expected) / 3, sum(row["even"] for row in rows) / 9
    assert list(uniform["objectives"].values()) == pytest.approx(means)
    assert uniform["mean_reward"] == pytest.approx(sum(means) / 2)
    assert uniform["held_out"]["sometimes"] is None
    assert uniform["held_out_mean_reward"] == pytest.approx(means[1])
    assert uniform["not_applicable_by_objective"] == {"sometimes": 6, "held_out/sometimes": 9}
    assert (uniform["not_applicable"], uniform["responses"]) == (pytest.approx(6 / 18), 9)
    json.dumps(grades.summary, allow_nan=False)
    json.dumps(rows, allow_nan=False)


def test_experts_blend_and_answer_every_preference_with_a_scorer_that_seldom_applies(bench) -> None:
    examples = answered(word_prompts(24))
    made = bench("gpt2", scorers=[Sometimes(), WordShare("odd", 1)], train=examples, select=examples[:8], steps=4)
    solution = Emorl(HiddenState(), SimplexSubdivision(1)).fit(made)
    rollout = solution.policy_for(torch.tensor([0.3, 0.7])).generate(examples[:2], Sampling(6, 0.0), stream(0))
    assert len(rollout.responses) == 2


def test_the_written_report_counts_them(tmp_path: Path) -> None:
    for seed in (0, 1):
        for method in ("emorl", "weighted_ppo"):
            directory = write_run(tmp_path / "runs", method, seed)
            summary = json.loads((directory / "summary.json").read_text())
            for graded in summary["decoding"].values():
                for point in [*graded["points"], graded["uniform"]]:
                    point["objectives"]["fluency"] = None
                    point |= {"not_applicable": 1 / 3, "not_applicable_by_objective": {"fluency": 12}, "responses": 12}
            (directory / "summary.json").write_text(json.dumps(summary))
    report([str(tmp_path / "runs"), "--out", str(tmp_path / "out")])
    text = (tmp_path / "out" / "report.md").read_text()
    assert "emorl 33.3% (fluency 24 of 24)" in text
    assert " nan" not in text
    assert "IGD+" in text
