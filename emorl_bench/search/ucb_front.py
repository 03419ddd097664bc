"""The front by hypervolume upper confidence bounds (UCB-driven utility function search, 2405.00410).

A surrogate model predicts every objective over the weights. The next candidate is the one whose predicted upper bound,
``mean + confidence * deviation``, would add most hypervolume to the known front.

Against the paper: weights blend experts that are trained already, where the paper picks preferences to train policies
on. The surrogate is a Gaussian process, where the paper's release takes the spread of bagged regressors. A batch is
filled one by one, and each upper bound joins the front, where the paper takes the N best, which may be near-copies.
Half of the candidates lie near the front.

Noise: the front to be improved is the posterior mean at the evaluated candidates. A preference is answered with the
blend of the best posterior mean, so a lucky value does not win. Scores are divided by their range, and the reference
point lies a tenth of it below the lowest score. So objectives of different scales count alike. One search answers every
preference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.core.masked import weighted_mean
from emorl_bench.core.protocols import FrontStrategy
from emorl_bench.search.gaussian_process import GaussianProcess, Spectrum, spectra_of
from emorl_bench.search.history import check_positive, nothing, within_budget
from emorl_bench.search.hypervolume import best_addition
from emorl_bench.search.sticks import sobol_points
from emorl_bench.search.successive_halving import SuccessiveHalving

Floats = NDArray[np.float64]
BELOW = 0.1  # distance of the reference point below the lowest score, in ranges of the score
NEAR = 0.3  # largest share of a random point in a candidate near the front
POINTLESS = 1e-9  # a smaller range counts as constant
ANSWERS = 1024  # random blends from which an answer is chosen before it is refined
POLISH = (0.3, 0.1, 0.03)  # steps


@dataclass(frozen=True)
class UcbFront(SuccessiveHalving, FrontStrategy):
    """Settings.

    ``startup``: Sobol points after the corners and before the first prediction. ``pool``: candidates that each choice
    is made from. ``untried``: whether a preference may be answered with a blend that was never decoded.
    """

    evaluations: int = 32
    batch: int = 4
    confidence: float = 2.0
    startup: int = 4
    pool: int = 256
    untried: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            UserError: one of them is wrong.
        """
        super().__post_init__()
        check_positive(evaluations=self.evaluations, batch=self.batch, startup=self.startup, pool=self.pool)
        if self.confidence < 0:
            raise UserError(f"method.search.confidence={self.confidence}: give 0 or more")
        self.candidates(self.evaluations, untried=int(self.untried))  # raises where the budget cannot pay for it

    def start_front(self, experts: int) -> UcbFrontSearch:
        """See `FrontStrategy.start_front`."""
        return UcbFrontSearch(self, experts)


class UcbFrontSearch:
    """One search (`core.protocols.FrontSearch`)."""

    def __init__(self, settings: UcbFront, experts: int) -> None:
        """Nothing is evaluated yet."""
        self.settings, self.experts = settings, experts
        candidates = settings.candidates(settings.evaluations, untried=int(settings.untried))
        self.evaluations = within_budget(candidates, experts)
        self.rng = np.random.default_rng(settings.seed)
        self.evaluated_NM = np.empty((0, experts))
        self.scores_NK: Floats | None = None
        self.fitted: dict[int, GaussianProcess] = {}  # to all evaluated candidates

    def ask(self) -> Tensor:
        """The corners and the first Sobol points; after these, the most promising candidates."""
        left = self.evaluations - len(self.evaluated_NM)
        if left <= 0:
            return nothing(self.experts)
        if self.scores_NK is None:
            inside_WM = sobol_points(self.settings.startup, self.experts, self.settings.seed)
            return torch.from_numpy(np.vstack([np.eye(self.experts), inside_WM])[:left])
        return torch.from_numpy(self._promising(min(self.settings.batch, left)))

    def tell(self, weights_WM: Tensor, scores_WK: Tensor) -> None:
        """Note the scores; predictions are made anew."""
        self.fitted = {}
        reported_WK = scores_WK.double().numpy()
        self.evaluated_NM = np.vstack([self.evaluated_NM, weights_WM.numpy()])
        self.scores_NK = reported_WK if self.scores_NK is None else np.vstack([self.scores_NK, reported_WK])

    def best(self, preference_K: Tensor) -> Tensor:
        """The blend with the highest predicted utility: an evaluated one, or with ``untried`` possibly another one."""
        points_XM = self.evaluated_NM
        if self.settings.untried and self.experts > 1:
            rng = np.random.default_rng(self.settings.seed)
            points_XM = np.vstack([points_XM, rng.dirichlet(np.ones(self.experts), ANSWERS)])
            for step in POLISH:
                top_XM = points_XM[np.argsort(-self._worth(points_XM, preference_K), kind="stable")[:8]]
                aims_XM = rng.dirichlet(np.ones(self.experts), 32 * len(top_XM))
                moved_XM = (1 - step) * np.repeat(top_XM, 32, axis=0) + step * aims_XM
                points_XM = np.vstack([top_XM, moved_XM])
        return torch.from_numpy(points_XM[int(self._worth(points_XM, preference_K).argmax())].copy())

    def _worth(self, points_XM: Floats, preference_K: Tensor) -> Floats:
        """(X,) utility of the predicted scores."""
        believed_XK = np.full((len(points_XM), len(preference_K)), np.nan)
        for k, surrogate in self._surrogates().items():
            believed_XK[:, k] = surrogate.posterior(points_XM)[0]
        utility_X = weighted_mean(torch.from_numpy(believed_XK), preference_K.double()).nan_to_num(0.0)
        return np.asarray(utility_X.numpy())

    def _surrogates(self) -> dict[int, GaussianProcess]:
        """Objective -> its surrogate. An objective that applied to no prompt of any candidate is left out."""
        assert self.scores_NK is not None
        if not self.fitted:
            spectra: dict[
                bytes, list[Spectrum]
            ] = {}  # by the set of candidates that an objective applies to, which is mostly all
            for k, known_N in enumerate(np.isfinite(self.scores_NK).T):
                if known_N.any():
                    x_ND, key = self.evaluated_NM[known_N], known_N.tobytes()
                    spectra[key] = spectra.get(key) or spectra_of(x_ND)
                    self.fitted[k] = GaussianProcess.fit(x_ND, self.scores_NK[known_N, k], spectra[key])
        return self.fitted

    def _promising(self, count: int) -> Floats:
        """(W, M) candidates, chosen one by one."""
        surrogates = list(self._surrogates().values())
        front_NK = np.column_stack(
            [s.posterior(self.evaluated_NM)[0] for s in surrogates] or [np.zeros(len(self.evaluated_NM))]
        )
        pool_CM = self._pool(front_NK)
        predicted = [s.posterior(pool_CM) for s in surrogates]
        bounds = [mean_C + self.settings.confidence * deviation_C for mean_C, deviation_C in predicted]
        upper_CK = np.column_stack(bounds or [np.zeros(len(pool_CM))])
        least_K, range_K = front_NK.min(0), np.maximum(np.ptp(front_NK, axis=0), POINTLESS)
        front_NK, upper_CK = (front_NK - least_K) / range_K, (upper_CK - least_K) / range_K
        reference_K = np.full(front_NK.shape[1], -BELOW)
        chosen: list[int] = []
        for _ in range(count):
            left = [c for c in range(len(pool_CM)) if c not in chosen]
            chosen.append(left[best_addition(front_NK, upper_CK[left], reference_K)])
            front_NK = np.vstack([front_NK, upper_CK[chosen[-1]]])
        return pool_CM[chosen]

    def _pool(self, front_NK: Floats) -> Floats:
        """(C, M) candidates: half anywhere on the simplex, half near the candidates that are not dominated."""
        anywhere_CM = self.rng.dirichlet(np.ones(self.experts), max(self.settings.pool, self.settings.batch))
        beaten_N = np.any(np.all(front_NK[:, None] < front_NK[None], axis=-1), axis=1)
        near = len(anywhere_CM) // 2
        centres_CM = self.rng.permutation(self.evaluated_NM[~beaten_N])[np.arange(near) % int((~beaten_N).sum())]
        step_C1 = NEAR * self.rng.random((near, 1))
        return np.vstack([anywhere_CM[near:], (1 - step_C1) * centres_CM + step_C1 * anywhere_CM[:near]])
