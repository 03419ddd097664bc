"""The score of best-of-n for every n at once, from one set of samples."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln


def best_of_n_kl(n: int) -> float:
    """KL in nats between best-of-n and its base: ``ln n - (n - 1) / n``, an upper bound where candidates tie.

    Hilton & Gao 2022, used by Gao et al., arXiv 2210.10760; the bound is Beirami et al., arXiv 2401.01879.
    """
    return math.log(n) - (n - 1) / n


def expected_best(chosen_by_PN: ArrayLike, worth_PN: ArrayLike, sizes: Sequence[int]) -> NDArray[np.float64]:
    """(P, len(sizes)) expected value of the sample that ranks first among n, for every prompt and every n of ``sizes``.

    It is the mean over all subsets of n of the N samples, by order statistics (Gao et al., appendix; Nakano et al.,
    arXiv 2112.09332, appendix I): the i-th smallest is the largest of ``C(i - 1, n - 1)`` of the ``C(N, n)`` subsets.
    So it is unbiased for n new samples. Samples that tie are equally likely to be chosen.

    Args:
        chosen_by_PN: the scores that choose among N samples of each prompt.
        worth_PN: the value of each sample.
        sizes: numbers of samples to choose from.

    Raises:
        ValueError: a size is below 1 or above N.
    """
    chosen_by, worth = np.asarray(chosen_by_PN, dtype=np.float64), np.asarray(worth_PN, dtype=np.float64)
    count = chosen_by.shape[1]
    if not all(1 <= n <= count for n in sizes):
        raise ValueError(f"sizes={list(sizes)}: give numbers from 1 to the {count} samples")
    leads_NJ = np.stack([_leads(count, n) for n in sizes], axis=1)
    best_PJ = np.empty((len(chosen_by), len(sizes)))
    for p, (by_N, worth_N) in enumerate(zip(chosen_by, worth, strict=True)):
        _, tie_N, ties_T = np.unique(by_N, return_inverse=True, return_counts=True)
        shared_T = np.bincount(tie_N, weights=worth_N) / ties_T
        best_PJ[p] = shared_T[np.sort(tie_N)] @ leads_NJ
    return best_PJ


def _leads(count: int, n: int) -> NDArray[np.float64]:
    """(N,) probability that the i-th smallest of ``count`` is the largest of a random n of them."""
    i_N = np.arange(n, count + 1)
    logs = gammaln(i_N) - gammaln(n) - gammaln(i_N - n + 1)
    every = gammaln(count + 1) - gammaln(n + 1) - gammaln(count - n + 1)
    return np.concatenate([np.zeros(n - 1), np.exp(logs - every)])
