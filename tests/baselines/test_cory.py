"""CORY in full: what the observer reads, who has which role, what each learner is told, and how both are graded."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import MemoryTracker, WordShare, make_bank, make_bench, word_prompts
from support.composing import composed
from torch import Tensor

from baselines.cory import AGENTS, Cory, checked, filled
from baselines.weighted_policy import WeightedPolicy
from emorl_bench.config.compose import conf_dir, plain
from emorl_bench.config.targets import check_targets
from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.protocols import Bench, Learner, Policy
from emorl_bench.core.seeds import stream
from emorl_bench.core.solutions import OnePolicy
from emorl_bench.core.types import Budget, Rollout, Sampling
from emorl_bench.policies.adapter_policy import AdapterPolicy
from emorl_bench.rl.ppo import Ppo
from emorl_bench.rl.scst import Scst
from emorl_bench.runner.evaluate import Grader
from emorl_bench.runner.fingerprints import method_settings_hash
from emorl_bench.scorers.panel import ScorerPanel

RULE = Ppo(learning_rate=2e-2, value_learning_rate=2e-2, epochs=1)
SETS: dict[str, dict[str, Any]] = {
    "cory_reference": {"template": "reference"},
    "cory_no_transfer": {"template": None},
    "cory_no_swap": {"swap_every": None},
    "cory_individual": {"share_reward": False},
    "ppo_matched": {"batches": 2},
}
ABLATIONS = {
    "cory": Cory([0.9, 0.1], swap_every=2),
    "cory_no_transfer": Cory([0.9, 0.1], swap_every=2, template=None),
    "cory_no_swap": Cory([0.9, 0.1], swap_every=None),
    "cory_individual": Cory([0.9, 0.1], swap_every=2, share_reward=False),
}


@dataclass
class Heard:
    """Everything that a method asks of a bench, in order."""

    said: list[tuple[str, Rollout]] = field(default_factory=list)  # agent and what it answered in training
    told: list[tuple[str, Rollout, Tensor]] = field(default_factory=list)

    def listening(self, bench: Bench) -> Bench:
        heard = self

        @dataclass(frozen=True)
        class Spy(AdapterPolicy):
            def generate(self, examples: Any, sampling: Sampling, rng: torch.Generator) -> Rollout:
                rollout = super().generate(examples, sampling, rng)
                if sampling.temperature:
                    heard.said.append((self.name, rollout))
                return rollout

        class Rule:
            def learner(self, policy: Policy, ledger: Ledger, objectives: Sequence[str] = ()) -> Learner:
                learner = bench.update.learner(policy, ledger, objectives)
                step = learner.step

                def told(rollout: Rollout, rewards_B: Tensor, rng: torch.Generator) -> Any:
                    heard.told.append((policy.name, rollout, rewards_B))
                    return step(rollout, rewards_B, rng)

                learner.step = told  # type: ignore[method-assign]
                return learner

        def new_policy(name: str) -> Policy:
            plain = bench.new_policy(name)
            return Spy(plain.name, plain.decoder, plain.own)  # type: ignore[attr-defined]

        return replace(bench, update=Rule(), new_policy=new_policy)


def fitted(bench: Bench, method: Cory) -> Heard:
    heard = Heard()
    method.fit(heard.listening(bench))
    return heard


@pytest.mark.parametrize("architecture", ["t5", "gpt2"])
@pytest.mark.parametrize("name", ABLATIONS)
def test_both_agents_learn(bench: Callable[..., Bench], architecture: str, name: str) -> None:
    made = bench(architecture, steps=12, update=Scst(learning_rate=6e-2, kl_coefficient=0.0))
    sampled = Sampling(6, 1.0, 4)
    base = made.new_policy("base").generate(word_prompts(24), sampled, stream(9))
    solution = ABLATIONS[name].fit(made)
    before = made.score(base).mean(0)[0]
    for agent in AGENTS:
        rollout = solution.members[agent].policy.generate(word_prompts(24), sampled, stream(9))  # type: ignore[attr-defined]
        assert made.score(rollout).mean(0)[0] > before + 0.1
    assert all(math.isfinite(value) for row in made.tracker.rows for value in row.values())  # type: ignore[attr-defined]


def test_the_observer_reads_what_the_template_says(bench: Callable[..., Bench], tmp_path: Path) -> None:
    forms: Mapping[str | None, Callable[[str, str], str]] = {
        "again": lambda p, r: f"{p} {r} {p}",
        "reference": lambda p, r: f"{p}\nSomebody's answer, for reference, right or wrong: {r}",
        "w4 {response} w5 {prompt}": lambda p, r: f"w4 {r} w5 {p}",
        None: lambda p, r: p,
    }
    for template, form in forms.items():
        heard = fitted(bench("t5", steps=2, dir=tmp_path / str(template)[:5]), Cory(template=template))
        said = heard.said
        assert {rollout.group_size for _, rollout, _ in heard.told} == {4}, "samples of a prompt stay one group"
        assert [name for name, _ in said] == ["first", "second"]
        (_, first), (_, second) = said[0], heard.told[1][:2]
        expected = [form(e.prompt, r) for e, r in zip(first.examples, first.responses, strict=True)]
        assert [e.context for e in second.examples] == expected
        assert [e.prompt for e in second.examples] == [e.prompt for e in first.examples]
        assert second.responses != first.responses


@pytest.mark.parametrize(("swap_every", "pioneers"), [(1, "fsfsf"), (2, "ffssf"), (None, "fffff")])
def test_roles_over_iterations(bench: Callable[..., Bench], swap_every: int | None, pioneers: str) -> None:
    said = fitted(bench("gpt2", steps=10), Cory(swap_every=swap_every)).said
    assert "".join(name[0] for name, _ in said[::2]) == pioneers
    assert all(e.shown is None for _, rollout in said[::2] for e in rollout.examples)
    assert all(first[0] != second[0] for first, second in zip(said[::2], said[1::2], strict=True))


@pytest.mark.parametrize("shared", [True, False])
def test_what_each_learner_is_told(bench: Callable[..., Bench], shared: bool) -> None:
    made = bench("gpt2", steps=4)
    told = fitted(made, Cory([0.7, 0.3], swap_every=1, share_reward=shared)).told
    assert [name for name, *_ in told] == ["first", "second", "second", "first"]
    for pair in (told[:2], told[2:]):
        own = [made.score(rollout) @ torch.tensor([0.7, 0.3]) for _, rollout, _ in pair]
        for (_, _, rewards_B), mine_B in zip(pair, own, strict=True):
            torch.testing.assert_close(rewards_B, own[0] + own[1] if shared else mine_B)
    rows = [row for row in made.tracker.rows if "train/cory/reward" in row]  # type: ignore[attr-defined]
    means = {name: rewards_B.mean().item() for name, _, rewards_B in told[:2]}
    assert {name: rows[0][f"train/cory/{name}/reward"] for name in AGENTS} == pytest.approx(means)
    # What the pair is shown by is on the scale of one agent's reward, as the rewards of all other methods are.
    assert rows[0]["train/cory/reward"] == pytest.approx(sum(means.values()) / (4 if shared else 2))
    for key in ("even", "odd", "length"):
        both = [rows[0][f"train/cory/{name}/{key}"] for name in AGENTS]
        assert rows[0][f"train/cory/{key}"] == pytest.approx(sum(both) / 2)


def test_observations_that_are_cut_are_counted(bench: Callable[..., Bench], tmp_path: Path) -> None:
    """The tiny models read 64 tokens: a prompt and an answer fit, those and the prompt again never do."""
    long = [replace(e, prompt=" ".join(["w4"] * 40 + [e.prompt])) for e in word_prompts(24)]
    limit = make_bank("t5").backbone.reader.limit
    for i, (template, reads) in enumerate((("again", 2), ("{prompt} {response}", 1), (None, 1))):
        made = bench("t5", steps=2, train=long, dir=tmp_path / str(i))
        ((_, _), (_, second)) = fitted(made, Cory(template=template)).said
        expected = sum(len(e.context.split()) + 1 > limit for e in second.examples)
        assert (expected == len(second.examples)) == (reads == 2)
        (row,) = (row for row in made.tracker.rows if "train/cory/reward" in row)  # type: ignore[attr-defined]
        assert row["train/cory/second/truncated"] == expected
        assert "train/cory/first/truncated" not in row


def test_a_template_is_filled_in_one_pass() -> None:
    assert filled("{prompt} {x} {response}", "a {response}", "{prompt}") == "a {response} {x} {prompt}"
    for wrong in ("agian", "{prompt}", "{response}", "{prompt} {respons}", ""):
        with pytest.raises(UserError, match=r"method\.template=.*give again, sentence, reference, a text with"):
            checked(wrong)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("method.deploy=third", "give first or second or best"),
        ("method.share_reward=some", "give true or false"),
        ("method.swap_every=often", "give a whole number or null"),
    ],
)
def test_bad_settings_are_named_before_anything_starts(override: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        check_targets(plain(composed("method=cory", override)))


def test_bad_numbers_are_refused_in_one_line(bench: Callable[..., Bench]) -> None:
    for method, says in ((Cory(swap_every=0), "null for no swap"), (WeightedPolicy(batches=0), "1 or more batches")):
        with pytest.raises(UserError, match=says) as caught:
            method.fit(bench("t5"))  # type: ignore[attr-defined]
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", SETS)
def test_each_has_a_yaml_that_sets_it_and_nothing_else(name: str) -> None:
    config = plain(composed(f"method={name}"))
    check_targets(config)
    assert config["update"]["_target_"].endswith("Ppo")
    whole = plain(composed("method=weighted_ppo" if name == "ppo_matched" else "method=cory"))["method"]
    assert config["method"] == whole | SETS[name] != whole


def test_the_command_line_outranks_the_update_rule_of_an_ablation() -> None:
    assert composed("method=cory_no_swap", "update=scst")["update"]["_target_"].endswith("Scst")


def test_matched_ppo_spends_in_each_iteration_what_both_agents_spend(
    bench: Callable[..., Bench], tmp_path: Path
) -> None:
    rows, costs = {}, {}
    for name, method in (("cory", Cory()), ("policy", WeightedPolicy(batches=2)), ("half", WeightedPolicy())):
        made = bench("gpt2", steps=6, update=Scst(kl_coefficient=0.0), dir=tmp_path / name)
        method.fit(made)  # type: ignore[attr-defined]
        found = [row for row in made.tracker.rows if any(key.startswith("train/") for key in row)]  # type: ignore[attr-defined]
        rows[name] = [row["data_points"] for row in found]
        phase = made.ledger.phases["train/cory" if name == "cory" else "train/policy"]
        costs[name] = (phase.prompts, phase.samples, phase.scored_texts)
    assert rows["cory"] == rows["policy"] == [12, 24, 36]
    assert rows["half"] == [6, 12, 18, 24, 30, 36]
    assert costs["cory"] == costs["policy"] == costs["half"] == (36, 144, 2 * 144)


# both agents graded -----------------------------------------------------------------------------------
def grader(bank: Any) -> Grader:
    scorers = [WordShare("even", 0), WordShare("odd", 1)]
    return Grader(
        report=word_prompts(30)[24:],
        panel=ScorerPanel(scorers, Ledger()),
        held_out=ScorerPanel(scorers, Ledger()),
        reference=bank.new_policy("reference").reference(),
        preferences_WK=torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]], dtype=torch.float64),
        sampling=Sampling(8),
        decoding=("greedy", "sampled"),
        seed=0,
    )


def test_both_agents_are_graded_as_if_each_were_deployed(bench: Callable[..., Bench]) -> None:
    made = bench("gpt2", steps=4, update=RULE)
    solution = Cory([0.9, 0.1]).fit(made)
    judge = grader(made.new_policy.__self__)  # type: ignore[attr-defined]
    grades = judge.grade(solution, Ledger())
    members = grades.summary["members"]
    assert [member["deployed"] for member in members.values()].count(True) == 1
    for name in AGENTS:
        alone = judge.grade(OnePolicy(solution.members[name].policy), Ledger()).summary  # type: ignore[attr-defined]
        assert "members" not in alone
        for decoding in ("greedy", "sampled"):
            assert members[name]["decoding"][decoding] == alone["decoding"][decoding]["uniform"]
        if members[name]["deployed"]:
            assert alone["decoding"] == grades.summary["decoding"]
            others = [row for row in grades.member_rows if row["member"] == name]
            assert not others, "what is deployed is in samples already"
    assert len(grades.member_rows) == 2 * 6
    assert grades.summary["single_point"]
    json.dumps(grades.summary, allow_nan=False)


def test_validation_is_that_of_the_adapter_that_is_kept(bench: Callable[..., Bench]) -> None:
    made = bench("t5", steps=8, update=RULE)
    solution = Cory([0.9, 0.1], swap_every=1).fit(made)
    greedy = Sampling(8, 0.0)
    utilities = {}
    for name, member in solution.members.items():  # type: ignore[attr-defined]
        scores_K = made.score(member.policy.generate(made.select, greedy, stream(0, "validate"))).mean(0)
        assert [member.select["even"], member.select["odd"]] == pytest.approx(scores_K.tolist())
        assert member.select["mean_reward"] == pytest.approx(scores_K.mean().item())
        utilities[name] = 0.9 * member.select["even"] + 0.1 * member.select["odd"]
    assert utilities[solution.deployed] == max(utilities.values())  # type: ignore[attr-defined]


def test_a_resumed_pair_has_the_members_of_one_that_was_left_alone(tmp_path: Path) -> None:
    whole = Cory(swap_every=1).fit(make_bench(tmp_path, "gpt2", steps=4))
    again = Cory(swap_every=1).fit(make_bench(tmp_path, "gpt2", frozen=True, tracker=MemoryTracker(), budget=Budget(0)))
    for name in AGENTS:
        ours, theirs = (s.members[name] for s in (whole, again))  # type: ignore[attr-defined]
        assert ours.select == theirs.select
        assert all(torch.equal(v, theirs.policy.adapter()[k]) for k, v in ours.policy.adapter().items())


@pytest.mark.parametrize("method", [f.stem for f in (conf_dir() / "method").glob("*.yaml") if "seed:" in f.read_text()])
def test_a_search_that_follows_the_run_s_seed_is_the_same_method(method: str) -> None:
    assert len({method_settings_hash(plain(composed(f"method={method}", f"seed={seed}"))) for seed in (0, 1)}) == 1


def test_the_kl_coefficient_is_no_setting_of_a_method() -> None:
    def found(*overrides: str) -> set[str]:
        return {method_settings_hash(plain(composed("method=cory", override))) for override in overrides}

    same = found("seed=7", "update.kl_coefficient=0.3", "kl_coefficient=0.3")
    assert len(same) == 1
    assert len(same | found("method.swap_every=3", "update.epochs=3")) == 3
