"""The training loop and every method on random tiny models: they learn, stop, resume, share experts and count."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest
import torch
from conftest import WordShare, word_prompts
from filelock import FileLock

from baselines.base import Base
from baselines.cory import Cory
from baselines.param_merge import Soup
from baselines.single_objective import SingleObjective
from baselines.weighted_policy import WeightedPolicy
from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Budget, Sampling, Training
from emorl_bench.emorl import Emorl
from emorl_bench.ensemble.blending import HiddenState
from emorl_bench.models.backbone import fingerprint
from emorl_bench.rl.experts import expert, expert_bank, expert_budget, expert_dir
from emorl_bench.rl.loop import train
from emorl_bench.rl.ppo import Ppo
from emorl_bench.rl.scst import Scst
from emorl_bench.rl.weighting import one_hot
from emorl_bench.search.simplex import SimplexSubdivision

SEARCH = SimplexSubdivision(2)
METHODS = [
    Emorl(HiddenState(), SEARCH),
    Emorl(Soup(), SEARCH),
    Emorl(Soup(), None),
    WeightedPolicy([0.9, 0.1]),
    Cory([0.9, 0.1], swap_every=1),
    SingleObjective(),
    SingleObjective("odd"),
    Base(),
]
SAMPLED = Sampling(8, 1.0, 8)


class Killed(BaseException):
    """Stands for kill -9: nothing gets to clean up after it."""


@pytest.mark.parametrize(
    "rule",
    [Scst(learning_rate=2e-2, kl_coefficient=0.0), Ppo(learning_rate=2e-2, epochs=4)],
    ids=lambda r: type(r).__name__,
)
def test_training_improves_its_own_objective(bench, architecture, rule):
    if architecture == "llama":
        pytest.skip("the smoke matrix is the two embedded architectures")
    made = bench(architecture, steps=24, update=rule)
    policy = made.new_policy("even")
    before = made.score(policy.generate(word_prompts(24), SAMPLED, stream(9))).mean(0)
    train(made, policy, one_hot(0, 2, "linear"), name="even", budget=made.budget)
    after = made.score(policy.generate(word_prompts(24), SAMPLED, stream(9))).mean(0)
    assert after[0] > before[0] + 0.15
    assert ("train/even/kl" in made.tracker.rows[1]) == (rule.kl_coefficient > 0)  # else the base makes no pass
    assert made.ledger.phases["train/even"].prompts == 24 * 6
    assert made.ledger.phases["validate/even"].prompts == 7 * 8


def test_same_seed_same_training_and_another_seed_another(bench, tmp_path):
    def adapter(seed, directory):
        made = bench("t5", steps=12, seed=seed, dir=tmp_path / directory)
        return train(made, made.new_policy("p"), one_hot(0, 2, "linear"), name="p", budget=made.budget).adapter()

    first, again, other = adapter(0, "first"), adapter(0, "again"), adapter(1, "other")
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)


@pytest.mark.parametrize(
    "rule",
    [Scst(learning_rate=2e-2, kl_coefficient=0.0), Ppo(learning_rate=2e-2, kl_target=1.0, epochs=4)],
    ids=lambda r: type(r).__name__,
)
@pytest.mark.parametrize("method", [WeightedPolicy(), Cory(swap_every=1)], ids=lambda m: type(m).__name__)
def test_resume_after_a_kill_equals_an_uninterrupted_run(tmp_path, bench, rule, method):
    whole = bench("t5", steps=6, update=rule, dir=tmp_path / "whole")
    expected = method.fit(whole).policy.adapter()

    deaths = 0
    while True:
        made = bench("t5", steps=6, update=rule, dir=tmp_path / "killed")
        calls = 0

        def score(rollout, made=made, inner=made.score):
            nonlocal calls
            calls += 1
            if calls == 8:
                raise Killed
            return inner(rollout)

        try:
            resumed = method.fit(replace(made, score=score)).policy.adapter()
            break
        except Killed:
            deaths += 1
            assert deaths < 20
    assert deaths >= 1
    assert all(torch.equal(expected[k], resumed[k]) for k in expected)
    name = "cory" if isinstance(method, Cory) else "policy"
    mine, theirs = made.ledger.phases[f"train/{name}"], whole.ledger.phases[f"train/{name}"]
    assert (mine.prompts, mine.generated_tokens, mine.optimiser_steps) == (
        theirs.prompts,
        theirs.generated_tokens,
        theirs.optimiser_steps,
    )


def test_best_checkpoint_is_what_the_policy_ends_with(bench):
    made = bench("t5", steps=12)
    policy = train(made, made.new_policy("p"), one_hot(0, 2, "linear"), name="p", budget=made.budget)
    utilities = [row["eval/p/utility"] for row in made.tracker.rows if "eval/p/utility" in row]
    greedy = Sampling(8, 0.0)
    final = made.score(policy.generate(made.select, greedy, stream(0, "validate"))).mean(0)[0].item()
    assert final == pytest.approx(max(utilities))


@pytest.mark.parametrize("stops", [True, False])
def test_convergence_is_recorded_and_ends_training_only_where_it_is_told_to(bench, stops):
    steady = Training(6, 4, validate_every=1, window=3, variation=0.5, stop_when_converged=stops)
    made = bench("gpt2", steps=5, training=steady, update=Scst(learning_rate=1e-5, kl_coefficient=0.0))
    train(made, made.new_policy("p"), one_hot(0, 2, "linear"), name="p", budget=made.budget)
    assert made.ledger.converged_at == {"p": 2 * 6}  # validated before the first step as well
    assert made.ledger.phases["train/p"].prompts == (2 if stops else 5) * 6
    again = bench("gpt2", steps=5, training=steady, update=Scst(learning_rate=1e-5, kl_coefficient=0.0), score=None)
    train(again, again.new_policy("p"), one_hot(0, 2, "linear"), name="p", budget=again.budget)
    assert again.ledger.converged_at == {"p": 2 * 6}


def test_experts_are_trained_once_and_charged_to_everyone(bench):
    first = bench("t5")
    adapters = [e.adapter() for e in expert_bank(first)]
    second = bench("t5", score=None)  # whoever trains needs scores: the second bench must not
    again = [e.adapter() for e in expert_bank(second)]
    assert all(torch.equal(a[k], b[k]) for a, b in zip(adapters, again, strict=True) for k in a)
    spent, again = first.ledger.totals(), second.ledger.totals()
    assert again["data_points_train"] == spent["data_points_train"] == 2 * 2 * 6
    assert again["data_points_validate"] == spent["data_points_validate"] == 2 * 2 * 8
    assert again["data_points_max"] == 2 * 6 + 2 * 8
    assert [r for r in second.tracker.rows if "eval/odd/utility" in r] == [
        r for r in first.tracker.rows if "eval/odd/utility" in r
    ]
    other = bench("t5", fingerprint="other data", score=None)
    with pytest.raises(TypeError):
        expert_bank(other)


def test_whoever_comes_second_waits_for_the_expert(bench, capsys):
    trained = expert(bench("t5"), "even").adapter()
    made = bench("t5", score=None)
    held = threading.Event()

    def trainer():
        with FileLock(expert_dir(made, "even", expert_budget(made)) / "lock"):
            held.set()
            time.sleep(0.5)

    threading.Thread(target=trainer).start()
    held.wait()
    started = time.monotonic()
    waited = expert(made, "even").adapter()
    assert time.monotonic() - started > 0.4
    assert "another process is training it" in capsys.readouterr().err
    assert all(torch.equal(trained[k], waited[k]) for k in trained)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_every_method_answers_every_preference(bench, architecture, method):
    if architecture == "llama":
        pytest.skip("the smoke matrix is the two embedded architectures")
    made = bench(architecture)
    solution = method.fit(made)
    for preference in ([1.0, 0.0], [0.5, 0.5]):
        rollout = solution.policy_for(torch.tensor(preference)).generate(word_prompts(3), SAMPLED, stream(1))
        assert made.score(rollout).shape == (24, 2)


def test_emorl_follows_the_preference_and_pays_for_each_candidate_once(bench):
    made = bench("gpt2", steps=60)
    front = Emorl(HiddenState(), SimplexSubdivision(3)).fit(made)
    scores = {}
    for name, preference in (("even", [1.0, 0.0]), ("odd", [0.0, 1.0])):
        rollout = front.policy_for(torch.tensor(preference)).generate(word_prompts(16), Sampling(8, 0.0), stream(1))
        scores[name] = made.score(rollout).mean(0)
    assert scores["even"][0] > scores["odd"][0] + 0.2
    assert scores["odd"][1] > scores["even"][1] + 0.2
    cost = made.ledger.phases["search"]
    paid = len({tuple(k) for k in front.evaluations.memory})
    assert cost.evaluations == paid < cost.evaluations_asked == 2 * SimplexSubdivision(3).evaluations(2)
    assert cost.prompts == paid * len(made.select)


def test_search_is_remembered_across_a_restart(bench):
    made = bench("t5")
    weights = Emorl(HiddenState(), SEARCH).fit(made)
    weights.policy_for(torch.tensor([0.5, 0.5]))
    (made.dir / "search.jsonl").open("a").write('{"preference": [0.5, 0')  # torn by a kill
    again = replace(bench("t5"), score=None)
    front = Emorl(HiddenState(), SEARCH).fit(again)
    front.policy_for(torch.tensor([0.5, 0.5]))
    assert front.evaluations.memory.keys() == weights.evaluations.memory.keys()
    assert again.ledger.phases["search"].evaluations == made.ledger.phases["search"].evaluations


def test_cory_swaps_roles_and_both_agents_read_and_learn(bench):
    made = bench("t5", steps=8, update=Scst(kl_coefficient=1e-4))
    solution = Cory(swap_every=2, deploy="second").fit(made)
    rows = [row for row in made.tracker.rows if "train/cory/reward" in row]
    assert len(rows) == 4  # two agents decode, so half the iterations spend the same budget
    assert made.ledger.phases["train/cory"].prompts == 8 * 6
    assert {"train/cory/first/kl", "train/cory/second/kl"} <= rows[0].keys()
    assert solution.policy.name == "second"
    assert all(rows[0][f"train/cory/{agent}/kl"] == pytest.approx(0, abs=1e-6) for agent in ("first", "second"))
    assert all(abs(rows[-1][f"train/cory/{agent}/kl"]) > 1e-5 for agent in ("first", "second"))


def test_one_objective_is_refused_where_two_are_needed(bench):
    made = bench("t5", scorers=[WordShare("even", 0)])
    with pytest.raises(UserError, match="at least 2 objectives"):
        Emorl(HiddenState(), SEARCH).fit(made)


@pytest.mark.parametrize("weights", [[0.5, 0.2], [0.5, 0.2, 0.3], [1.5, -0.5]])
def test_bad_weights_are_refused(bench, weights):
    with pytest.raises(UserError, match=r"method\.weights"):
        WeightedPolicy(weights).fit(bench("t5"))


def test_a_frozen_bench_trains_nothing(bench):
    with pytest.raises(UserError, match="never trained"):
        WeightedPolicy().fit(bench("t5", frozen=True))


def test_a_damaged_checkpoint_is_named(bench):
    made = bench("t5")
    WeightedPolicy().fit(made)
    path = made.dir / "checkpoints" / "policy" / "end.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="damaged"):
        WeightedPolicy().fit(bench("t5"))


def test_a_checkpoint_of_another_base_is_refused(bench):
    WeightedPolicy().fit(bench("t5"))
    other = bench("t5")
    policy = other.new_policy("policy")
    next(policy.backbone.model.parameters()).data += 1
    policy.backbone._fingerprint = fingerprint(policy.backbone.model)
    with pytest.raises(UserError, match="trained on base model"):
        WeightedPolicy().fit(other)


@pytest.mark.parametrize(
    ("returned", "words"),
    [(float("nan"), "nan"), (1.5, "1.5"), (-0.2, "bounds")],
)
def test_a_scorer_that_leaves_its_bounds_is_named_with_the_text(bench, returned, words):
    class Broken(WordShare):
        def score(self, examples, responses):
            return torch.full((len(responses),), returned)

    made = bench("t5", scorers=[WordShare("even", 0), Broken("broken", 1)])
    with pytest.raises(UserError, match=f"'broken'.*{words}"):
        WeightedPolicy().fit(made)


def test_a_scorer_of_the_wrong_shape_is_named(bench):
    class Flat(WordShare):
        def score(self, examples, responses):
            return torch.tensor(0.5)

    with pytest.raises(UserError, match="'flat': returned shape"):
        WeightedPolicy().fit(bench("t5", scorers=[Flat("flat", 0), WordShare("odd", 1)]))


def test_ledger_totals_are_maximum_and_sum():
    ledger = Ledger()
    for name, prompts in (("a", 10), ("b", 30)):
        with ledger.phase(f"train/{name}") as cost:
            cost.prompts += prompts
    with ledger.phase("search") as cost:
        cost.prompts += 5
    totals = ledger.totals()
    assert (totals["data_points_max"], totals["data_points_sum"]) == (35, 45)
    assert Budget(prompts=90).share(3).prompts == 30
