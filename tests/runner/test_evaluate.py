"""Grading: three sets of scorers side by side, deployed utility, the ceiling, and what one answer costs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from conftest import VOCABULARY, WordShare, make_bank, shaken, word_prompts
from torch import Tensor

from baselines.best_of_n import BestOfN
from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.protocols import Bench, Sampler, Solution
from emorl_bench.core.seeds import stream
from emorl_bench.core.solutions import OnePolicy
from emorl_bench.core.types import Example, Rollout, Sampling
from emorl_bench.ensemble.blending import HiddenState
from emorl_bench.policies.adapter_policy import AdapterBank
from emorl_bench.runner.evaluate import Grader, Grades
from emorl_bench.scorers.panel import ScorerPanel

END = 1
PREFERENCES_WK = torch.tensor([[1.0, 0.0], [0.25, 0.75], [0.5, 0.5]], dtype=torch.float64)
REPORT = word_prompts(9)


@dataclass(frozen=True)
class Length:
    """A gold label that is no function of the scorers: words said, of 12."""

    name: str
    bounds: tuple[float, float] = (0.0, 1.0)

    def score(self, examples: Sequence[Example], responses: Sequence[str]) -> list[float]:
        return [len(r.split()) / 12 for r in responses]


@dataclass
class PerPreference(Solution):
    policies: Sequence[Sampler]

    def policy_for(self, preference_K: Tensor) -> Sampler:
        return self.policies[(preference_K == PREFERENCES_WK).all(1).nonzero().item()]


def grader(bank: AdapterBank, ledger: Ledger, gold: Sequence[Any] = (), **changes: Any) -> Grader:
    given = {
        "report": REPORT,
        "panel": ScorerPanel([WordShare("even", 0), WordShare("odd", 1)], ledger),
        "held_out": ScorerPanel([WordShare("even", 0, 3), WordShare("odd", 1, 3)], ledger),
        "gold": ScorerPanel(gold, ledger) if gold else None,
        "reference": bank.new_policy("reference").reference(),
        "preferences_WK": PREFERENCES_WK,
        "sampling": Sampling(10),
        "decoding": ("greedy", "sampled"),
        "seed": 0,
    }
    return Grader(**{**given, **changes})


def graded(bank: AdapterBank, solution: Any, gold: Sequence[Any] = (), **changes: Any) -> Grades:
    ledger = bank.decoder.ledger
    with ledger.phase("evaluate"):
        grades = grader(bank, ledger, gold, **changes).grade(solution, ledger)
    json.dumps([grades.summary, grades.sample_rows], allow_nan=False)
    return grades


def words(texts: Sequence[str], remainder: int, of: int) -> float:
    """Mean share of words with a remainder, written again."""
    shares = []
    for text in texts:
        numbers = [int(word[1:]) for word in text.split() if word.startswith("w")]
        shares.append(sum(n % of == remainder for n in numbers) / max(1, len(text.split())))
    return sum(shares) / len(shares)


def test_every_set_of_scorers_is_recomputed_from_the_answers() -> None:
    bank = make_bank("gpt2")
    policies = [shaken(bank, seed) for seed in (1, 2, 3)]
    grades = graded(bank, PerPreference(policies), [Length("even"), Length("odd")])
    front = grades.summary["decoding"]["greedy"]
    utilities: dict[str, list[float]] = {"": [], "held_out_": [], "gold_": []}
    for w, point in enumerate(front["points"]):
        rows = [r for r in grades.sample_rows if (r["decoding"], r["preference"]) == ("greedy", w)]
        said = [row["response"] for row in rows]
        length = sum(len(text.split()) / 12 for text in said) / len(said)
        expected = {
            "": (words(said, 0, 2), words(said, 1, 2)),
            "held_out_": (words(said, 0, 3), words(said, 1, 3)),
            "gold_": (length, length),
        }
        assert point["gold"] == pytest.approx({"even": length, "odd": length})
        assert [row["gold/even"] for row in rows] == pytest.approx([len(text.split()) / 12 for text in said])
        for prefix, (even, odd) in expected.items():
            utilities[prefix].append(PREFERENCES_WK[w, 0].item() * even + PREFERENCES_WK[w, 1].item() * odd)
            assert point[f"{prefix}mean_reward"] == pytest.approx((even + odd) / 2)
            assert point[f"{prefix}utility"] == pytest.approx(utilities[prefix][-1])
        assert point["distinct"] == len(set(said)) / len(said)
    for prefix, each in utilities.items():
        assert front[f"{prefix}deployed_utility"] == pytest.approx(sum(each) / 3)
    assert len({round(value, 9) for value in utilities["gold_"]}) > 1
    assert all("gold/odd" in row and "response" not in row for row in grades.score_rows)
    assert [row["preference"] for row in grades.score_rows] == sorted(row["preference"] for row in grades.score_rows)


def test_without_gold_nothing_speaks_of_it() -> None:
    bank = make_bank("gpt2")
    grades = graded(bank, OnePolicy(shaken(bank, 1)), best=lambda *_: torch.ones(3, 2))
    assert "gold" not in json.dumps([grades.summary, grades.sample_rows])
    assert grades.summary["ceiling"] is None


def test_an_objective_without_a_gold_label_has_no_say_in_gold() -> None:
    bank = make_bank("gpt2")
    grades = graded(bank, OnePolicy(shaken(bank, 1)), [Length("odd")], best=lambda *_: torch.ones(3, 2))
    front = grades.summary["decoding"]["greedy"]
    odd = front["uniform"]["gold"]["odd"]
    assert front["uniform"]["gold"] == {"odd": odd}
    assert [point["gold_utility"] for point in front["points"]] == [None, pytest.approx(odd), pytest.approx(odd)]
    assert front["gold_deployed_utility"] == pytest.approx(odd)
    assert grades.summary["ceiling"] is None, "it would be another mean"


def test_gold_is_paid_for_by_the_evaluation() -> None:
    bank = make_bank("gpt2")
    ledger = bank.decoder.ledger
    plain = graded(bank, OnePolicy(shaken(bank, 1)))
    without = ledger.phases["evaluate"].scored_texts
    ledger.phases.clear()
    with_gold = graded(bank, OnePolicy(shaken(bank, 1)), [Length("even"), Length("odd")])
    texts = len({(row["prompt"], row["response"]) for row in with_gold.sample_rows})
    assert ledger.phases["evaluate"].scored_texts == without + 2 * texts
    assert {name for name, cost in ledger.phases.items() if cost.scored_texts} == {"evaluate"}
    assert ledger.totals()["scorer_calls"] == 0, "no method's cost"
    assert (
        plain.summary["decoding"]["greedy"]["points"][0]["objectives"]
        == (with_gold.summary["decoding"]["greedy"]["points"][0]["objectives"])
    )


def test_the_ceiling_is_what_each_preference_makes_of_the_best_answers() -> None:
    best_WK, asked = torch.tensor([[1.0, 0.2], [0.4, 0.8], [0.7, 0.7]]), []

    def best(examples: Sequence[Example], preferences_WK: Tensor) -> Tensor:
        asked.append((list(examples), preferences_WK))
        return best_WK

    bank = make_bank("gpt2")
    gold = [Length("even"), Length("odd")]
    ceiling = graded(bank, OnePolicy(shaken(bank, 1)), gold, best=best).summary["ceiling"]
    assert ceiling["utility"] == pytest.approx([1.0, 0.25 * 0.4 + 0.75 * 0.8, 0.7])
    assert ceiling["mean_utility"] == pytest.approx((1.0 + 0.7 + 0.7) / 3)
    assert ceiling["uniform"] == pytest.approx(0.7)
    assert ceiling["objectives"] == best_WK.tolist()
    assert [(e, p.tolist()) for e, p in asked] == [(REPORT, PREFERENCES_WK.tolist())]
    with pytest.raises(UserError, match=r"task.ceiling: returned shape \(1, 2\)"):
        graded(bank, OnePolicy(shaken(bank, 1)), gold, best=lambda *_: best_WK[:1])
    assert graded(bank, OnePolicy(shaken(bank, 1)), gold, best=lambda *_: None).summary["ceiling"] is None


@dataclass
class Spoken:
    """Answers of given ids, whoever asks; 0 is padding."""

    ids: Sequence[Sequence[int]]
    samples: int = 1

    def generate(self, examples: Sequence[Example], sampling: Sampling, rng: torch.Generator) -> Rollout:
        ids_BT = torch.tensor(self.ids)
        texts = tuple(" ".join(f"w{i}" for i in row if i > 3) for row in self.ids)
        rows = tuple(e for e in examples for _ in range(self.samples))
        logprobs_BT = torch.zeros(ids_BT.shape)
        return Rollout(rows, texts, ids_BT, ids_BT != 0, logprobs_BT, self.samples)


def test_answers_without_an_end_are_counted_and_only_first_samples_are_told_apart() -> None:
    bank = make_bank("gpt2")
    ids = [[5, 6, END], [5, 6, 7], [5, END, 0], [9, 9, 9], [5, 6, END], [8, 8, END]]
    spoken = Spoken(ids, samples=2)
    point = graded(bank, OnePolicy(spoken), report=REPORT[:3], decoding=("sampled",)).summary
    uniform = point["decoding"]["sampled"]["uniform"]
    assert uniform["truncated"] == pytest.approx(2 / 6)
    assert uniform["distinct"] == pytest.approx(2 / 3), "rows 0, 2 and 4 say two things"
    assert "passes_per_answer" not in uniform, "no model of the suite has decoded"


def test_a_model_that_cannot_end_in_time_is_all_truncated() -> None:
    bank = make_bank("t5")
    grades = graded(bank, OnePolicy(shaken(bank, 1)), sampling=Sampling(2), decoding=("sampled",))
    said = [row["response"] for row in grades.sample_rows]
    policy = shaken(bank, 1)
    rollout = policy.generate(REPORT, Sampling(2), stream(0, "report", "sampled"))
    assert list(rollout.responses) == said
    cut = [END not in ids.tolist() for ids in rollout.response_ids_BT]
    uniform = grades.summary["decoding"]["sampled"]["uniform"]
    assert uniform["truncated"] == pytest.approx(sum(cut) / len(cut))
    assert uniform["truncated"] > 0.5
    assert VOCABULARY > END


@pytest.mark.parametrize("decoding", ["greedy", "sampled"])
def test_one_policy_costs_one_pass_a_token_and_a_blend_of_three_three(decoding: str) -> None:
    bank = make_bank("gpt2")
    experts = [shaken(bank, seed) for seed in (1, 2, 3)]
    blends = [HiddenState().blend(experts, w_M[None]) for w_M in torch.tensor([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]])]
    for solution, passes in ((OnePolicy(experts[0]), 1), (PerPreference([*blends, blends[0]]), 3)):
        grades = graded(bank, solution)
        uniform = grades.summary["decoding"][decoding]["uniform"]
        assert uniform["decoded_tokens_per_answer"] == uniform["length"]
        assert uniform["passes_per_answer"] == pytest.approx(passes * uniform["length"])
        assert uniform["scorer_calls_per_answer"] == 0
    other = grades.summary["decoding"][decoding]["points"][1]
    assert "passes_per_answer" not in other, "recorded for the policy of the uniform preference"
    again = graded(bank, PerPreference([*blends, blends[0]]))  # greedy blends are remembered by now
    assert again.summary["decoding"][decoding]["uniform"]["passes_per_answer"] == uniform["passes_per_answer"]


def test_best_of_n_pays_for_its_candidates_and_for_choosing(bench: Callable[..., Bench]) -> None:
    n, made = 4, bench("gpt2")
    bank = made.new_policy.__self__  # type: ignore[attr-defined]
    solution = BestOfN(n=n, policy="base").fit(made)
    panel = made.score.__self__  # type: ignore[attr-defined]
    grades = graded(bank, solution, [Length("even"), Length("odd")], panel=panel)
    wide = replace(Sampling(10), samples_per_prompt=n)
    drawn = bank.new_policy("a").reference().generate(REPORT, wide, stream(0, "report", "sampled"))
    uniform = grades.summary["decoding"]["sampled"]["uniform"]
    assert uniform["passes_per_answer"] == uniform["decoded_tokens_per_answer"] == drawn.tokens / len(REPORT)
    assert uniform["passes_per_answer"] > 2 * uniform["length"]
    for decoding in ("greedy", "sampled"):
        assert grades.summary["decoding"][decoding]["uniform"]["scorer_calls_per_answer"] == n * 2
