"""Weights that move: each weighting's rule by hand, resume, and training on tiny models."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import WordShare, word_prompts
from hydra.utils import instantiate
from omegaconf import OmegaConf

from baselines.weighted_policy import WeightedPolicy
from emorl_bench.config.compose import conf_dir
from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Bench
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Budget, Sampling, Training
from emorl_bench.rl.grpo import Grpo
from emorl_bench.rl.weighting import FixedWeights
from emorl_bench.rl.weightings import c_dynaopt
from emorl_bench.rl.weightings.bandits import Exp3, LinUcb
from emorl_bench.rl.weightings.c_dynaopt import CDynaOpt
from emorl_bench.rl.weightings.dorb import Dorb
from emorl_bench.rl.weightings.dynaopt import DynaOpt
from emorl_bench.rl.weightings.hv_guided import HvGuided
from emorl_bench.rl.weightings.moving import Gains, Payment
from emorl_bench.rl.weightings.random_weights import RandomWeights
from emorl_bench.rl.weightings.round_robin import RoundRobin
from emorl_bench.rl.weightings.saw import Saw, variation

NAMES = ("dynaopt", "c_dynaopt", "dorb", "round_robin", "random_weights", "saw", "hv_guided")
NAN = math.nan
UNIFORM = FixedWeights((0.5, 0.5))
THREE = FixedWeights((1 / 3,) * 3)
NOTHING = np.zeros(0)


def method(name: str) -> WeightedPolicy:
    """The method as its YAML builds it."""
    node = OmegaConf.load(conf_dir() / "method" / f"{name}.yaml")
    node.pop("defaults", None)  # the rule of the method, which is no part of it
    made: WeightedPolicy = instantiate(node, _convert_="object")
    return made


def small(bench: Callable[..., Bench], architecture: str, steps: int, **changes: Any) -> Bench:
    """A validation after every second step, and one objective that does not exclude the other."""
    training = Training(batch_prompts=4, samples_per_prompt=4, validate_every=2, window=50, checkpoint_every=2)
    given = {"scorers": [WordShare("even", 0), WordShare("third", 0, 3)], "budget": Budget(samples=4 * 4 * steps)}
    return bench(architecture, training=training, **(given | changes))


def scores(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


# what a validation is worth ---------------------------------------------------------------------
def test_gains_are_against_the_mean_of_the_last_whole_validations() -> None:
    gains = Gains(look_back=2)
    assert gains(scores(0.1, 0.9)) is None
    assert gains(scores(0.3, 0.7)).tolist() == pytest.approx([0.2, -0.2])
    assert gains(scores(0.5, NAN)).tolist() == pytest.approx([0.5 - 0.2, NAN], nan_ok=True)
    assert gains(scores(0.5, 0.8)).tolist() == pytest.approx([0.5 - 0.4, 0.8 - 0.7])  # 0.9: too long ago; NaN: none


def test_a_gain_is_against_one_validation_as_in_the_release() -> None:
    gains = Gains()
    found = [gains(scores(value)) for value in (0.1, 0.4, 0.2)]
    assert found[0] is None
    assert [float(gain) for gain in found[1:]] == pytest.approx([0.3, -0.2])


def test_a_gain_pays_its_place_among_the_gains_so_far() -> None:
    """Against NumPy: distance from the mean of those before, in mean distances from it, within [-1, 1]."""
    told = np.array([0.02, 0.05, -0.01, 0.30, 0.03, 0.03])
    paid = Payment("standardised")
    found = [paid(gain) for gain in told]
    expected = [0.0]
    for i in range(1, len(told)):
        mean = told[:i].mean()
        expected.append(float(np.clip((told[i] - mean) / np.abs(told[: i + 1] - mean).mean(), -1, 1)))
    assert found == pytest.approx(expected)
    assert [Payment("plain")(gain) for gain in told] == told.tolist()
    steady = Payment("standardised")
    assert [steady(0.5) for _ in range(3)] == [0, 0, 0]


def simulated(weighting: Any, rounds: int, noise: float, rng: np.random.Generator) -> dict[str, float]:
    """A world of three objectives of which only the first gains, by as much as it weighs; its metrics in the end."""
    level = np.full(3, 0.3)
    for _ in range(rounds):
        weighting.observe(torch.from_numpy(level + rng.normal(0, noise, 3)))
        level[0] += 0.09 * weighting.weights_K[0].item()
    return dict(weighting.metrics())


def mean_of(rule: Any, bench: Bench, noise: float = 0.0, rounds: int = 48) -> dict[str, float]:
    """Over 30 seeds: `simulated` at as many validations as a budget of 96 steps has."""
    found = [
        simulated(rule.start(replace(bench, seed=seed), THREE), rounds, noise, np.random.default_rng(seed))
        for seed in range(30)
    ]
    return {key: float(np.mean([row[key] for row in found])) for key in found[0]}


def test_dynaopt_moves_its_weights_where_gains_tell_objectives_apart(bench: Callable[..., Bench]) -> None:
    """The arm of the objective that gains leaves 1/4, and its weight 1/3; by the release's payment nothing moves, and
    neither does it where a validation is as noisy as a round's gain is large: there the method is undecidable.
    """
    three = replace(bench("t5"), objectives=("a", "b", "c"))
    moved = mean_of(method("dynaopt").weighting, three)
    assert moved["weighting/probability/a"] > 0.4
    assert moved["weights/a"] > 0.5 > max(moved["weights/b"], moved["weights/c"])
    released = mean_of(DynaOpt(gamma=0.07, paid="plain"), three)
    assert released["weighting/probability/a"] == pytest.approx(0.25, abs=0.005)
    assert released["weights/a"] == pytest.approx(1 / 3, abs=0.05)
    noisy = mean_of(method("dynaopt").weighting, three, noise=0.09)
    assert noisy["weights/a"] == pytest.approx(1 / 3, abs=0.08)


def test_c_dynaopt_s_weights_move_where_gains_tell_objectives_apart(bench: Callable[..., Bench]) -> None:
    three = replace(bench("t5"), objectives=("a", "b", "c"))
    moved = mean_of(replace(method("c_dynaopt").weighting, bandit="linucb"), three)  # type: ignore[type-var]
    assert moved["weights/a"] > 0.45 > max(moved["weights/b"], moved["weights/c"])


def test_dorb_draws_the_objective_that_gains_more_often(bench: Callable[..., Bench]) -> None:
    three = replace(bench("t5"), objectives=("a", "b", "c"))
    moved = mean_of(method("dorb").weighting, three)
    assert moved["weighting/probability/a"] > 0.5
    released = mean_of(Dorb(gamma=0.07, paid="plain"), three)
    assert released["weighting/probability/a"] == pytest.approx(1 / 3, abs=0.03)


def test_random_weights_are_drawn_from_the_simplex_and_know_nothing(bench: Callable[..., Bench]) -> None:
    """Dirichlet(1): mean 1/3 and variance 1/18 of each, whatever the validations say."""
    three, drawn = replace(bench("t5"), objectives=("a", "b", "c")), []
    one, other = (RandomWeights().start(three, THREE) for _ in range(2))
    for round in range(2000):
        one.observe(scores(round, 0.0, 0.0))
        other.observe(scores(0.1, 0.2, 0.3))
        drawn.append(one.weights_K)
        assert torch.equal(one.weights_K, other.weights_K)
    drawn_NK = torch.stack(drawn)
    torch.testing.assert_close(drawn_NK.sum(1), torch.ones(2000, dtype=torch.float64))
    assert drawn_NK.mean(0).tolist() == pytest.approx([1 / 3] * 3, abs=0.02)
    assert drawn_NK.var(0).tolist() == pytest.approx([1 / 18] * 3, abs=0.006)


# each weighting's rule --------------------------------------------------------------------------
def test_dynaopt_makes_one_inner_update_a_round_and_none_before_a_whole_validation(bench: Callable[..., Bench]) -> None:
    made = bench("t5")
    weighting = DynaOpt(gamma=0.2, paid="plain").start(made, UNIFORM)
    outer, inner = Exp3(3, 0.2), Exp3(2, 0.2)  # driven by hand below
    seen, last, arms = [], None, set()
    rng = np.random.default_rng(0)
    for round in range(1, 40):
        validation = rng.uniform(size=2)
        weighting.observe(torch.from_numpy(validation))
        if seen:
            gain = float((validation - seen[-1]).mean())
            if last is not None:
                outer.pay(last, gain)
            last = outer.draw(NOTHING, stream(made.seed, "weighting", round))
            arms.add(last)
            if last < 2:
                inner.pay(last, 1.0)
        seen.append(validation)
        assert weighting.weights_K.tolist() == pytest.approx(inner.shares().tolist())
        if round == 1:
            assert weighting.weights_K.tolist() == [0.5, 0.5]
        assert weighting.metrics()["weights/even"] + weighting.metrics()["weights/odd"] == pytest.approx(1)
    assert arms == {0, 1, 2}


def test_weights_are_those_of_the_reward_and_never_of_the_utility(bench: Callable[..., Bench]) -> None:
    weighting = Dorb().start(bench("t5"), FixedWeights((0.25, 0.75)))
    weighting.observe(scores(0.2, 0.4))
    drawn = int(weighting.weights_K.argmax())
    assert sorted(weighting.weights_K.tolist()) == [0, 1]
    rows_BK = torch.tensor([[0.1, 0.7], [0.9, 0.2], [NAN, NAN]])
    assert weighting.reward(rows_BK).tolist() == pytest.approx(rows_BK[:, drawn].tolist(), nan_ok=True)
    assert weighting.utility(scores(0.2, 0.4)) == pytest.approx(0.25 * 0.2 + 0.75 * 0.4)


def test_dorb_pays_the_objective_that_was_trained_on(bench: Callable[..., Bench]) -> None:
    """A world where training on the second objective alone lifts both scores."""
    weighting = Dorb(gamma=0.3).start(bench("t5"), UNIFORM)
    level = 0.0
    weighting.observe(scores(0.0, 0.0))
    for _ in range(150):
        level += 1.0 if weighting.weights_K[1] == 1 else 0.0
        weighting.observe(scores(level, level))
    assert weighting.metrics()["weighting/probability/odd"] > 0.8


def test_round_robin_takes_turns_among_what_is_wanted(bench: Callable[..., Bench]) -> None:
    made = replace(bench("t5"), objectives=("a", "b", "c"))
    weighting = RoundRobin().start(made, FixedWeights((0.5, 0.0, 0.5)))
    turns = []
    for _ in range(4):
        weighting.observe(scores(0.1, 0.1, 0.1))
        turns.append(weighting.weights_K.tolist())
    assert turns == [[1, 0, 0], [0, 0, 1], [1, 0, 0], [0, 0, 1]]


def test_saw_weighs_by_the_coefficient_of_variation(bench: Callable[..., Bench]) -> None:
    rows = np.array([[0.2, 0.5], [0.4, 0.5], [0.9, 0.7], [NAN, 0.5]])
    expected = [rows[:3, 0].std(ddof=1) / rows[:3, 0].mean(), rows[:, 1].std(ddof=1) / rows[:, 1].mean()]
    scores_BK = torch.from_numpy(rows).float()
    assert variation(scores_BK.double()).tolist() == pytest.approx(expected, rel=1e-6)
    weighting = Saw().start(bench("t5"), UNIFORM)
    assert all(math.isnan(value) for value in weighting.metrics().values())  # nothing to say yet
    reward_B = weighting.reward(scores_BK)
    weights = np.array(expected) / sum(expected)
    assert weighting.weights_K.tolist() == pytest.approx(weights.tolist(), rel=1e-6)
    assert reward_B.tolist() == pytest.approx([*(rows[:3] @ weights).tolist(), 0.5], rel=1e-5)


def test_saw_keeps_the_preference_where_nothing_varies_or_applies(bench: Callable[..., Bench]) -> None:
    weighting = Saw().start(bench("t5"), FixedWeights((0.3, 0.7)))
    weighting.reward(torch.full((4, 2), 0.5))
    assert weighting.weights_K.tolist() == pytest.approx([0.3, 0.7])
    weighting.reward(torch.tensor([[NAN, 0.1], [NAN, 0.3]]))
    assert weighting.weights_K.tolist() == pytest.approx([0, 1])


def test_hypervolume_scales_the_reward(bench: Callable[..., Bench]) -> None:
    weighting = HvGuided().start(bench("t5"), FixedWeights((0.4, 0.6)))
    weighting.observe(scores(0.1, 0.1))
    assert weighting.weights_K.tolist() == pytest.approx([0.4, 0.6])
    won = {
        (0.5, 0.3): 0.4 * 0.2,
        (0.3, 0.5): 0.2 * 0.4 - 0.2 * 0.2,  # what the point before it does not cover
        (0.2, 0.2): 0.0,
        (0.9, 0.05): 0.0,  # below the reference in one objective
        (0.5, 0.5): 0.4 * 0.4 - 0.08 - 0.04,
    }
    for point, volume in won.items():
        weighting.observe(scores(*point))
        factor = 0.5 + 1.5 * math.tanh(volume)
        assert weighting.metrics()["weighting/scale"] == pytest.approx(factor)
        assert weighting.reward(torch.tensor([[1.0, 0.5]])).item() == pytest.approx(factor * 0.7)
    weighting.observe(scores(NAN, 0.9))
    assert weighting.metrics()["weighting/scale"] == pytest.approx(factor)


def test_c_dynaopt_says_which_bandit_it_has(bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    made = bench("t5")
    monkeypatch.setattr(c_dynaopt, "is_installed", lambda: False)
    weighting = CDynaOpt().start(made, UNIFORM)
    assert isinstance(weighting.outer, LinUcb)
    assert weighting.metrics()["weighting/vowpal_wabbit"] == 0
    with pytest.raises(UserError, match=r"bandit=vowpal_wabbit needs the extra.*\[vw\]"):
        CDynaOpt(bandit="vowpal_wabbit").start(made, UNIFORM)


def test_c_dynaopt_credits_all_objectives_or_as_released_the_first(bench: Callable[..., Bench]) -> None:
    for credit, expected in (("mean", 0.1), ("first", 0.4)):
        weighting = CDynaOpt(bandit="linucb", credit=credit, paid="plain").start(bench("t5"), UNIFORM)
        weighting.observe(scores(0.1, 0.6))
        weighting.observe(scores(0.1, 0.6))
        arm, context_F = weighting.drawn, weighting.outer.context_F
        assert context_F.tolist() == [1, 0.5, 0.5, 0, 0]
        weighting.observe(scores(0.5, 0.4))
        assert weighting.outer.targets_AF[arm] == pytest.approx(expected * context_F)


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (DynaOpt(gamma=0), "method.weighting.gamma=0"),
        (Dorb(look_back=0), "method.weighting.look_back=0"),
        (CDynaOpt(alpha=-1), "method.weighting.alpha=-1"),
        (HvGuided(least=3), "method.weighting.least=3"),
        (HvGuided(reference=[0.1]), r"method.weighting.reference=\[0.1\]: needs 2 numbers, one each for even, odd"),
    ],
)
def test_wrong_settings_are_named(bench: Callable[..., Bench], rule: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        rule.start(bench("t5"), UNIFORM)


# in training ------------------------------------------------------------------------------------
@pytest.mark.parametrize("architecture", ["t5", "gpt2"])
@pytest.mark.parametrize("name", NAMES)
def test_every_yaml_trains_and_logs_its_weights(bench: Callable[..., Bench], name: str, architecture: str) -> None:
    made = small(bench, architecture, 8)
    solution = method(name).fit(made)
    rollout = solution.policy_for(torch.tensor([0.5, 0.5])).generate(word_prompts(3), Sampling(8), stream(1))
    assert made.score(rollout).shape == (3, 2)
    utilities = [row["eval/policy/utility"] for row in made.tracker.rows if "eval/policy/utility" in row]
    assert max(utilities) > utilities[0]
    rows = [row for row in made.tracker.rows if "train/policy/reward" in row]
    assert len(rows) == 8
    for row in rows:
        weights = [row["weights/even"], row["weights/third"]]
        assert min(weights) >= 0
        total = row.get("weighting/scale", 1.0)
        assert sum(weights) == pytest.approx(total)
        mean = weights[0] * row["train/policy/even"] + weights[1] * row["train/policy/third"]
        assert row["train/policy/reward"] == pytest.approx(mean, abs=1e-5)  # every row has both scores


def trained(made: Bench, policy: WeightedPolicy, *, dies_at: int | None = None, asked: list[Any] | None = None) -> Any:
    """The adapter that training ends with; None where it dies when it asks for scores so many times.

    ``asked`` collects what it asks scores for.
    """
    asked = [] if asked is None else asked

    def score(rollout: Any) -> torch.Tensor:
        asked.append(rollout)
        if len(asked) == dies_at:
            raise KeyboardInterrupt
        return made.score(rollout)

    try:
        return policy.fit(replace(made, score=score)).policy.adapter()
    except KeyboardInterrupt:
        return None


def weights_by_step(made: Bench) -> dict[int, dict[str, float]]:
    rows = [row for row in made.tracker.rows if "weights/even" in row]
    return {row["step"]: {k: v for k, v in row.items() if k.startswith("weight")} for row in rows}


@pytest.mark.parametrize("name", NAMES)
def test_resume_gives_the_same_weights(bench: Callable[..., Bench], tmp_path: Any, name: str) -> None:
    whole = small(bench, "gpt2", 5, dir=tmp_path / "whole")
    asked: list[Any] = []
    adapter = trained(whole, method(name), asked=asked)
    assert trained(small(bench, "gpt2", 5, dir=tmp_path / "killed"), method(name), dies_at=8) is None
    again, asked_again = small(bench, "gpt2", 5, dir=tmp_path / "killed"), list[Any]()
    resumed = trained(again, method(name), asked=asked_again)
    assert 0 < len(asked_again) < len(asked) - 1  # it has not begun afresh
    assert weights_by_step(again) == weights_by_step(whole)  # earlier steps are logged as they were
    assert all(torch.equal(adapter[k], resumed[k]) for k in adapter)


def test_a_run_does_not_go_on_with_another_bandit_but_may_be_used(bench: Callable[..., Bench]) -> None:
    begun, other = (WeightedPolicy(weighting=CDynaOpt(bandit="linucb", gamma=gamma)) for gamma in (0.5, 0.05))
    assert trained(small(bench, "gpt2", 5), begun, dies_at=8) is None
    with pytest.raises(UserError, match=r"'policy': weights/.* was .* at step .* and is now .*force=true"):
        other.fit(small(bench, "gpt2", 5))
    adapter = trained(small(bench, "gpt2", 5), begun)
    found = trained(small(bench, "gpt2", 5, frozen=True), other)
    assert all(torch.equal(adapter[k], found[k]) for k in adapter)


def test_weights_that_move_come_apart_for_rules_that_normalise_each_objective(bench: Callable[..., Bench]) -> None:
    made = bench("t5", steps=3, update=Grpo(normalise="each", kl_coefficient=0.0, epochs=1))
    for name in NAMES:
        rule = method(name).weighting
        assert rule is not None
        weighting = rule.start(made, UNIFORM)
        assert {"weights/even", "weights/odd"} <= weighting.metrics().keys()
        a_BK, b_BK = (weighting.shaped(torch.rand(6, 2, generator=stream(seed))) for seed in (0, 1))
        sum_B = weighting.weighted(2 * a_BK + 3 * b_BK)  # it is linear
        torch.testing.assert_close(sum_B, 2 * weighting.weighted(a_BK) + 3 * weighting.weighted(b_BK))
    method("saw").fit(made)
    rows = [row for row in made.tracker.rows if "weights/even" in row]
    assert len({row["weights/even"] for row in rows}) == 3  # they follow the batch
