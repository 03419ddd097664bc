"""Aggregates and paired differences against scipy, enumeration and closed forms."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import binom, permutation_test, trim_mean, ttest_1samp, ttest_ind

from emorl_bench.indicators.aggregates import iqm, iqm_interval, performance_profile, probability_of_improvement
from emorl_bench.indicators.differences import equivalence_p, estimate, permutation_p, t_test_p, unseen_share
from emorl_bench.indicators.intervals import holm

DRAWS = 40_000


@pytest.mark.parametrize("runs", [1, 3, 4, 5, 8, 19])
def test_the_interquartile_mean_is_scipys_trimmed_mean(runs: int) -> None:
    values = np.random.default_rng(runs).normal(size=(2, runs))
    assert iqm(values) == pytest.approx(trim_mean(values, 0.25, axis=1))


def test_its_bootstrap_draws_runs_within_each_task() -> None:
    tasks = [np.array([0.0, 1.0, 5.0]), np.array([10.0, 12.0])]
    drawn = [iqm(np.concatenate(pair)) for pair in product(product(tasks[0], repeat=3), product(tasks[1], repeat=2))]
    found = iqm_interval([tasks[0], tasks[1]], resamples=DRAWS, level=0.8)
    assert found.mean == pytest.approx(trim_mean(np.concatenate(tasks), 0.25))
    assert found.n == 5
    low, high = np.quantile(drawn, [0.1, 0.9])
    assert (found.low, found.high) == (pytest.approx(low, abs=0.02), pytest.approx(high, abs=0.02))
    assert found.high < 8, "no draw has more than two runs of the second task"


def test_probability_of_improvement_is_averaged_over_tasks_and_bounded_by_draws_within_each() -> None:
    a, b = [[1.0, 2.0, 2.0], [5.0, 1.0]], [[0.0, 2.0], [3.0]]
    by_hand = ((1 + 0 + 1 + 0.5 + 1 + 0.5) / 6 + (1 + 0) / 2) / 2
    found = probability_of_improvement(a, b, resamples=DRAWS, level=0.9)
    assert found.mean == pytest.approx(by_hand)

    def share(x: tuple[float, ...], y: tuple[float, ...]) -> float:
        return float(np.mean([(p > q) + 0.5 * (p == q) for p in x for q in y]))

    first = [share(x, y) for x in product(a[0], repeat=3) for y in product(b[0], repeat=2)]
    second = [share(x, (3.0,)) for x in product(a[1], repeat=2)]
    every = np.array([(p + q) / 2 for p in first for q in second])
    low, high = np.quantile(every, [0.05, 0.95])
    assert (found.low, found.high) == (pytest.approx(low, abs=0.02), pytest.approx(high, abs=0.02))


def test_a_profile_counts_the_runs_above_each_threshold_and_its_band_is_binomial() -> None:
    runs = np.linspace(0.1, 1.0, 10)
    found = performance_profile([runs], [0.0, 0.35, 0.75, 1.0], resamples=DRAWS)
    assert found.share_X.tolist() == [1.0, 0.7, 0.3, 0.0]
    for share, low, high in zip(found.share_X, found.low_X, found.high_X, strict=True):
        assert (low, high) == pytest.approx(binom.ppf([0.025, 0.975], 10, share) / 10, abs=1e-9)
    two = performance_profile([runs, [0.0, 0.0]], [0.35])
    assert two.share_X == pytest.approx([0.35]), "tasks weigh the same, however many runs they have"


def test_one_task_is_the_paired_t_test_and_two_are_welchs() -> None:
    rng = np.random.default_rng(1)
    one, two = rng.normal(0.3, 1, 6), rng.normal(0.1, 3, 9)
    paired = ttest_1samp(one, 0)
    assert t_test_p([one]) == pytest.approx(paired.pvalue)
    interval, bounds = estimate([one]).interval(0.9), paired.confidence_interval(0.9)
    assert (interval.low, interval.high, interval.n) == (pytest.approx(bounds.low), pytest.approx(bounds.high), 6)
    welch = ttest_ind(one, -two, equal_var=False)  # mean(one) - mean(-two) is twice the mean over both tasks
    assert t_test_p([one, two]) == pytest.approx(welch.pvalue)
    both, bounds = estimate([one, two]).interval(), welch.confidence_interval(0.95)
    assert (both.low, both.high) == (pytest.approx(bounds.low / 2), pytest.approx(bounds.high / 2))
    assert both.n == 15


@pytest.mark.parametrize("shift", [0.0, 0.015, -0.03])
def test_equality_is_two_one_sided_t_tests(shift: float) -> None:
    values, margin = np.random.default_rng(2).normal(shift, 0.01, 7), 0.02
    low = ttest_1samp(values, -margin, alternative="greater").pvalue
    high = ttest_1samp(values, margin, alternative="less").pvalue
    assert equivalence_p([values], margin) == pytest.approx(max(low, high))
    found = estimate([values]).interval(0.9)
    assert (equivalence_p([values], margin) <= 0.05) == (-margin <= found.low <= found.high <= margin)


def test_one_pair_shows_nothing() -> None:
    assert equivalence_p([[0.0]], 0.02) == t_test_p([[0.3]]) == 1
    assert np.isnan(estimate([[0.3], [0.1, 0.2]]).interval().low)
    with pytest.raises(ValueError, match="at least one pair"):
        estimate([[0.1], []])


def test_the_permutation_of_one_task_is_scipys_and_of_two_is_enumerated() -> None:
    rng = np.random.default_rng(3)
    one, two = rng.normal(0.4, 1, 5), rng.normal(0.2, 1, 3)
    theirs = permutation_test((one,), lambda x, axis: x.mean(axis), permutation_type="samples", n_resamples=np.inf)
    assert permutation_p([one]) == pytest.approx(theirs.pvalue)
    observed = abs(one.mean() + two.mean())
    signs = list(product((1, -1), repeat=8))
    extreme = sum(abs((s[:5] * one).mean() + (s[5:] * two).mean()) >= observed - 1e-12 for s in signs)
    assert permutation_p([one, two]) == pytest.approx(extreme / len(signs))


def test_fewer_true_hypotheses_need_less_correction() -> None:
    p = [0.01, 0.02, 0.03, 0.9]
    assert holm(p) == pytest.approx([0.04, 0.06, 0.06, 0.9])
    assert holm(p, most_true=2) == pytest.approx([0.02, 0.04, 0.06, 0.9]), "Shaffer: factors 2, 2, 2, 1"
    assert holm(p, most_true=4) == holm(p)


def test_what_so_many_runs_may_not_have_shown() -> None:
    for pairs in (5, 10, 59):
        assert binom.pmf(0, pairs, unseen_share(pairs)) == pytest.approx(0.05)
    assert unseen_share(100) == pytest.approx(3 / 100, rel=0.02), "the rule of three"
