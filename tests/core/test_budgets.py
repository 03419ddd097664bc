"""Budgets that are equal: one meter for everything, ladders whose last rung is the run itself, what change costs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import WordShare, make_bench, word_prompts

from baselines.aim import Aim
from baselines.best_of_n import BestOfN
from baselines.conditioned.pareto_set import ParetoSet
from baselines.cory import Cory
from baselines.dare import Dare
from baselines.offline.offline_policy import OfflinePolicy
from baselines.param_merge import Soup
from baselines.ric.rewards_in_context import RewardsInContext
from baselines.single_objective import SingleObjective
from baselines.weighted_policy import WeightedPolicy
from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Cost, Ledger
from emorl_bench.core.protocols import Bench, Method
from emorl_bench.core.ranks import ALONE
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Budget, Sampling, Training
from emorl_bench.emorl import Emorl
from emorl_bench.ensemble.blending import HiddenState
from emorl_bench.ensemble.search_record import paid_by_preference
from emorl_bench.rl.agro import Agro
from emorl_bench.rl.experts import expert_bank, expert_budget, expert_dir
from emorl_bench.rl.likelihood import Likelihood
from emorl_bench.rl.ppo import Ppo
from emorl_bench.rl.rloo import Rloo
from emorl_bench.rl.scst import Scst
from emorl_bench.rl.weightings.dynaopt import DynaOpt
from emorl_bench.runner.change import change
from emorl_bench.runner.evaluate import Grader, Grades
from emorl_bench.runner.ladder import Ladder
from emorl_bench.scorers.panel import ScorerPanel
from emorl_bench.search.simplex import SimplexSubdivision
from emorl_bench.search.sobol import Sobol
from emorl_bench.search.ucb_front import UcbFront

PREFERENCES = ((1.0, 0.0), (0.5, 0.5), (0.0, 1.0))
SIMPLEX = SimplexSubdivision(3)
RULE = Scst(learning_rate=2e-2, kl_coefficient=0.0)
TAGS = {"even": ["w4", "w6"], "odd": ["w5", "w7"]}
METHODS: dict[str, tuple[Method, Any]] = {
    "weighted_scst": (WeightedPolicy(), RULE),
    "weighted_ppo": (WeightedPolicy(), Ppo(learning_rate=2e-2, epochs=4)),
    "ppo_matched": (WeightedPolicy(batches=2), Ppo(learning_rate=2e-2, epochs=4)),
    "agro_replay": (WeightedPolicy(), Agro(learning_rate=2e-2, replay_prompts=4)),
    "agro_offline": (OfflinePolicy(), Agro(learning_rate=2e-2)),
    "dynaopt": (WeightedPolicy(weighting=DynaOpt()), RULE),
    "cory": (Cory(swap_every=2), Ppo(learning_rate=2e-2, epochs=4)),
    "emorl": (Emorl(HiddenState(), SIMPLEX), RULE),
    "emorl_sobol": (Emorl(HiddenState(), Sobol(16)), RULE),
    "emorl_ucb": (Emorl(HiddenState(), UcbFront(16, startup=2, pool=32)), RULE),
    "emorl_confirm": (Emorl(HiddenState(), SimplexSubdivision(3, confirm=2)), RULE),
    "single_objective": (SingleObjective(), RULE),
    "one_objective": (SingleObjective("odd"), RULE),
    "param_merge": (Emorl(Soup(), SIMPLEX), RULE),
    "param_merge_uniform": (Emorl(Soup(), None), RULE),
    "dare": (Emorl(Dare(), SIMPLEX), RULE),
    "aim": (Emorl(Aim(Soup(), calibration_prompts=5), SIMPLEX), RULE),
    "aim_uniform": (Emorl(Aim(Soup(), calibration_prompts=5), None), RULE),
    "pareto_set": (ParetoSet(Rloo(learning_rate=2e-2, kl_coefficient=0.0), preferences=2, width=4), RULE),
    "ric": (RewardsInContext(TAGS, levels=[1, 2], offline=0.4), Likelihood(learning_rate=2e-2)),
    "best_of_n": (BestOfN(n=2), RULE),
}
PROMPTS = 140


def small(place: Path, name: str = "run", **changes: Any) -> tuple[Bench, Grader]:
    """A bench with a meter, and what grades its methods."""
    (place / name).mkdir(parents=True, exist_ok=True)
    given: dict[str, Any] = {
        "training": Training(6, 2, validate_every=3, window=3, checkpoint_every=2),
        "sampling": Sampling(5, samples_per_prompt=2),
        "select": word_prompts(4),
        "budget": Budget(prompts=PROMPTS),
        "preferences": PREFERENCES,
        "dir": place / name,
        "experts_dir": place / f"{name}-experts",
    }
    bench = make_bench(place, "gpt2", **(given | changes))
    bench.ledger.limit = bench.budget.prompts
    panel = ScorerPanel([WordShare("even", 0), WordShare("odd", 1)], bench.ledger)
    grader = Grader(
        report=word_prompts(5),
        panel=panel,
        held_out=ScorerPanel([WordShare("even", 0), WordShare("odd", 1)], bench.ledger),
        reference=bench.new_policy("reference").reference(),
        preferences_WK=torch.tensor(PREFERENCES, dtype=torch.float64),
        sampling=Sampling(5, samples_per_prompt=1),
        decoding=("greedy", "sampled"),
        seed=0,
    )
    return bench, grader


def spent(bench: Bench) -> int:
    """Counted here from the phases themselves."""
    parts = ("train", "validate", "search")
    return sum(cost.prompts for name, cost in bench.ledger.phases.items() if name.split("/")[0] in parts)


@pytest.mark.parametrize("prompts", [PROMPTS, PROMPTS - 7])
@pytest.mark.parametrize("name", METHODS)
def test_no_method_spends_more_than_its_budget(tmp_path: Path, name: str, prompts: int) -> None:
    method, rule = METHODS[name]
    bench, grader = small(tmp_path, update=rule, budget=Budget(prompts=prompts))
    grader.grade(method.fit(bench), bench.ledger)
    least = 0.3 if name == "one_objective" else 0.7  # one of two experts is trained
    assert least * prompts < spent(bench) <= prompts
    learners = {phase.split("/")[1] for phase in bench.ledger.phases if phase.startswith("train/")}
    trained = [bench.ledger.phases[f"train/{learner}"].prompts for learner in learners]
    assert min(trained) > 0
    totals = bench.ledger.totals()
    assert totals["data_points_sum"] == spent(bench)
    parts = ("train", "validate", "search")
    assert sum(totals[f"data_points_{part}"] for part in parts) == totals["data_points_sum"]
    assert sum(totals[f"flops_{part}"] for part in parts) == pytest.approx(totals["flops"])


def test_experts_of_an_earlier_run_count_like_ones_trained_here(tmp_path: Path) -> None:
    method, rule = METHODS["emorl"]
    bench, grader = small(tmp_path, update=rule)
    grader.grade(method.fit(bench), bench.ledger)
    again, grader = small(tmp_path, "second", update=rule, experts_dir=bench.runtime.experts_dir)
    grader.grade(method.fit(again), again.ledger)
    assert spent(again) == spent(bench)
    assert again.ledger.phases["search"].prompts == bench.ledger.phases["search"].prompts > 0


@pytest.mark.parametrize("phase", ["train/x", "validate/x", "search"])
def test_the_meter_refuses_whoever_decodes_more(tmp_path: Path, phase: str) -> None:
    bench, _ = small(tmp_path, budget=Budget(prompts=10))
    policy = bench.new_policy("x")
    with bench.ledger.phase(phase):
        policy.generate(word_prompts(6), Sampling(3), stream(0))
        with pytest.raises(UserError, match=rf"budget\.prompts=10: 6 are spent and '{phase}' asks for 5 more"):
            policy.generate(word_prompts(5), Sampling(3), stream(0))
        policy.generate(word_prompts(4), Sampling(3), stream(0))
        blend = HiddenState().blend([policy], torch.ones(1, 1))
        with pytest.raises(UserError, match="10 are spent"):
            blend.generate(word_prompts(1), Sampling(3), stream(0))
    with bench.ledger.phase("evaluate"):
        policy.generate(word_prompts(6), Sampling(3), stream(0))  # the report is nobody's budget


def test_a_budget_that_pays_for_no_step_is_named(tmp_path: Path) -> None:
    bench, _ = small(tmp_path, budget=Budget(prompts=13))
    with pytest.raises(
        UserError, match=r"'policy' may spend 13 of them, but one step and two validations take 6 \+ 2 x 4"
    ):
        WeightedPolicy().fit(bench)
    bench, _ = small(tmp_path, "net", budget=Budget(prompts=33))
    with pytest.raises(UserError, match=r"'hypernetwork' may spend 11 of them"):
        METHODS["pareto_set"][0].fit(bench)
    assert spent(bench) == 0


def test_every_preference_is_searched_before_any_is_searched_further(tmp_path: Path) -> None:
    """The pot pays for seven blends on four prompts: three for all, then what each wants next, in turn."""
    bench, _ = small(tmp_path, budget=Budget(prompts=112))
    front = Emorl(HiddenState(), SIMPLEX).fit(bench)
    policies = [front.policy_for(torch.tensor(p, dtype=torch.float64)) for p in PREFERENCES]
    assert front.evaluations.pot == 28
    rows = [json.loads(line) for line in (bench.dir / "search.jsonl").read_text().splitlines()]
    order = list(dict.fromkeys(tuple(row["preference"]) for row in rows[3:]))
    assert [tuple(row["preference"]) for row in rows[:3]] == [PREFERENCES[0]] * 3
    assert set(order) == set(PREFERENCES)
    assert len({tuple(row["weights"]) for row in rows}) <= 7
    known = {tuple(row["weights"]): row["scores"] for row in rows}
    for preference, policy in zip(PREFERENCES, policies, strict=True):
        worth = {w: sum(p * s for p, s in zip(preference, scores, strict=True)) for w, scores in known.items()}
        mine = front._found[preference]
        assert worth[tuple(round(w, 9) for w in mine.tolist())] == pytest.approx(max(worth.values()))
        assert policy is front.policy_for(torch.tensor(preference, dtype=torch.float64))


def test_a_search_that_cannot_ask_at_all_answers_with_the_nearest_question(tmp_path: Path) -> None:
    bench, _ = small(tmp_path)
    front = Emorl(HiddenState(), SIMPLEX, search_share=0.0).fit(bench)
    for preference in PREFERENCES:
        front.policy_for(torch.tensor(preference, dtype=torch.float64))
    assert {p: tuple(w.tolist()) for p, w in front._found.items()} == {p: p for p in PREFERENCES}
    assert bench.ledger.totals()["data_points_search"] == 0


def test_a_killed_search_walks_the_same_way_again(tmp_path: Path) -> None:
    def answers(bench: Bench) -> dict[tuple[float, ...], list[float]]:
        front = Emorl(HiddenState(), SIMPLEX).fit(bench)
        for preference in PREFERENCES:
            front.policy_for(torch.tensor(preference, dtype=torch.float64))
        return {preference: weights.tolist() for preference, weights in front._found.items()}

    whole, _ = small(tmp_path, "whole")
    expected = answers(whole)
    lines = (whole.dir / "search.jsonl").read_text().splitlines()
    for kept in (1, 3, 5, len(lines)):
        killed, _ = small(tmp_path, f"killed{kept}", experts_dir=whole.runtime.experts_dir)
        (killed.dir / "search.jsonl").write_text("\n".join(lines[:kept]) + '\n{"torn')
        assert answers(killed) == expected
        assert spent(killed) == spent(whole)
        assert paid_by_preference(killed.dir / "search.jsonl") == paid_by_preference(whole.dir / "search.jsonl")


# experts ------------------------------------------------------------------------------------------


def test_an_objective_more_trains_one_expert_and_reuses_the_others(tmp_path: Path) -> None:
    """To the bit, and without asking anything of the others' scorers."""
    three = [WordShare(f"third{k}", k, 3) for k in range(3)]
    four = [WordShare("even", 0), *three]
    each = {"budget": Budget(prompts=400, expert_prompts=40), "experts_dir": tmp_path / "experts"}
    bench, _ = small(tmp_path, "three", scorers=three, preferences=(), **each)
    before = {policy.name: policy.adapter() for policy in expert_bank(bench)}
    made = {path.parts[-3] for path in (tmp_path / "experts").glob("*/*/end.safetensors")}
    bench, _ = small(tmp_path, "four", scorers=four, preferences=(), **each)
    asked: list[int] = []

    def score(rollout: Any, inner: Callable[[Any], torch.Tensor] = bench.score) -> torch.Tensor:
        asked.append(len(rollout.examples))
        return inner(rollout)

    after = {policy.name: policy.adapter() for policy in expert_bank(replace(bench, score=score))}
    assert list(after) == ["even", "third0", "third1", "third2"]
    for name, adapter in before.items():
        assert all(torch.equal(adapter[key], after[name][key]) for key in adapter)
    new = {path.parts[-3] for path in (tmp_path / "experts").glob("*/*/end.safetensors")} - made
    assert [name.split("-")[0] for name in new] == ["even"]
    own = bench.ledger.phases["train/even"].prompts + bench.ledger.phases["validate/even"].prompts
    assert 24 < own <= 40
    assert sum(asked) == 2 * bench.ledger.phases["train/even"].prompts + bench.ledger.phases["validate/even"].prompts


def test_an_expert_does_not_depend_on_who_else_is_trained(tmp_path: Path) -> None:
    """Trained in a bank of two or of four, in either order of objectives: the same checkpoint to the last number."""
    ours = [WordShare("even", 0), WordShare("odd", 1)]
    theirs = [WordShare("third1", 1, 3), WordShare("odd", 1), WordShare("third0", 0, 3), WordShare("even", 0)]
    found = []
    for name, scorers in (("two", ours), ("four", theirs)):
        budget = Budget(prompts=400, expert_prompts=40)
        bench, _ = small(tmp_path, name, scorers=scorers, budget=budget, preferences=(), joint_experts=False)
        panel = ScorerPanel(scorers, bench.ledger)
        bench = replace(bench, score=panel.score).with_runtime(score_only=panel.score_only)
        experts = {policy.name: policy for policy in expert_bank(bench)}
        cost = bench.ledger.phases["train/odd"]
        logged = [row for row in bench.tracker.rows if "eval/odd/utility" in row]  # type: ignore[attr-defined]
        rows = [{key: value for key, value in row.items() if not key.endswith("/seconds")} for row in logged]
        found.append((experts["odd"].adapter(), cost.scored_texts, cost.generated_tokens, rows))
    assert found[0][1:] == found[1][1:]
    assert "eval/odd/odd" in found[0][3][0]
    assert "eval/odd/even" not in found[0][3][0]
    assert all(torch.equal(found[0][0][key], found[1][0][key]) for key in found[0][0])


def test_a_larger_amount_goes_on_from_a_smaller_one(tmp_path: Path) -> None:
    bench, _ = small(tmp_path, "straight")
    straight = {p.name: p.adapter() for p in expert_bank(replace(bench, budget=Budget(prompts=140)))}
    bench, _ = small(tmp_path, "climbing")
    expert_bank(replace(bench, budget=Budget(prompts=60)))
    tokens = {name: cost.trained_tokens for name, cost in bench.ledger.phases.items()}
    bench, _ = small(tmp_path, "climbing")
    trained: list[int] = []

    def score(rollout: Any, inner: Callable[[Any], torch.Tensor] = bench.score) -> torch.Tensor:
        trained.append(rollout.group_size)
        return inner(rollout)

    bench = replace(bench, score=score)
    climbed = {p.name: p.adapter() for p in expert_bank(replace(bench, budget=Budget(prompts=140)))}
    for name, adapter in straight.items():
        assert all(torch.equal(adapter[key], climbed[name][key]) for key in adapter)
        assert bench.ledger.phases[f"train/{name}"].trained_tokens > tokens[f"train/{name}"] > 0
    places = [expert_dir(bench, "odd", Budget(prompts=prompts)) for prompts in (30, 70)]
    assert all((place / "end.safetensors").exists() for place in places)
    steps = bench.ledger.phases["train/odd"].prompts // 6
    assert trained.count(2) == 2 * (steps - 3)  # 30 prompts had paid for three steps of each


def test_what_experts_may_spend(tmp_path: Path) -> None:
    bench, _ = small(tmp_path)
    assert expert_budget(bench).prompts == 70
    assert expert_budget(bench, reserve=0.25).prompts == 52
    assert expert_budget(bench, learners=3).prompts == 46
    each = replace(bench, budget=Budget(prompts=PROMPTS, expert_prompts=40))
    assert expert_budget(each, reserve=0.25).prompts == 40
    with pytest.raises(UserError, match=r"budget\.expert_prompts=60: 2 experts take 120 of 105 prompts"):
        expert_budget(replace(bench, budget=Budget(prompts=PROMPTS, expert_prompts=60)), reserve=0.25)
    with pytest.raises(UserError, match=r"method\.search_share=1\.0: give a share"):
        expert_budget(bench, reserve=1.0)
    assert Budget(96, 8, None, 3.0, 12).scaled(0.25) == Budget(24, 2, None, 0.75, 3)
    assert Budget(prompts=10).scaled(0.7).prompts == 7  # and not 6, where 10 * 0.7 is a little less than 7


@dataclass(frozen=True)
class Counting(WordShare):
    """Remembers how many texts it was asked for, each time."""

    asked: list[int] = field(default_factory=list)

    def score(self, examples: Any, responses: Any) -> torch.Tensor:
        self.asked.append(len(responses))
        return super().score(examples, responses)


def test_training_asks_anew_and_one_objective_asks_one_scorer(tmp_path: Path) -> None:
    bench, _ = small(tmp_path)
    even, odd = Counting("even", 0), Counting("odd", 1)
    panel = ScorerPanel([even, odd], bench.ledger)
    rollout = bench.new_policy("p").generate(word_prompts(3), Sampling(5), stream(0))
    with bench.ledger.phase("train/odd") as cost:
        first = panel.score_only("odd", rollout)
        assert torch.equal(panel.score_only("odd", rollout), first)
    assert (even.asked, odd.asked) == ([], [3, 3])
    assert (cost.scorer_calls, cost.scored_texts) == (2, 6)
    with bench.ledger.phase("search") as cost:
        assert torch.equal(panel.score(rollout)[:, 1], first)
        panel.score(rollout)
        panel.score_only("even", rollout)
    assert (even.asked, odd.asked) == ([3], [3, 3, 3])
    assert (cost.scorer_calls, cost.scored_texts) == (2, 6)
    panel.forget()
    panel.score(rollout)
    assert even.asked == [3, 3]


# ladders ------------------------------------------------------------------------------------------


@dataclass
class Directory:
    """As much of a run directory as a ladder needs."""

    path: Path
    ranks: Any = ALONE
    noted: list[str] = field(default_factory=list)

    def note(self, **changes: Any) -> None:
        self.noted.append(changes["phase"])

    def read_json(self, name: str) -> dict[str, Any] | None:
        path = self.path / name
        return json.loads(path.read_text()) if path.exists() else None

    def write_json(self, name: str, value: Any) -> None:
        (self.path / name).write_text(json.dumps(value))


@dataclass
class Repeats:
    """A tracker that counts its sessions."""

    sessions: int = 0

    def log(self, metrics: Any, *, step: int) -> None: ...
    def table(self, name: str, rows: Any) -> None: ...
    def close(self, status: str) -> None: ...
    def again(self) -> None:
        self.sessions += 1


def climbed(
    place: Path, name: str, shares: list[float], run: str
) -> tuple[dict[str, Any], dict[str, float], list[Any]]:
    """Grades of the last rung, its cost, and the rungs below."""
    method, rule = METHODS[name]
    bench, grader = small(place, run, update=rule)
    directory = Directory(bench.dir)
    last, rows = Ladder(shares, bench, method, grader, directory, Repeats()).climb()  # type: ignore[arg-type]
    grades = grader.grade(method.fit(last), bench.ledger)
    assert spent(bench) <= PROMPTS
    return grades.summary["decoding"], bench.ledger.totals(), rows


EXACT = ("data_points_train", "data_points_validate", "data_points_search", "samples", "optimiser_steps")


@pytest.mark.parametrize("name", METHODS)
def test_the_last_rung_is_the_run_without_a_ladder(tmp_path: Path, name: str) -> None:
    whole, cost, none = climbed(tmp_path, name, [1.0], "whole")
    grades, total, rows = climbed(tmp_path, name, [0.35, 0.6, 1.0], "ladder")
    assert none == []
    assert grades == whole
    assert {key: total[key] for key in EXACT} == {key: cost[key] for key in EXACT}
    assert [row["share"] for row in rows] == [0.35, 0.6]
    for row in rows:
        assert row["data_points"] <= row["prompts"] == int(PROMPTS * row["share"] + 1e-6)
        assert list(row["decoding"]) == ["greedy"]
        assert len(row["decoding"]["greedy"]["points"]) == len(PREFERENCES)


@pytest.mark.parametrize("name", ["weighted_scst", "emorl", "cory"])
def test_a_rung_is_the_run_with_that_budget(tmp_path: Path, name: str) -> None:
    _, _, rows = climbed(tmp_path, name, [0.35, 0.6, 1.0], "ladder")
    method, rule = METHODS[name]
    bench, grader = small(tmp_path, "alone", update=rule, budget=Budget(prompts=PROMPTS).scaled(0.6))
    grades = grader.grade(method.fit(bench), bench.ledger)
    assert rows[1]["decoding"]["greedy"] == grades.summary["decoding"]["greedy"]
    assert rows[1]["data_points"] == spent(bench)


def test_a_rung_that_pays_for_no_training_is_the_base(tmp_path: Path) -> None:
    for name in ("cory", "emorl", "pareto_set"):
        _, _, rows = climbed(tmp_path, name, [0.1, 1.0], name)
        _, grader = small(tmp_path, f"base-{name}")
        base = grader._grade_policy(grader.reference, 0, Grades())
        assert rows[0]["decoding"]["greedy"]["points"][0]["mean_reward"] == pytest.approx(base["greedy"]["mean_reward"])


def test_rungs_that_are_done_are_not_climbed_again(tmp_path: Path) -> None:
    method, rule = METHODS["weighted_scst"]
    bench, grader = small(tmp_path, update=rule)
    ladder = Ladder([0.35, 0.6, 1.0], bench, method, grader, Directory(bench.dir), Repeats())  # type: ignore[arg-type]
    _, rows = ladder.climb()
    for kept in (1, 2):
        if kept == 1:
            (bench.dir / "rungs" / "0.6" / "rung.json").unlink()
        again = Directory(bench.dir)
        _, same = replace(ladder, directory=again, tracker=Repeats()).climb()  # type: ignore[arg-type]
        assert [row["decoding"] for row in same] == [row["decoding"] for row in rows]
        assert [row["data_points"] for row in same] == [row["data_points"] for row in rows]
        assert again.noted == ["rung 0.6"][: 2 - kept]


# what change costs --------------------------------------------------------------------------------


def phases(**prompts: int) -> dict[str, Cost]:
    return {name.replace("__", "/"): Cost(prompts=n, flops=10.0 * n) for name, n in prompts.items()}


def test_a_blend_pays_for_a_search_and_an_objective_for_one_expert() -> None:
    spent = phases(train__a=30, validate__a=10, train__b=50, validate__b=10, search=24, evaluate=99)
    paid = {(1.0, 0.0): 12, (0.5, 0.5): 8, (0.0, 1.0): 4}
    found = change(spent, ("a", "b"), paid, one_policy=False)
    assert found["first_preference"] == {"prompts": 112, "flops": pytest.approx(1120)}
    assert found["next_preference"] == {"prompts": 6, "flops": pytest.approx(60)}
    assert found["next_objective"] == {"prompts": 50 + 12, "flops": pytest.approx(620)}


def test_one_policy_is_trained_anew_and_a_network_with_its_expert() -> None:
    one = phases(train__policy=30, validate__policy=10)
    assert {k: v["prompts"] for k, v in change(one, ("a", "b"), {}, one_policy=True).items()} == {
        "first_preference": 40,
        "next_preference": 40,
        "next_objective": 40,
    }
    assert change(one, ("a", "b"), {}, one_policy=False)["next_preference"]["prompts"] == 0  # it reads the preference
    net = phases(train__a=10, train__b=20, train__net=40)
    assert {k: v["prompts"] for k, v in change(net, ("a", "b"), {}, one_policy=False).items()} == {
        "first_preference": 70,
        "next_preference": 0,
        "next_objective": 55,
    }
    assert change(phases(), ("a", "b"), {}, one_policy=True)["next_objective"]["prompts"] == 0


def test_totals_by_part() -> None:
    ledger = Ledger()
    ledger.phases |= phases(setup=5, train__a=30, validate__a=10, train__b=50, search=7, evaluate=99)
    found = ledger.totals()
    assert [found[f"data_points_{part}"] for part in ("train", "validate", "search")] == [80, 10, 7]
    assert [found[f"flops_{part}"] for part in ("train", "validate", "search")] == [800, 100, 70]
    assert (found["data_points_sum"], found["data_points_max"], found["data_points_train_max"]) == (97, 57, 50)
    ledger.restart(60)
    assert (list(ledger.phases), ledger.left) == (["setup"], 60)
