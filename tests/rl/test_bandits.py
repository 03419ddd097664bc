"""Exp3, LinUCB and Vowpal Wabbit against hand calculations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from emorl_bench.core.seeds import stream
from emorl_bench.rl.weightings.bandits import Exp3, LinUcb

NOTHING = np.zeros(0)


def test_exp3_is_the_hand_calculation() -> None:
    bandit = Exp3(3, gamma=0.3)
    assert bandit.probabilities().tolist() == pytest.approx([1 / 3] * 3)
    bandit.pay(0, 0.5)
    first = math.exp(0.5 / (1 / 3) * 0.3 / 3)
    assert bandit.shares().tolist() == pytest.approx([first / (first + 2), 1 / (first + 2), 1 / (first + 2)])
    chance = 0.7 * 1 / (first + 2) + 0.1
    assert bandit.probabilities()[2] == pytest.approx(chance)
    bandit.pay(2, -0.2)
    third = math.exp(-0.2 / chance * 0.3 / 3)
    total = first + 1 + third
    assert bandit.shares().tolist() == pytest.approx([first / total, 1 / total, third / total])


def test_probabilities_are_probabilities_whatever_was_paid() -> None:
    bandit = Exp3(4, gamma=0.07)
    for reward in (1e4, -1e4, 3.0, 0.0):
        for arm in range(4):
            bandit.pay(arm, reward * (arm + 1))
            assert bandit.probabilities().sum() == pytest.approx(1)
            assert bandit.probabilities().min() >= 0.07 / 4 - 1e-12


def test_draws_follow_the_probabilities() -> None:
    bandit = Exp3(2, gamma=0.2)
    bandit.pay(1, 8.0)
    drawn = [bandit.draw(NOTHING, stream(0, i)) for i in range(2000)]
    expected = bandit.probabilities()[1]
    assert np.mean(drawn) == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 2000))


def test_exp3_follows_the_useful_arm_when_it_changes() -> None:
    """Two Bernoulli arms swap their chances. Exp3 must unlearn what it has learnt, so the second part is longer."""
    bandit, paid, late = Exp3(2, gamma=0.15), [], []
    for step in range(2000):
        good = 0 if step < 500 else 1
        rng = stream(7, step)
        chance = 0.9 if bandit.draw(NOTHING, rng) == good else 0.1
        paid.append(float(torch.rand((), generator=rng) < chance))
        bandit.learn(paid[-1])
        late.append(bandit.probabilities()[good])
    assert late[499] > 0.9
    assert late[500] < 0.1  # the useful arm is the other one now
    assert late[-1] > 0.9
    assert np.mean(paid[:500]) > 0.7
    assert np.mean(paid[-500:]) > 0.7


def test_linucb_is_ridge_regression_with_a_bound() -> None:
    rng, bandit = np.random.default_rng(0), LinUcb(2, 3, alpha=0.7)
    seen: dict[int, list[tuple[np.ndarray, float]]] = {0: [], 1: []}
    for i in range(40):
        context, reward = rng.normal(size=3), float(rng.normal())
        arm = bandit.draw(context, stream(1, i))
        bandit.learn(reward)
        seen[arm].append((context, reward))
    asked = rng.normal(size=3)
    for arm, rows in seen.items():
        # Ridge regression as least squares on the data with the identity stacked below it.
        x = np.vstack([np.array([c for c, _ in rows]).reshape(-1, 3), np.eye(3)])
        theta, *_ = np.linalg.lstsq(x, np.array([r for _, r in rows] + [0.0] * 3), rcond=None)
        width = np.linalg.norm(np.linalg.pinv(x).T @ asked)  # sqrt(asked' (x'x)^-1 asked)
        assert bandit.bounds(asked)[arm] == pytest.approx(theta @ asked + 0.7 * width)


def contextual_gain(bandit: Any) -> float:
    """How often the bandit picks the arm that the context says, late in 400 draws: blind arms reach 0.5."""
    right = []
    for step in range(400):
        sign = 1.0 if step % 3 else -1.0  # aperiodic enough, and known to the bandit by the context alone
        arm = bandit.draw(np.array([1.0, sign]), stream(3, step))
        right.append(arm == (1 if sign > 0 else 0))
        bandit.learn(0.5 if right[-1] else 0.0)
    return float(np.mean(right[200:]))


def test_linucb_uses_the_context() -> None:
    assert contextual_gain(LinUcb(2, 2, alpha=0.5)) > 0.95


def test_vowpal_wabbit_uses_the_context_and_repeats_itself() -> None:
    pytest.importorskip("vowpalwabbit")
    from emorl_bench.rl.weightings.vowpal_wabbit import VowpalWabbit

    first, second = VowpalWabbit(2), VowpalWabbit(2)
    assert contextual_gain(first) == contextual_gain(second) > 0.55  # a cover of 3 goes on exploring, a third each
    for sign, arm in ((-1.0, 0), (1.0, 1)):
        shared = [f"shared |c f0:1.0 f1:{sign}", *first.lines[1:]]
        probabilities_A = first.probabilities(shared)
        assert probabilities_A.argmax() == arm
        assert probabilities_A.tolist() == second.probabilities(shared).tolist()
