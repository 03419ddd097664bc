"""Best of n: its scores and its KL against exact ones, what it chooses, and what it charges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from conftest import word_prompts
from torch import Tensor

from baselines.best_of_n import BestOfN, Candidates, Chosen
from baselines.weighted_policy import WeightedPolicy
from emorl_bench.core.errors import UserError
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Example, Rollout, Sampling
from emorl_bench.rl.kl import kl_to_reference

GREEDY = Sampling(10, temperature=0.0)
SAMPLED = Sampling(10, temperature=1.0, samples_per_prompt=3)


@dataclass
class Table:
    """A policy over ``size`` one-token answers, equally likely; greedily it says the last but one."""

    size: int = 400

    def generate(self, examples: Sequence[Example], sampling: Sampling, rng: torch.Generator) -> Rollout:
        rows = len(examples) * sampling.samples_per_prompt
        said = torch.randint(self.size, (rows, 1), generator=rng)
        said = said if sampling.temperature else torch.full_like(said, self.size - 2)
        told = tuple(e for e in examples for _ in range(sampling.samples_per_prompt))
        logprobs_BT = torch.full((rows, 1), -math.log(self.size), dtype=torch.float64)
        responses = tuple(str(v.item()) for v in said)
        return Rollout(told, responses, said, said >= 0, logprobs_BT, sampling.samples_per_prompt)

    def score(self, rollout: Rollout) -> Tensor:
        rising_B = rollout.response_ids_BT[:, 0] / (self.size - 1)
        return torch.stack([rising_B, 1 - rising_B], dim=1).double()


def test_best_of_n_scores_and_strays_as_the_table_says() -> None:
    """``p_n(v) = F(v)^n - F(v-1)^n`` exactly; the constant ``ln n - (n - 1) / n`` is its KL but for ties."""
    table, prompts = Table(), word_prompts(4000)
    share_V = torch.arange(1, 401, dtype=torch.float64) / 400
    previous = 0.0
    for n in (1, 2, 4, 16):
        chosen_V = share_V**n - (share_V - 1 / 400) ** n
        scores_V = torch.linspace(0, 1, 400, dtype=torch.float64)
        expected = (chosen_V * scores_V).sum().item()
        error = math.sqrt((chosen_V * (scores_V - expected) ** 2).sum().item() / len(prompts))
        best = Chosen(Candidates(table, table.score, n, 1.0), torch.tensor([1.0, 0.0]))
        rollout = best.generate(prompts, Sampling(1), stream(n))
        assert table.score(rollout)[:, 0].mean().item() == pytest.approx(expected, abs=4 * error)
        assert expected == pytest.approx(n / (n + 1), abs=0.01)
        assert expected > previous
        previous = expected
        exact = (chosen_V * (400 * chosen_V).log()).sum().item()
        said = (rollout.logprobs_BT.sum(1) + math.log(400)).mean().item()
        assert said == pytest.approx(math.log(n) - (n - 1) / n, abs=1e-9)
        assert exact <= said + 1e-9
        assert said == pytest.approx(exact, abs=0.03)


def test_one_candidate_is_the_policy(bench) -> None:
    made = bench("gpt2")
    policy = made.new_policy("a")
    best = Chosen(Candidates(policy, made.score, 1, 1.0), torch.tensor([0.5, 0.5]))
    for sampling in (GREEDY, SAMPLED):
        mine, plain = (p.generate(word_prompts(5), sampling, stream(2)) for p in (best, policy))
        assert mine.responses == plain.responses
        assert mine.response_ids_BT.equal(plain.response_ids_BT)
        torch.testing.assert_close(mine.logprobs_BT, plain.logprobs_BT, equal_nan=True, atol=0, rtol=0)
        assert (mine.group_size, mine.temperature) == (plain.group_size, plain.temperature)


def test_the_best_of_the_candidates_is_chosen_under_each_preference(bench) -> None:
    made = bench("gpt2")
    solution = BestOfN(n=4, policy="base").fit(made)
    wide = replace(SAMPLED, samples_per_prompt=12)
    drawn = made.score(made.new_policy("a").reference().generate(word_prompts(5), wide, stream(2)))
    for preference in ([1.0, 0.0], [0.0, 1.0], [0.3, 0.7]):
        wish_K = torch.tensor(preference)
        rollout = solution.policy_for(wish_K).generate(word_prompts(5), SAMPLED, stream(2))
        assert rollout.group_size == 3
        best_B = (drawn @ wish_K).view(15, 4).amax(1)
        torch.testing.assert_close(made.score(rollout) @ wish_K, best_B)


def test_greedy_best_of_n_has_the_greedy_answer_among_its_candidates(bench) -> None:
    made = bench("gpt2")
    solution, wish_K = BestOfN(n=4, policy="base").fit(made), torch.tensor([1.0, 0.0])
    mine = solution.policy_for(wish_K).generate(word_prompts(12), GREEDY, stream(2))
    greedy = made.new_policy("a").reference().generate(word_prompts(12), GREEDY, stream(2))
    gain_B = (made.score(mine) - made.score(greedy))[:, 0]
    assert gain_B.min() >= 0
    assert gain_B.max() > 0
    assert mine.logprobs_BT.isnan().all()
    same = [i for i in range(12) if gain_B[i] == 0]
    assert [mine.responses[i] for i in same] == [greedy.responses[i] for i in same]


def test_candidates_are_charged_where_they_are_drawn_and_once_for_all_preferences(bench) -> None:
    made = bench("gpt2")
    solution = BestOfN(n=4, policy="base").fit(made)
    texts = []
    for preference in ([1.0, 0.0], [0.5, 0.5]):
        with made.ledger.phase("evaluate") as cost:
            solution.policy_for(torch.tensor(preference)).generate(word_prompts(5), SAMPLED, stream(2))
        assert (cost.prompts, cost.samples) == (5, 5 * 3 * 4)
        texts.append(cost.scored_texts)
    assert texts[0] == texts[1] > 2 * 5 * 3  # two scorers, and more candidates than answers
    with made.ledger.phase("other") as cost:
        solution.policy_for(torch.tensor([0.5, 0.5])).generate(word_prompts(5), SAMPLED, stream(3))
    assert cost.samples == 5 * 3 * 4


def test_the_kl_of_choosing_is_in_the_log_probabilities(bench) -> None:
    made = bench("gpt2")
    rollout = BestOfN(n=4, policy="base").fit(made).policy_for(torch.tensor([1.0, 0.0]))
    rollout = rollout.generate(word_prompts(5), SAMPLED, stream(2))
    reference = made.new_policy("a").reference()
    assert kl_to_reference(rollout, reference) == pytest.approx(math.log(4) - 3 / 4, abs=1e-4)


def test_it_says_that_scorers_choose_its_answers(bench) -> None:
    solutions = [method.fit(bench("t5", steps=1)) for method in (BestOfN(n=2, policy="base"), WeightedPolicy())]
    assert [s.chooses_with_scorers for s in solutions] == [True, False]


def test_an_objective_that_does_not_apply_has_no_say() -> None:
    table = Table()

    def score(rollout: Rollout) -> Tensor:
        scores_BK = table.score(rollout)
        scores_BK[:, 0] = torch.nan
        return scores_BK

    prompts = word_prompts(40)
    low = Chosen(Candidates(table, score, 8, 1.0), torch.tensor([0.9, 0.1])).generate(prompts, SAMPLED, stream(1))
    nothing = Chosen(Candidates(table, score, 8, 1.0), torch.tensor([1.0, 0.0])).generate(prompts, SAMPLED, stream(1))
    assert table.score(low)[:, 0].mean() < 0.2
    assert table.score(nothing)[:, 0].mean() == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("architecture", ["t5", "gpt2"])
def test_it_answers_every_preference_without_a_search(bench, architecture) -> None:
    made = bench(architecture)
    solution = BestOfN(n=3).fit(made)
    for preference in ([1.0, 0.0], [0.5, 0.5]):
        rollout = solution.policy_for(torch.tensor(preference)).generate(word_prompts(3), SAMPLED, stream(1))
        assert made.score(rollout).shape == (9, 2)
    spent = made.ledger.totals()
    assert spent["data_points_sum"] >= 4 * 6
    assert spent["search_evaluations"] == 0


@pytest.mark.parametrize(
    ("method", "says"),
    [
        (BestOfN(n=0), r"method\.n=0"),
        (BestOfN(policy="wieghted"), "did you mean 'weighted'"),
        (BestOfN(weights=[0.5, 0.2]), r"method\.weights"),
    ],
)
def test_a_bad_value_is_named_before_anything_is_trained(bench, method, says) -> None:
    with pytest.raises(UserError, match=says):
        method.fit(bench("t5", score=None))  # whoever trained would fail on the missing scores
