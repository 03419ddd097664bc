"""Losses, batches and measures of trained scorers against counts and loops written out by hand."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau, spearmanr

from emorl_bench.scorer_training import metrics
from emorl_bench.scorer_training.levels import Graded, shuffled, with_shuffled
from emorl_bench.scorer_training.losses import PAIR_KINDS, bradley_terry_ranking, cumulative, margin_ranking, pairs_of
from emorl_bench.scorer_training.ranking import Ranking, ResponseGroup
from emorl_bench.scorer_training.study import bucketed


def test_the_margin_loss_is_the_mean_over_every_pair_of_a_prompts_own_responses() -> None:
    groups = torch.rand(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def mean(pairs: list[tuple[int, int]], margin: float) -> float:
        return float(np.mean([max(0.0, margin - float(g[a] - g[b])) for g in groups for a, b in pairs]))

    by_hand = mean([(0, 1)], 0.5) + mean([(1, 2), (1, 3)], 0.5) + mean([(0, 2), (0, 3)], 1.0)
    by_hand += mean([(0, 4)], 1.0) + mean([(1, 4)], 0.5)
    pairs = pairs_of([["hq", "mq", "lq", "lq", "mismatch"]] * 7)
    assert float(margin_ranking(groups.flatten(), pairs)) == pytest.approx(by_hand, abs=1e-6)
    assert len(pairs.margin_E) == 7 * 7


def test_every_pair_of_a_whole_prompt_counts_and_kinds_count_the_same_in_every_prompt() -> None:
    kinds = [["hq", "hq", "mq", "lq", "lq", "lq", "mismatch"], ["lq", "hq", "mq"]]
    values = torch.tensor([2.0, 0.1, 0.4, -1.0, 0.3, 0.2, -0.5, 0.7, 0.6, -0.2])
    total, start = 0.0, 0
    for own in kinds:
        at = {kind: [float(values[start + i]) for i, k in enumerate(own) if k == kind] for kind in set(own)}
        for kind in PAIR_KINDS:
            compared = [(b, w) for b in at.get(kind.better, []) for w in at.get(kind.worse, [])]
            terms = [np.log1p(np.exp(w - b)) * kind.share for b, w in compared]
            total += float(np.mean(terms)) / 2 if terms else 0.0
        start += len(own)
    assert float(bradley_terry_ranking(values, pairs_of(kinds))) == pytest.approx(total, abs=1e-6)


def test_the_losses_have_the_gradients_of_their_values() -> None:
    rng = torch.Generator().manual_seed(1)
    values = torch.rand(15, dtype=torch.float64, generator=rng).requires_grad_()
    pairs = pairs_of([["hq", "mq", "lq", "lq", "mismatch"]] * 3)
    for loss in (margin_ranking, bradley_terry_ranking):
        assert torch.autograd.gradcheck(lambda x, loss=loss: loss(x, pairs), (values,))
    logits = torch.randn(6, 2, dtype=torch.float64, generator=rng).requires_grad_()
    level, weight = torch.tensor([0, 1, 2, 2, 1, 0]), torch.rand(6, dtype=torch.float64, generator=rng)
    assert torch.autograd.gradcheck(lambda x: cumulative(x, level, weight), (logits,))


def test_the_cumulative_loss_is_the_weighted_mean_of_binary_cross_entropies() -> None:
    logits, level, weight = torch.tensor([[1.0, -1.0], [0.5, 0.2]]), torch.tensor([1, 2]), torch.tensor([1.0, 3.0])

    def log_loss(x: float, above: bool) -> float:
        p = 1 / (1 + np.exp(-x))
        return float(-np.log(p if above else 1 - p))

    rows = [(log_loss(1.0, True) + log_loss(-1.0, False)) / 2, (log_loss(0.5, True) + log_loss(0.2, True)) / 2]
    assert float(cumulative(logits, level, weight)) == pytest.approx((rows[0] + 3 * rows[1]) / 4, abs=1e-6)


# what is measured --------------------------------------------------------------------------------
def test_measures_agree_with_a_count_by_hand() -> None:
    rng = np.random.default_rng(0)
    value, level = rng.random(40).round(1), rng.integers(0, 3, 40)
    near = np.abs(np.subtract.outer(rows := rng.integers(0, 9, 40), rows)) <= 3
    pairs = [(i, j) for i in range(40) for j in range(40) if level[i] > level[j] and near[i, j]]
    right = sum(1.0 if value[i] > value[j] else 0.5 * (value[i] == value[j]) for i, j in pairs)
    statistic, count = metrics.concordance(value, level, near)
    assert count == len(pairs)
    assert statistic(np.arange(40)) == pytest.approx(right / len(pairs))
    correlations = metrics.rank_correlations(value, level)
    assert correlations["spearman"](np.arange(40)) == pytest.approx(spearmanr(value, level).statistic)
    assert correlations["kendall"](np.arange(40)) == pytest.approx(kendalltau(value, level).statistic)
    f1 = metrics.macro_f1(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1]), 3)
    assert f1(np.arange(4)) == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_calibration_of_a_perfect_and_of_a_boastful_forecast() -> None:
    said = np.repeat([0.1, 0.5, 0.9], 100)
    came = np.concatenate([np.arange(100) < share for share in (10, 50, 90)]).astype(float)
    assert metrics.reliability(said, came)["ece"] == pytest.approx(0, abs=1e-9)
    assert metrics.reliability(np.ones(10), np.arange(10) % 2.0)["ece"] == pytest.approx(0.5)


def test_intervals_resample_groups_not_rows() -> None:
    values = np.repeat(np.random.default_rng(1).random(12), 50)
    alone = metrics.interval(metrics.mean_of(values), list(range(600)))
    grouped = metrics.interval(metrics.mean_of(values), [i // 50 for i in range(600)])
    assert grouped["value"] == alone["value"]
    assert grouped["high"] - grouped["low"] > 4 * (alone["high"] - alone["low"])


# what is shown -----------------------------------------------------------------------------------
def test_a_five_holds_a_prompts_own_responses_and_one_of_another() -> None:
    groups = [ResponseGroup(f"p{i}", (f"h{i}", f"H{i}"), (f"m{i}",), (f"l{i}", f"L{i}", f"x{i}")) for i in range(6)]
    for batch in Ranking(groups, groups).batches(2, random.Random(0)):
        for start in range(0, len(batch.texts), 5):
            own = batch.texts[start][0]
            kinds = [text[0] for _, text in batch.texts[start : start + 5]]
            numbers = [text[1:] for _, text in batch.texts[start : start + 5]]
            assert {prompt for prompt, _ in batch.texts[start : start + 5]} == {own}
            assert (kinds[0] in "hH", kinds[1], kinds[2] != kinds[3], kinds[4] in "hH") == (True, "m", True, True)
            assert numbers[:4] == [own[1:]] * 4
            assert numbers[4] != own[1:]


def test_batches_are_whole_epochs_of_like_length() -> None:
    lengths = random.Random(2).choices(range(100), k=101)
    found = bucketed(lengths, 4, random.Random(3))
    assert sorted(i for batch in found for i in batch) == list(range(101))
    spread = np.mean([np.ptp([lengths[i] for i in batch]) for batch in found])
    assert spread < 0.3 * np.ptp(lengths)


def test_exchanged_responses_come_from_another_group_of_the_same_corpus() -> None:
    rows = [Graded((f"p{i}", f"{corpus}{i // 2}"), 1, f"{corpus}:{i // 2}") for corpus in "ab" for i in range(20)]
    for row in shuffled(rows, random.Random(0)):
        assert row.level == 0
        assert row.text[1] != row.group.replace(":", "")
        assert row.text[1][0] == row.group[0]
    assert with_shuffled(rows) == with_shuffled(rows)
