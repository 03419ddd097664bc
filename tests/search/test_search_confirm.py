"""Leaders graded again on fresh select prompts: who wins, what it costs, and that a kill changes nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.emorl import Emorl
from emorl_bench.ensemble.blending import HiddenState
from emorl_bench.ensemble.front import SearchedFront
from emorl_bench.ensemble.search_record import FILE
from emorl_bench.search.hierarchical import HierarchicalGrid
from emorl_bench.search.optuna_study import OptunaSearch
from emorl_bench.search.simplex import SimplexSubdivision
from emorl_bench.search.sobol import Sobol
from emorl_bench.search.successive_halving import leaders, pooled
from emorl_bench.search.ucb_front import UcbFront
from studies.search_regret import __main__ as search_regret
from studies.search_regret import embedded as search_regret_embedded
from studies.search_regret.docs import TABLES
from studies.search_regret.strategies import LEADERS, Random, variants
from studies.search_regret.surfaces import Concave
from studies.search_regret.trials import Noisy, Running, on_surface, trial

NAN = torch.nan
EVEN = torch.tensor([0.5, 0.5])
PEAK = 0.3  # the first expert's weight in the truly best blend
STRATEGIES = {
    "simplex": SimplexSubdivision(3, confirm=3),
    "cube": HierarchicalGrid(3, confirm=3),
    "sobol": Sobol(10, confirm=3),
    "ucb": UcbFront(10, startup=2, pool=32, untried=False, confirm=3),
    "tpe": OptunaSearch("tpe", 10, confirm=3) if find_spec("optuna") else None,
}
EACH = [pytest.param(s, id=name) for name, s in STRATEGIES.items() if s is not None]


@dataclass
class Blends:
    """An aggregator without models: what a blend says is its weights. Counts what is decoded."""

    decoded: list[tuple[float, str]] = field(default_factory=list)  # first expert's weight, prompt

    def blend(self, experts: Sequence[object], weights_WM: Tensor) -> Said:
        return Said(self, weights_WM)


@dataclass
class Said:
    blends: Blends
    weights_WM: Tensor
    examples: Sequence[object] = ()

    def generate(self, examples, sampling, rng) -> Said:
        assert sampling.temperature == 0
        self.blends.decoded += [(w, e.id) for w in self.weights_WM[:, 0].tolist() for e in examples]
        return replace(self, examples=examples)


def lucky(rollout: Said) -> Tensor:
    """Truth: ``-(w - PEAK)^2``. The first expert alone is lucky on every second prompt, as unlucky on the others."""
    weight_W1 = rollout.weights_WM[:, :1].double()
    luck_P = torch.tensor([5.0 if int(e.id) % 2 else -5.0 for e in rollout.examples], dtype=torch.float64)
    score_WP = -((weight_W1 - PEAK) ** 2) + (weight_W1 == 1) * luck_P
    return score_WP.reshape(-1, 1).expand(-1, 2)


def front(made, strategy, *, score=lucky) -> SearchedFront:
    return SearchedFront(replace(made, score=score), [None, None], Blends(), strategy)


def answer(searched: SearchedFront, preference: Tensor = EVEN) -> float:
    return float(searched.policy_for(preference).weights_WM[0, 0])


def rows(made) -> list[dict]:
    return [json.loads(line) for line in (made.dir / FILE).read_text().splitlines()]


@pytest.mark.parametrize("strategy", EACH)
def test_a_leader_that_was_lucky_does_not_answer(bench, strategy) -> None:
    made = bench("t5")
    found = answer(front(made, strategy))
    explored = {row["weights"][0]: row["utility"] for row in rows(made) if row["part"] == "explored"}
    fresh = {row["weights"][0]: row["utility"] for row in rows(made) if row["part"] == "fresh"}
    assert max(explored, key=explored.__getitem__) == 1.0  # as the search saw it
    assert len(fresh) == 3
    assert set(fresh) == set(sorted(explored, key=explored.__getitem__)[-3:])
    assert found == pytest.approx(max(fresh, key=lambda w: explored[w] + fresh[w]))  # both halves are of one size
    assert abs(found - PEAK) == pytest.approx(min(abs(w - PEAK) for w in explored))  # the best that was explored


def test_without_it_every_prompt_is_asked_and_the_luck_of_half_is_not_seen(bench) -> None:
    made = bench("t5")
    searched = front(made, Sobol(10))
    answer(searched)
    assert len(searched.aggregator.decoded) == 10 * len(made.select)
    assert {row["part"] for row in rows(made)} == {"all"}


@pytest.mark.parametrize("prompts", [2, 7, 8])
@pytest.mark.parametrize("strategy", EACH[2:])
def test_re_evaluations_are_charged_and_the_budget_is_kept(bench, strategy, prompts) -> None:
    made = bench("t5")
    made = replace(made, select=made.select[:1] * prompts)
    made = replace(made, select=[replace(e, id=str(i)) for i, e in enumerate(made.select)])
    searched = front(made, strategy)
    answer(searched)
    cost = made.ledger.phases["search"]
    assert cost.evaluations == 17 + 3 == len(searched.evaluations.memory)
    assert len(searched.aggregator.decoded) == 17 * (prompts // 2) + 3 * (prompts - prompts // 2) <= 10 * prompts
    assert len(set(searched.aggregator.decoded)) == len(searched.aggregator.decoded)  # nothing is paid twice


def test_prompts_of_models_are_charged(bench) -> None:
    made = bench("t5")
    Emorl(HiddenState(), Sobol(3, confirm=2)).fit(made).policy_for(EVEN)
    cost = made.ledger.phases["search"]
    assert (cost.evaluations, cost.prompts) == (4 + 2, (4 + 2) * len(made.select) // 2)


def test_an_untried_leader_is_graded_on_both_halves(bench) -> None:
    made = bench("t5")
    searched = front(made, UcbFront(10, startup=2, pool=32, confirm=3), score=lambda r: lucky(r).clamp(-1, 0))
    answer(searched)
    parts = {part: {key for p, key in searched.evaluations.memory if p == part} for part in ("explored", "fresh")}
    assert parts["fresh"] <= parts["explored"]
    assert (len(parts["explored"]), len(parts["fresh"])) == (17, 3)  # 16 candidates and one that was none


@pytest.mark.parametrize("strategy", [EACH[2], EACH[3]])
def test_one_exploration_serves_all_preferences(bench, strategy) -> None:
    made = bench("t5")
    searched = front(made, strategy)
    answers = [answer(searched, torch.tensor(p)) for p in ([0.5, 0.5], [0.9, 0.1], [0.2, 0.8])]
    assert len(set(answers)) == 1  # objectives are equal
    assert made.ledger.phases["search"].evaluations == 17 + 3


@pytest.mark.parametrize("strategy", EACH)
def test_a_kill_while_leaders_are_graded_changes_nothing(bench, strategy, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def killing(rollout: Said) -> Tensor:
        if int(rollout.examples[0].id) % 2 == 0:  # the fresh half
            raise Killed
        return lucky(rollout)

    alone = bench("t5")
    whole = front(replace(alone, dir=tmp_path / "alone"), strategy)
    whole.bench.dir.mkdir()
    expected = answer(whole)
    first = front(bench("t5"), strategy, score=killing)
    with pytest.raises(Killed):
        answer(first)
    (first.bench.dir / FILE).open("a").write('{"preference": [0.5, 0')
    made = bench("t5")
    again = front(made, strategy)
    assert answer(again) == expected
    mine, theirs = made.ledger.phases["search"], alone.ledger.phases["search"]
    assert (mine.evaluations, mine.prompts) == (theirs.evaluations, theirs.prompts)  # what is repeated costs nothing
    assert [row["scores"] for row in rows(made)] == [row["scores"] for row in rows(whole.bench)]
    third = front(bench("t5"), strategy, score=None)
    assert answer(third) == expected  # and now all is known


def test_records_from_before_there_were_parts_are_read(bench) -> None:
    made = bench("t5")
    answer(front(made, Sobol(4)))
    old = [json.dumps({k: v for k, v in row.items() if k != "part"}) + "\n" for row in rows(made)]
    (made.dir / FILE).write_text("".join(old))
    answer(front(bench("t5"), Sobol(4), score=None))


def test_leaders_are_distinct_directions_and_the_answer_is_among_them() -> None:
    told = torch.tensor([[0.0, 0.0], [0.5, 0.5], [1.0, 1.0], [1.0, 0.0], [0.25, 0.75]], dtype=torch.float64)
    utility = torch.tensor([9.0, 4.0, 4.0, 3.0, 5.0], dtype=torch.float64)
    best = torch.tensor([0.0, 0.5], dtype=torch.float64)
    assert leaders(best, told, utility, 3).tolist() == [[0, 1], [0.25, 0.75], [0.5, 0.5]]
    assert len(leaders(best, told, utility, 9)) == 4


def test_halves_are_weighed_by_their_prompts_and_by_what_applies() -> None:
    explored = torch.tensor([[1.0, NAN, NAN]], dtype=torch.float64)
    fresh = torch.tensor([[4.0, 2.0, NAN]], dtype=torch.float64)
    assert pooled(explored, fresh, (1, 2)).tolist() == [pytest.approx([3.0, 2.0, NAN], nan_ok=True)]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: SimplexSubdivision(confirm=1), "method.search.confirm=1: give 2 or more leaders to compare"),
        (lambda: Sobol(4, confirm=0), "method.search.confirm=0: give 2 or more"),
        (lambda: Sobol(4, confirm=5), "method.search.confirm=5: evaluations=4 pays for 4 at most"),
        (lambda: UcbFront(4, confirm=4), "method.search.confirm=4: evaluations=4 pays for 3 at most"),
    ],
)
def test_a_bad_setting_is_named(make, says) -> None:
    with pytest.raises(UserError) as caught:
        make()
    assert str(caught.value).startswith(says)


def test_one_prompt_cannot_be_halved(bench) -> None:
    made = bench("t5")
    with pytest.raises(UserError, match=r"confirm: needs 2 select prompts or more; raise budget\.select_prompts"):
        front(replace(made, select=made.select[:1]), Sobol(4, confirm=2))


def test_a_trial_pays_half_for_half_and_answers_with_the_best_of_what_it_explored() -> None:
    """Without noise: of 2N - C random points the best; before (1 + 1) / 2 evaluations there is no answer."""
    surface, preference = Concave.drawn(3, np.random.default_rng(3)), np.array([0.5, 0.3, 0.2])
    regret = trial(Random(12, 5, confirm=3), Noisy(surface, 0.0, 5), preference, 0.0, 12).regret_N
    points = np.random.default_rng(5).dirichlet(np.ones(3), 2 * 12 - 3)
    best = np.maximum.accumulate(surface.scores(points) @ preference)
    assert regret[-1] == pytest.approx(max(0.0, -best[-1]))
    optimum = surface.optimum(preference)
    regret = trial(Random(12, 5, confirm=3), Noisy(surface, 0.0, 5), preference, optimum, 12).regret_N
    expected = [optimum - best[0], *(optimum - best[2 * n - 4] for n in range(3, 13))]  # (2n - 3) / 2 + 3 / 2
    assert regret[[0, *range(2, 12)]] == pytest.approx(np.array(expected))


def test_a_half_is_noisier_than_the_whole_and_the_halves_are_independent() -> None:
    surface = Concave.drawn(2, np.random.default_rng(0))
    weights = np.random.default_rng(1).dirichlet(np.ones(2), 4000)
    met = Noisy(surface, 0.1, 0)
    off = {part: (met.seen(weights, part) - surface.scores(weights)).ravel() for part in ("all", "explored", "fresh")}
    assert off["all"].std() == pytest.approx(0.1, rel=0.05)
    assert ((off["explored"] + off["fresh"]) / 2).std() == pytest.approx(0.1, rel=0.05)
    assert (met.seen(weights[:5], "fresh") == met.seen(weights, "fresh")[:5]).all()  # the same whenever it is asked
    assert Running.started(Sobol(4), met, torch.tensor([0.5, 0.5])).confirm is None


@pytest.mark.parametrize("name", [name for name in variants(confirm=True) if name.endswith("+confirm")])
def test_every_variant_stays_within_the_budget(name) -> None:
    variant = variants(confirm=True)[name]
    found = on_surface(variant(9, 0), "linear", 2, 0.05, 9, 0).regret_N
    assert variant(9, 0).confirm == LEADERS
    assert np.isfinite(found[-1])


def test_the_embedded_benchmark_runs_leaves_its_record_and_writes_its_tables(tmp_path: Path, capsys) -> None:
    out, docs = tmp_path / "search_regret_embedded.json", tmp_path / "search.md"
    places = [f"<!-- search_regret_embedded: {table} -->old<!-- end -->\n" for table in TABLES]
    docs.write_text("before\n" + "between\n".join(places) + "after\n")
    search_regret_embedded.main(["--quick", "--repeats", "1", "--out", str(out), "--docs", str(docs)])
    ratios = json.loads(capsys.readouterr().out.splitlines()[-1])["ratios"]
    assert {"sobol", "simplex_four", "cube", "ucb_front", "sobol_confirm", "sobol_confirm_on_fresh"} <= ratios.keys()
    record = json.loads(out.read_text())
    assert record["notes"]["blends"] == 15
    curves = record["notes"]["mean_regret_after_each_evaluation"]["prompts 8, preference even"]
    assert all(len(curve) == 24 and curve[-1] >= 0 for curve in curves.values())
    assert out.with_suffix(".png").stat().st_size > 5_000
    text = docs.read_text()
    assert "old" not in text
    assert (text.count("between"), text[:7], text[-6:]) == (3, "before\n", "after\n")
    row = next(line for line in text.splitlines() if line.startswith("| 8 | even |"))
    assert f"{curves['random'][-1]:.3f}" in row


def test_a_document_without_a_place_for_a_table_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.md", tmp_path):
        with pytest.raises(UserError, match=f"--docs={path}: no such file, or no place in it: <!-- search_regret: reg"):
            search_regret.main(["--docs", str(path)])
