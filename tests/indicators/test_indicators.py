"""Indicators against hand calculations, Monte Carlo and enumeration."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from scipy.stats import permutation_test

from emorl_bench.indicators.fronts import (
    additive_epsilon,
    controllability,
    deployed_utility,
    hypervolume,
    igd_plus,
    pooled_front,
    simplex_grid,
    worst_objective,
)
from emorl_bench.indicators.intervals import (
    hierarchical_bootstrap,
    holm,
    paired_permutation_test,
    smallest_p,
    t_interval,
)
from emorl_bench.indicators.text import distinct_share, diversity_2, edit_rate, levenshtein


def union_of_boxes(points: np.ndarray) -> float:
    """Inclusion-exclusion over the boxes [0, point]."""
    return sum(
        (-1) ** (size + 1) * np.prod(np.min(subset, axis=0))
        for size in range(1, len(points) + 1)
        for subset in combinations(points, size)
    )


@pytest.mark.parametrize("objectives", [1, 2, 3, 4, 5])
def test_hypervolume_is_the_union_of_boxes(objectives: int) -> None:
    points = np.random.default_rng(objectives).random((6, objectives))
    assert hypervolume(points) == pytest.approx(union_of_boxes(points), abs=1e-12)


def test_hypervolume_by_monte_carlo_with_another_reference() -> None:
    rng = np.random.default_rng(0)
    points, reference = rng.random((5, 3)), np.full(3, 0.1)
    darts = 0.1 + 0.9 * rng.random((200_000, 3))
    share = (darts[:, None] <= points[None]).all(-1).any(1).mean()
    assert hypervolume(points, reference) == pytest.approx(share * 0.9**3, abs=0.004)


def test_points_below_the_reference_add_nothing() -> None:
    assert hypervolume([[0.5, 0.4], [0.9, -0.1]]) == pytest.approx(0.2)


@pytest.mark.parametrize("bad", [[[float("nan"), 0.1]], np.empty((0, 2))])
def test_a_front_must_be_finite_and_not_empty(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="finite"):
        hypervolume(bad)


@pytest.mark.parametrize(
    ("objectives", "divisions", "count"), [(1, 4, 1), (2, 4, 5), (3, 4, 16), (3, 3, 10), (4, 2, 11)]
)
def test_simplex_grid(objectives: int, divisions: int, count: int) -> None:
    grid = simplex_grid(objectives, divisions)
    rows = {tuple(np.round(row, 12)) for row in grid}
    assert grid.shape == (count, objectives)
    assert grid.dtype == np.float64
    assert len(rows) == count, "no preference twice"
    assert np.allclose(grid.sum(1), 1)
    assert (grid >= 0).all()
    assert {tuple(row) for row in np.eye(objectives)} <= rows
    assert tuple(np.round(np.full(objectives, 1 / objectives), 12)) in rows


def test_deployed_utility_takes_the_policy_of_each_preference_and_no_better_one() -> None:
    preferences = [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]
    points = [[0.2, 0.9], [0.8, 0.2], [0.5, 0.7]]  # the first two are the wrong way round
    assert deployed_utility(points, preferences) == pytest.approx((0.2 + 0.2 + 0.6) / 3)
    points[0][1] = points[2][0] = float("nan")
    assert deployed_utility(points, preferences) == pytest.approx((0.2 + 0.2 + 0.7) / 3)
    assert np.isnan(deployed_utility([[np.nan, 0.3]], [[1.0, 0.0]]))
    assert worst_objective([0.6, 0.3]) == 0.3


def test_one_answer_for_all_is_not_distinct() -> None:
    assert distinct_share(["a"] * 4) == 0.25
    assert distinct_share(["a", "b", "a"]) == pytest.approx(2 / 3)
    assert distinct_share([]) == 0


def test_distances_to_the_pooled_front_by_hand() -> None:
    a, b = [[0.9, 0.1], [0.2, 0.2]], [[0.1, 0.9], [0.5, 0.05]]
    front = pooled_front([a, b])
    assert sorted(map(tuple, front)) == [(0.1, 0.9), (0.2, 0.2), (0.9, 0.1)]
    # From a: (0.9,0.1) and (0.2,0.2) are matched, (0.1,0.9) lacks 0.7 in the second objective from (0.2,0.2).
    assert igd_plus(a, front) == pytest.approx(0.7 / 3)
    assert additive_epsilon(a, front) == pytest.approx(0.7)
    assert igd_plus(front, front) == additive_epsilon(front, front) == 0


def test_controllability_is_the_rank_correlation_of_asked_and_got() -> None:
    grid = simplex_grid(2, 6)
    assert controllability(grid, grid**2) == pytest.approx(1)
    assert controllability(grid, 1 - grid) == pytest.approx(-1)
    assert controllability(grid, np.column_stack([grid[:, 0], np.full(7, 0.5)])) == pytest.approx(0.5)


def test_t_interval_by_hand() -> None:
    interval = t_interval([1.0, 2.0, 3.0])
    assert interval.mean == 2
    assert interval.half_width == pytest.approx(4.302653 / np.sqrt(3), rel=1e-5)
    assert np.isnan(t_interval([1.0]).half_width)


def test_t_interval_covers_as_promised() -> None:
    draws = np.random.default_rng(0).normal(size=(2000, 3))
    intervals = [t_interval(row) for row in draws]
    assert np.mean([i.low <= 0 <= i.high for i in intervals]) == pytest.approx(0.95, abs=0.015)


def test_hierarchical_bootstrap_covers_seed_and_prompt_effects_where_pooling_does_not() -> None:
    rng = np.random.default_rng(1)
    covered, pooled = [], []
    for _ in range(200):
        seed_effect, prompt_effect = rng.normal(size=(12, 1)), rng.normal(size=(1, 40))
        values = seed_effect + prompt_effect + rng.normal(size=(12, 40))
        interval = hierarchical_bootstrap(values, rng, resamples=500)
        naive = t_interval(values.ravel())
        covered.append(interval.low <= 0 <= interval.high)
        pooled.append(naive.low <= 0 <= naive.high)
    assert 0.87 <= np.mean(covered) <= 0.99
    assert np.mean(pooled) < 0.6


def test_hierarchical_bootstrap_equals_the_plain_loop() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(4, 25))
    values[1, :9] = np.nan  # not applicable
    means = []
    for _ in range(4000):
        sample = values[rng.integers(4, size=4)][:, rng.integers(25, size=25)]
        means.append(np.nanmean(sample))
    interval = hierarchical_bootstrap(values, np.random.default_rng(5))
    assert interval.mean == pytest.approx(np.nanmean(values))
    assert interval.n == 4
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.03)


def test_permutation_test_counts_every_sign_pattern() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.4, 1, 7), rng.normal(0, 1, 7)
    patterns = [abs(sum(s * d for s, d in zip(signs, a - b, strict=True))) for signs in product([1, -1], repeat=7)]
    expected = sum(value >= patterns[0] - 1e-9 for value in patterns) / 128
    assert paired_permutation_test(a, b) == expected


@pytest.mark.parametrize("pairs", [1, 2, 3, 5, 8])
def test_a_clean_sweep_gives_the_smallest_p(pairs: int) -> None:
    wins = 0.1 + np.arange(pairs) / 7
    assert paired_permutation_test(wins, np.zeros(pairs)) == smallest_p(pairs) == 2 / 2**pairs
    assert paired_permutation_test(wins, wins) == 1


def test_many_pairs_are_sampled_and_agree_with_scipy() -> None:
    a = np.random.default_rng(3).normal(0.25, 1, 40)
    reference = permutation_test(
        (a, np.zeros(40)),
        lambda x, y, axis: (x - y).mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=20_000,
        rng=np.random.default_rng(0),
    )
    assert paired_permutation_test(a, np.zeros(40)) == pytest.approx(reference.pvalue, abs=0.015)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_diversity_counts_within_a_response() -> None:
    assert diversity_2(["You feel tired.", "you feel tired"]) == 1
    assert diversity_2(["so so so so"]) == pytest.approx(1 / 3)
    assert diversity_2(["yes", ""]) == 0
    assert diversity_2([]) == 0


def test_edit_rate() -> None:
    assert edit_rate("I don't want this.", "i don't WANT this") == 0
    assert edit_rate("one two three", "") == 1
    assert edit_rate("", "") == 0
    assert edit_rate("a b c d", "a x c") == pytest.approx(2 / 4)
    assert levenshtein("kitten", "sitting") == 3
