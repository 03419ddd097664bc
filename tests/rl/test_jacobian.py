"""MGDA, CAGrad and UPGrad: rows by finite differences, directions by closed forms and by another solver, end to end."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import torch
from conftest import WordShare, make_bank, shaken, word_prompts
from scipy.optimize import minimize
from support.tabular import Tabular, TabularPolicy
from torch import Tensor

from baselines.cory import Cory
from baselines.weighted_policy import WeightedPolicy
from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.ranks import ALONE, Ranks
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Rollout, Sampling
from emorl_bench.policies.adapter_policy import AdapterPolicy
from emorl_bench.rl.jacobian import CaGrad, JacobianRule, Mgda, UpGrad
from emorl_bench.rl.scst import Scst
from emorl_bench.rl.update import Updater
from emorl_bench.rl.weighting import FixedWeights, fixed_weights

NAN = math.nan
RULES = {
    "mgda": Mgda(learning_rate=2e-2, kl_coefficient=0.0),
    "cagrad": CaGrad(learning_rate=2e-2, kl_coefficient=0.0),
    "upgrad": UpGrad(learning_rate=2e-2, kl_coefficient=0.0),
}
UNCOUNTED = partial(Ledger, flops_every=0)  # counting the FLOPs of one update takes longer than the test
SAMPLED = Sampling(6, temperature=1.0, samples_per_prompt=4)
pytestmark = pytest.mark.skipif(find_spec("torchjd") is None, reason="needs the extra torchjd")


@dataclass(frozen=True)
class Thread(Ranks):
    """A rank that is a thread: what all have is exchanged over a board."""

    board: dict[int, Any] = field(default_factory=dict)
    barrier: Barrier = field(default_factory=lambda: Barrier(2))

    def collect(self, value: Any) -> list[Any]:
        self.board[self.index] = value
        self.barrier.wait()
        every = [self.board[index] for index in range(self.count)]
        self.barrier.wait()
        return every

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        for tensor in tensors:
            tensor.copy_(sum(self.collect(tensor.clone())))


def said(ids_BT: Tensor, group_size: int) -> Rollout:
    rows, mask_BT = len(ids_BT), torch.ones_like(ids_BT, dtype=torch.bool)
    return Rollout(tuple(word_prompts(rows)), ("",) * rows, ids_BT, mask_BT, torch.zeros(ids_BT.shape), group_size)


def told(learner: Any, scores_BK: Tensor, size: int, weights: Sequence[float] | None = None) -> Tensor:
    weighting = fixed_weights(weights, [""] * scores_BK.shape[1], "linear")
    return learner.rewards(scores_BK, weighting, size)


def looked_into(learner: Any, rollout: Rollout, told_BK: Tensor) -> tuple[Tensor, Tensor, dict[str, float]]:
    """The rows (K, N) and the direction (N,) of one update, and its metrics."""
    rows, directions, optimiser = [], [], learner.optimiser
    take, along = optimiser.take, optimiser.step_along
    optimiser.take = lambda: (rows.append(take()), rows[-1])[1]
    optimiser.step_along = lambda d: (directions.append([part.clone() for part in d]), along(d))[1]  # it is clipped
    metrics = dict(learner.step(rollout, told_BK, stream(9)))
    flat = [torch.cat([part.flatten().double() for part in parts]) for parts in (*rows, *directions)]
    return torch.stack(flat[:-1]), flat[-1], metrics


def on_a_model(rule: JacobianRule, scores_BK: Tensor, weights: Sequence[float] | None = None) -> tuple[Tensor, Tensor]:
    policy = shaken(make_bank("gpt2", dtype=torch.float64), 1)
    rollout = policy.generate(word_prompts(len(scores_BK) // 4), SAMPLED, stream(0))
    learner = rule.learner(policy, UNCOUNTED())
    return looked_into(learner, rollout, told(learner, scores_BK, 4, weights))[:2]


def scores(rows: int, objectives: int, seed: int = 1) -> Tensor:
    return torch.rand(rows, objectives, generator=stream(seed), dtype=torch.float64)


def at_odds(rows: int) -> Tensor:
    """Scores of two objectives of which one gains where the other loses, for the most part."""
    first, second = scores(rows, 2).unbind(1)
    return torch.stack([first, 0.3 * second - first], 1)


# the rows -----------------------------------------------------------------------------------------
def loss_of(policy: Tabular, ids_BT: Tensor, rewards: list[float], size: int) -> float:
    """k-SCST on one objective, written down sample by sample."""
    logprobs_B, total = policy.logprobs_of(ids_BT).sum(1).tolist(), 0.0
    for low in range(0, len(rewards), size):
        rows = [i for i in range(low, low + size) if not math.isnan(rewards[i])]
        mean = sum(rewards[i] for i in rows) / max(len(rows), 1)
        total -= sum((rewards[i] - mean) * logprobs_B[i] for i in rows)
    return total / sum(not math.isnan(reward) for reward in rewards)


@pytest.mark.parametrize("micro_batch", [None, 3])
def test_every_row_is_the_gradient_of_its_objective_s_loss_by_finite_differences(micro_batch: int | None) -> None:
    logits_TV = torch.randn(2, 3, generator=stream(0), dtype=torch.float64)
    ids_BT = torch.tensor([[0, 1], [2, 2], [1, 0], [1, 1], [0, 0], [2, 1], [0, 2], [1, 2]])
    scores_BK = scores(8, 3)
    scores_BK[5, 1] = NAN
    scores_BK[4:, 2] = NAN
    learner = Mgda(micro_batch=micro_batch, kl_coefficient=0.0).learner(TabularPolicy(logits_TV), UNCOUNTED())
    rows_KN, _, _ = looked_into(learner, said(ids_BT, 4), told(learner, scores_BK, 4))
    step = 1e-6
    for k, (t, v) in itertools.product(range(3), itertools.product(range(2), range(3))):
        move_TV = torch.zeros_like(logits_TV)
        move_TV[t, v] = step
        up, down = (loss_of(Tabular(logits_TV + s * move_TV), ids_BT, scores_BK[:, k].tolist(), 4) for s in (1, -1))
        assert rows_KN[k, 3 * t + v].item() == pytest.approx((up - down) / (2 * step), abs=1e-7)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_what_has_no_weight_or_applies_to_nothing_has_no_row(rule: JacobianRule) -> None:
    scores_BK = scores(8, 4)
    scores_BK[:, 1] = NAN
    rows_KN, direction_N = on_a_model(rule, scores_BK, [0.25, 0.25, 0.5, 0.0])
    expected_KN, same_N = on_a_model(rule, scores_BK[:, [0, 2]], [1 / 3, 2 / 3])
    torch.testing.assert_close(rows_KN, expected_KN)
    torch.testing.assert_close(direction_N, same_N)


# the direction ------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("stretch", [0.1, 1.0, 30.0])
def test_mgda_of_two_gradients_is_the_closed_form(seed: int, stretch: float) -> None:
    """The point nearest to 0 on the segment between them, one of its ends among them."""
    (g, h), direction_N = on_a_model(Mgda(kl_coefficient=0.0), scores(8, 2, seed) * torch.tensor([1.0, stretch]))
    share = ((h - g) @ h / ((h - g) @ (h - g))).clamp(0, 1)
    assert (share == 0 or share == 1) == (g @ h > min(g @ g, h @ h))
    torch.testing.assert_close(direction_N, share * g + (1 - share) * h, atol=1e-6, rtol=1e-5)


def on_simplex(worth: Any, of: int) -> np.ndarray:
    """The least of a convex function on the simplex, by SLSQP."""
    bounds, whole = [(0.0, 1.0)] * of, {"type": "eq", "fun": lambda w: w.sum() - 1}
    options = {"ftol": 1e-14, "maxiter": 500}
    return minimize(worth, np.full(of, 1 / of), bounds=bounds, constraints=whole, options=options).x


def test_mgda_of_three_gradients_is_the_shortest_vector_between_them() -> None:
    rows_KN, direction_N = on_a_model(Mgda(iterations=2000, kl_coefficient=0.0), scores(12, 3))
    gramian = (rows_KN @ rows_KN.T / (rows_KN**2).sum()).numpy()
    shortest = on_simplex(lambda w: w @ gramian @ w, 3)
    expected_N = torch.from_numpy(shortest) @ rows_KN
    assert direction_N.norm() == pytest.approx(expected_N.norm().item(), rel=1e-2)
    assert ((rows_KN @ direction_N) > 0.9 * direction_N @ direction_N).all(), "no objective descends less"


@pytest.mark.parametrize("c", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("weights", [None, (0.6, 0.3, 0.1)])
def test_cagrad_against_its_dual_by_another_solver(c: float, weights: tuple[float, ...] | None) -> None:
    rows_KN, direction_N = on_a_model(CaGrad(c=c, kl_coefficient=0.0), scores(12, 3), weights)
    rows, mean = rows_KN.numpy(), rows_KN.mean(0).numpy()
    scale = mean @ mean
    w = on_simplex(lambda w: (w @ rows @ mean + c * np.linalg.norm(mean) * np.linalg.norm(w @ rows)) / scale, 3)
    expected = mean + c * np.linalg.norm(mean) / np.linalg.norm(w @ rows) * (w @ rows)
    np.testing.assert_allclose(direction_N.numpy(), expected, atol=1e-3 * np.linalg.norm(expected))
    assert np.linalg.norm(direction_N.numpy() - mean) == pytest.approx(c * np.linalg.norm(mean), rel=1e-4)
    assert (rows @ direction_N.numpy()).min() > (rows @ mean).min(), "the worst-off gains more than by the mean"


def test_upgrad_of_two_that_are_at_odds_takes_from_each_what_harms_the_other() -> None:
    (g, h), direction_N = on_a_model(UpGrad(kl_coefficient=0.0), at_odds(8))
    assert g @ h < 0
    expected_N = (g - (g @ h) / (h @ h) * h + h - (g @ h) / (g @ g) * g) / 2
    torch.testing.assert_close(direction_N, expected_N, atol=1e-2 * expected_N.norm().item(), rtol=0)


# the weights of the method ------------------------------------------------------------------------
@pytest.mark.parametrize("kl", [0.0, 0.3])
def test_without_a_circle_cagrad_is_k_scst_on_the_weighted_sum(kl: float) -> None:
    """With a KL penalty too: it is in every row, and so once in their mean."""
    weights, moved = FixedWeights((0.5, 0.3, 0.2)), []
    rules = (CaGrad(learning_rate=1e-2, c=0.0, kl_coefficient=kl), Scst(learning_rate=1e-2, kl_coefficient=kl))
    for rule in rules:
        policy, scores_BK = shaken(make_bank("t5", dtype=torch.float64), 1), scores(12, 3)
        rollout = policy.generate(word_prompts(3), SAMPLED, stream(0))
        learner = rule.learner(policy, UNCOUNTED())
        told_B = learner.rewards(scores_BK, weights, 4)
        norm = learner.step(rollout, told_B, stream(2))["grad_norm"]
        moved.append(policy.adapter() | {"norm": torch.tensor(norm)})
    for key, value in moved[1].items():
        torch.testing.assert_close(moved[0][key], value, atol=1e-5, rtol=1e-5)


def test_under_mgda_objectives_at_odds_descend_in_proportion_to_their_weights() -> None:
    plain_KN, _ = on_a_model(Mgda(kl_coefficient=0.0), at_odds(8))
    _, direction_N = on_a_model(Mgda(kl_coefficient=0.0), at_odds(8), (0.6, 0.4))
    gains_K = plain_KN @ direction_N
    assert (gains_K > 0).all()
    assert (gains_K[0] / gains_K[1]).item() == pytest.approx(1.5, rel=1e-4)


# in a training ------------------------------------------------------------------------------------
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_samples_that_are_no_better_than_others_move_nothing(rule: JacobianRule) -> None:
    policy = shaken(make_bank("gpt2"), 1)
    before, learner = policy.adapter(), rule.learner(policy, UNCOUNTED())
    rollout = policy.generate(word_prompts(2), SAMPLED, stream(0))
    assert learner.step(rollout, torch.full((8, 2), NAN), stream(1)) == {}
    metrics = learner.step(rollout, torch.full((8, 2), 0.5), stream(1))
    assert all(map(math.isfinite, metrics.values()))
    assert all(torch.equal(value, before[key]) for key, value in policy.adapter().items())


@pytest.mark.parametrize(
    ("name", "family"), [("mgda", "t5"), ("mgda", "gpt2"), ("cagrad", "t5"), ("cagrad", "gpt2"), ("upgrad", "gpt2")]
)
def test_a_rule_learns_all_objectives_and_says_how(bench: Any, name: str, family: str) -> None:
    scorers = [WordShare("even", 0), WordShare("third", 0, of=3)]
    made = bench(family, steps=8, update=RULES[name], scorers=scorers)
    before = made.score(made.new_policy("b").generate(word_prompts(24), SAMPLED, stream(9))).mean(0)
    policy = WeightedPolicy().fit(made).policy_for(torch.tensor([0.5, 0.5]))
    after = made.score(policy.generate(word_prompts(24), SAMPLED, stream(9))).mean(0)
    assert (after > before + 0.05).all()
    cost = made.ledger.phases["train/policy"]
    assert (cost.optimiser_steps, cost.trained_tokens) == (8, 2 * cost.generated_tokens)
    steps = [row for row in made.tracker.rows if "train/policy/reward" in row]
    assert all(row["train/policy/direction/third"] >= 0 for row in steps)
    assert all(-1 <= row["train/policy/cosine/even/third"] <= 1 for row in steps)


def test_side_by_side_they_learn_what_they_would_alone() -> None:
    adapters: list[list[dict[str, Tensor]]] = []
    for joint in (True, False):
        bank = make_bank("t5", dtype=torch.float64)
        policies: list[AdapterPolicy] = [shaken(bank, seed) for seed in (1, 2)]
        rollouts = [policy.generate(word_prompts(3), SAMPLED, stream(0)) for policy in policies]
        ledger = UNCOUNTED()
        learners = [RULES["mgda"].learner(policy, ledger) for policy in policies]
        with ledger.together(["one", "two"]):
            given = [scores(12, 3, 4), scores(12, 3, 5)]
            Updater(ledger, joint).update(learners, rollouts, given, [stream(1), stream(2)])
        adapters.append([policy.adapter() for policy in policies])
        assert [ledger.phases[name].trained_tokens for name in ("one", "two")] == [3 * r.tokens for r in rollouts]
    for mine, theirs in zip(*adapters, strict=True):
        for key, value in theirs.items():
            torch.testing.assert_close(mine[key], value, atol=2e-6, rtol=0)


def test_two_ranks_find_the_direction_of_one() -> None:
    logits_TV, ids_BT = torch.randn(2, 3, generator=stream(0)).double(), torch.randint(3, (8, 2), generator=stream(1))

    def direction(ranks: Ranks) -> Tensor:
        policy = TabularPolicy(logits_TV)
        policy.ranks = ranks
        return looked_into(RULES["cagrad"].learner(policy, UNCOUNTED()), said(ids_BT, 4), scores(8, 2))[1]

    first = Thread(0, 2)
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(direction, [first, replace(first, index=1)]))
    torch.testing.assert_close(both, [direction(ALONE)] * 2)


def test_cory_s_agents_share_every_objective(bench: Any) -> None:
    made = bench("gpt2", steps=2, update=RULES["mgda"])
    Cory().fit(made)
    assert any("direction/odd" in key for row in made.tracker.rows for key in row)


# bad input ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", RULES)
def test_without_the_extra_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("emorl_bench.rl.jacobian.find_spec", lambda package: None)
    with pytest.raises(UserError, match=rf"update={name} needs the extra: pip install .*\[torchjd\]"):
        RULES[name].learner(TabularPolicy(torch.zeros(1, 2)), UNCOUNTED())


@pytest.mark.parametrize(
    ("rule", "key"),
    [(CaGrad(c=-0.1, kl_coefficient=0.0), "c=-0.1"), (Mgda(iterations=0, kl_coefficient=0.0), "iterations=0")],
)
def test_settings_that_make_no_sense_are_refused(rule: JacobianRule, key: str) -> None:
    with pytest.raises(UserError, match=rf"update\.{key}: give"):
        rule.learner(TabularPolicy(torch.zeros(1, 2)), UNCOUNTED())
