"""Pareto set learning and weight-ensembling routers: what is learnt, what it costs, and that nothing of it is lost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import pytest
import torch
from conftest import WordShare, make_bank, shaken, word_prompts
from hydra.utils import instantiate
from safetensors import safe_open
from support.composing import composed
from torch import Tensor, nn

from baselines.conditioned.pareto_set import Hypernetwork, ParetoSet
from baselines.conditioned.policy import Asked, ConditionedPolicy
from baselines.conditioned.training import ConditionedRun, Conditioning
from baselines.conditioned.weight_ensembling_moe import WeightEnsemblingMoe
from emorl_bench.config.compose import plain
from emorl_bench.core.errors import UserError
from emorl_bench.core.memory import Memory
from emorl_bench.core.ranks import ALONE, Ranks
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Budget, Example, Rollout, Sampling, Training
from emorl_bench.rl.agro import Agro
from emorl_bench.rl.experts import expert_bank
from emorl_bench.rl.grpo import Grpo
from emorl_bench.rl.loop import run_rounds
from emorl_bench.rl.ppo import Ppo
from emorl_bench.rl.preferences import drawn
from emorl_bench.rl.rloo import Rloo

METHODS = {
    "pareto_set": ParetoSet(Rloo(learning_rate=1e-2, kl_coefficient=0.0)),
    "weight_ensembling_moe": WeightEnsemblingMoe(Rloo(kl_coefficient=0.0)),
}
GREEDY = Sampling(8, temperature=0.0)
SAMPLED = Sampling(8, temperature=1.0, samples_per_prompt=3)


# learning -------------------------------------------------------------------------------------------
def test_preferences_are_drawn_evenly_on_the_simplex() -> None:
    drawn_WK = drawn(20_000, 3, stream(0))
    torch.testing.assert_close(drawn_WK.sum(1), torch.ones(20_000, dtype=torch.float64))
    torch.testing.assert_close(drawn_WK.mean(0), torch.full((3,), 1 / 3, dtype=torch.float64), atol=0.01, rtol=0)
    torch.testing.assert_close(drawn_WK.var(0), torch.full((3,), 1 / 18, dtype=torch.float64), atol=2e-3, rtol=0)


WORTH = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.7, 0.7]])  # of three answers, by two objectives


@dataclass
class Table:
    """A conditioned policy over three answers of one token; its experts are two rows of logits."""

    network: nn.Module
    name: str = "table"
    base: str = "table"
    ranks: Ranks = ALONE
    memory: Memory = field(default_factory=Memory)
    correction: None = None
    asked: Asked = field(default_factory=lambda: Asked(torch.full((1, 2), 0.5)))

    def turn(self, preferences_WK: Tensor) -> None:
        self.asked.preferences_WK = preferences_WK.float()

    def under(self, preferences_WK: Tensor) -> Tensor:
        weights_WM = torch.cat([self.network(preference_K) for preference_K in preferences_WK])
        return weights_WM @ torch.tensor([[2.0, -2.0, 1.0], [-2.0, 2.0, 1.0]])

    @torch.no_grad()
    def generate(self, examples: Sequence[Example], sampling: Sampling, rng: torch.Generator) -> Rollout:
        g, each = sampling.samples_per_prompt, len(examples) // len(self.asked.preferences_WK)
        self.asked.of = {example.id: i // each for i, example in enumerate(examples)}
        logps_BV = self.under(self.asked.preferences_WK).log_softmax(1).repeat_interleave(each * g, 0)
        ids_B1, told = torch.multinomial(logps_BV.exp(), 1, generator=rng), [e for e in examples for _ in range(g)]
        return Rollout(tuple(told), ("",) * len(told), ids_B1, ids_B1 >= 0, logps_BV.gather(1, ids_B1), g)

    def hidden(self, rollout: Rollout) -> Tensor:
        return self.under(self.asked.preferences_WK)[[self.asked.of[e.id] for e in rollout.examples], None]

    def logits(self, hidden_BTV: Tensor) -> Tensor:
        return hidden_BTV

    def parameters(self) -> Iterator[nn.Parameter]:
        return self.network.parameters()


def test_a_known_mapping_is_learnt(bench) -> None:
    """The compromise is best just where neither weight exceeds 0.7; the soup of the experts is far from that."""
    made = replace(
        bench("t5"),
        score=lambda rollout: WORTH[rollout.response_ids_BT[:, 0]],
        training=Training(batch_prompts=16),
    )
    policy = Table(Hypernetwork(1, 2, 32, stream(0)))
    share_W1 = torch.linspace(0, 1, 41)[:, None]
    grid_WK = torch.cat([share_W1, 1 - share_W1], 1)
    best_W = (grid_WK @ WORTH.T).amax(1)

    @torch.no_grad()
    def lost() -> float:
        return (best_W - (policy.under(grid_WK).softmax(1) @ WORTH * grid_WK).sum(1)).mean().item()

    before = lost()
    run = ConditionedRun(made, policy, Conditioning(Rloo(learning_rate=1e-2, kl_coefficient=0.0), 8), made.budget)
    for step in range(120):
        run.round([run], step)
    assert lost() < before / 4, (before, lost())
    for preference, answer in (([0.95, 0.05], 0), ([0.5, 0.5], 2), ([0.05, 0.95], 1)):
        shares_V = policy.under(torch.tensor([preference])).softmax(1)[0]
        assert shares_V[answer] > 0.9, (preference, shares_V)


@pytest.mark.parametrize(
    "rule",
    [Grpo(normalise="each", kl_coefficient=0.0, epochs=1), Ppo(epochs=4), Agro()],
    ids=lambda r: type(r).__name__,
)
def test_any_on_policy_rule_trains_the_network_and_it_alone(bench, rule) -> None:
    made = bench("gpt2", steps=3)
    pair = [shaken(made.new_policy.__self__, seed) for seed in (1, 2)]
    before = [expert.adapter() for expert in pair]
    policy = ConditionedPolicy.of("net", pair, Hypernetwork(len(pair[0].own.factors), 2, 8, stream(0)))
    start = policy.adapter()
    run = ConditionedRun(made, policy, Conditioning(rule, 3), made.budget)
    with made.ledger.phase("train/net"):
        metrics = run.round([run], 0)[0]
    assert all(math.isfinite(value) for value in metrics.values())
    assert not torch.equal(start["last.bias"], policy.adapter()["last.bias"])
    for expert, adapter in zip(pair, before, strict=True):
        assert all(torch.equal(value, adapter[key]) for key, value in expert.adapter().items())


class Deaf(Hypernetwork):
    """Starts with the uniform soup whatever the preference."""

    def forward(self, preference_K: Tensor) -> Tensor:
        return super().forward(preference_K) - preference_K + 0.5


def test_a_network_learns_to_listen(bench) -> None:
    made = bench("gpt2", steps=16)
    pair = expert_bank(made)
    policy = ConditionedPolicy.of("net", pair, Deaf(len(pair[0].own.factors), 2, 16, stream(0)))
    run = ConditionedRun(made, policy, Conditioning(Rloo(learning_rate=1e-2, kl_coefficient=0.0), 3), made.budget)
    run_rounds(made, [run], run.round)
    utilities = [row["eval/net/utility"] for row in run.progress.history]
    assert run.progress.best["net"][0] == max(utilities)
    row = run.progress.history[0]
    corners = (row["eval/net/1.00-0.00/even"], row["eval/net/0.00-1.00/odd"], row["eval/net/0.50-0.50/mean_reward"])
    assert utilities[0] == pytest.approx(sum(corners) / 3)
    assert max(utilities) > utilities[0] + 0.1, utilities


# as methods -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("architecture", ["t5", "gpt2"])
@pytest.mark.parametrize("name", METHODS)
def test_every_yaml_answers_every_preference_within_the_budget(bench, architecture, name) -> None:
    method = instantiate(plain(composed(f"method={name}"))["method"], _convert_="object")
    made = bench(architecture, steps=3)
    solution = method.fit(made)
    for preference in ([1.0, 0.0], [0.5, 0.5], [0.2, 0.8]):
        policy = solution.policy_for(torch.tensor(preference, dtype=torch.float64))
        assert policy is solution.policy_for(torch.tensor(preference, dtype=torch.float64))
        assert made.score(policy.generate(word_prompts(3), SAMPLED, stream(1))).shape == (9, 2)
    spent = made.ledger.totals()
    assert (spent["data_points_train"], spent["data_points_train_max"], spent["search_evaluations"]) == (18, 6, 0)
    net = solution.policy.name
    assert made.ledger.phases[f"validate/{net}"].prompts == 2 * 3 * (
        8 // 3
    )  # before and after; three preferences divide the split
    with safe_open(made.dir / "checkpoints" / net / net / "network.safetensors", "pt") as file:
        assert file.metadata()["base_fingerprint"] == solution.policy.base


def test_conditioned_methods_share_experts_that_others_have_only_where_nothing_is_divided(bench) -> None:
    made = bench("t5", steps=3)
    for method in METHODS.values():
        method.fit(made)
    assert len(list(made.runtime.experts_dir.glob("*/*"))) == 2
    expert_bank(made)
    assert len(list(made.runtime.experts_dir.glob("*/*"))) == 4
    # converged at the second validation
    soon = Training(6, 4, validate_every=1, window=2, variation=math.inf, stop_when_converged=True)
    endless = bench("t5", budget=Budget(), training=soon, fingerprint="endless")
    METHODS["pareto_set"].fit(endless)
    expert_bank(endless)
    assert len(list(made.runtime.experts_dir.glob("*/*"))) == 6


class Killed(BaseException):
    """Stands for kill -9: nothing gets to clean up after it."""


def test_resume_after_a_kill_equals_an_uninterrupted_run(tmp_path, bench) -> None:
    short = {"steps": 6, "training": Training(6, 2, validate_every=2, window=50, checkpoint_every=1)}
    whole = bench("t5", dir=tmp_path / "whole", **short)
    expected, deaths, resumed = METHODS["pareto_set"].fit(whole), [], None
    while resumed is None:
        made, calls = bench("t5", dir=tmp_path / "killed", experts_dir=tmp_path / "others", **short), 0

        def score(rollout, inner=made.score):
            nonlocal calls
            calls += 1
            if calls == 7:
                raise Killed
            return inner(rollout)

        try:
            resumed = METHODS["pareto_set"].fit(replace(made, score=score))
        except Killed:
            deaths.append((made.dir / "checkpoints" / "hypernetwork" / "state.safetensors").exists())
            assert len(deaths) < 9
    assert set(deaths) == {False, True}, "it dies among the experts and in the middle of the network"
    assert all(torch.equal(value, resumed.policy.adapter()[key]) for key, value in expected.policy.adapter().items())
    phase = f"train/{expected.policy.name}"
    assert made.ledger.phases[phase].generated_tokens == whole.ledger.phases[phase].generated_tokens


def test_a_frozen_bench_finds_what_was_fitted_and_trains_nothing(bench) -> None:
    method, wish_K = METHODS["pareto_set"], torch.tensor([0.3, 0.7])
    with pytest.raises(UserError, match="never trained to its end"):
        method.fit(bench("t5", frozen=True))
    before = method.fit(bench("t5", steps=3)).policy_for(wish_K).generate(word_prompts(4), GREEDY, stream(0))
    again = method.fit(bench("t5", steps=3, frozen=True, score=None))
    assert again.policy_for(wish_K).generate(word_prompts(4), GREEDY, stream(0)).responses == before.responses


class Sometimes(WordShare):
    def score(self, examples, responses):
        scores = super().score(examples, responses).tolist()
        return [None if len(e.prompt) % 2 else s for e, s in zip(examples, scores, strict=True)]


def test_an_objective_that_applies_to_some_prompts_only(bench) -> None:
    made = bench("gpt2", steps=3, scorers=[WordShare("even", 0), Sometimes("odd", 1)])
    METHODS["pareto_set"].fit(made)
    rows = [row for row in made.tracker.rows if "train/hypernetwork/reward" in row]
    assert rows
    assert all(math.isfinite(v) for row in rows for v in row.values())
    assert any("train/hypernetwork/not_applicable/odd" in row for row in rows)


@pytest.mark.parametrize(
    ("method", "changes", "says"),
    [
        (METHODS["pareto_set"], {"objectives": ("even",)}, "at least 2 objectives, task has only 'even'"),
        (METHODS["weight_ensembling_moe"], {"objectives": ("even",)}, "at least 2 objectives"),
        (ParetoSet(Rloo(kl_coefficient=0.0), width=0), {}, r"method\.width=0"),
        (ParetoSet(Rloo(kl_coefficient=0.0), preferences=0), {}, r"method\.preferences=0"),
        (ParetoSet(Agro(replay_prompts=4)), {}, r"method\.update\.replay_prompts=4"),
        (WeightEnsemblingMoe(Agro(kl_coefficient=0.0)), {}, "kl_coefficient=0.0"),
        (WeightEnsemblingMoe(Rloo(kl_coefficient=0.0), bias=math.nan), {}, r"method\.bias=nan"),
    ],
)
def test_a_bad_value_is_named_before_anything_is_trained(bench, method, changes, says) -> None:
    with pytest.raises(UserError, match=says) as raised:
        method.fit(bench("t5", score=None, **changes))  # whoever trained would fail on the missing scores
    assert "\n" not in str(raised.value)


def test_processes_that_divide_the_base_cannot_go_apart_by_preference(bench) -> None:
    bank = make_bank("t5")
    bank = replace(bank, decoder=replace(bank.decoder, ranks=Ranks(0, 1, in_step=True)))
    with pytest.raises(UserError, match=r"say method\.preferences=1"):
        ParetoSet(Rloo(kl_coefficient=0.0)).fit(bench("t5", score=None, bank=bank))
