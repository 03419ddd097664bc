"""Vowpal Wabbit's contextual bandit with action features, as a `bandits.Bandit`. It needs the extra ``vw``.

DynaOpt's release (2403.13578) runs ``--cb_explore_adf --cover 3``. A linear model in which context and action are
separate ranks the arms in the same order in every context. So the two are crossed as well here (``--quadratic ca``).
"""

from __future__ import annotations

import importlib
import weakref
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from emorl_bench.rl.weightings.bandits import Floats, sampled

ARGUMENTS = "--cb_explore_adf --cover 3 --quadratic ca --random_seed 1 --quiet"


def is_installed() -> bool:
    """Whether the package can be imported."""
    return find_spec("vowpalwabbit") is not None


class VowpalWabbit:
    """It predicts a distribution over arms; the draw is ours, so that a repeated run draws the same.

    Cost is 1 - reward.
    """

    def __init__(self, arms: int) -> None:
        """Start the package's bandit, untrained."""
        self.arms = arms
        self.workspace: Any = importlib.import_module("vowpalwabbit").Workspace(ARGUMENTS)
        weakref.finalize(self, self.workspace.finish)  # before the interpreter unloads the module
        self.drawn, self.probability, self.lines = 0, 1.0, [""]

    def probabilities(self, lines: Sequence[str]) -> Floats:
        """(A,) the predicted probability of each arm, for a context in the package's text format."""
        predicted_A = np.asarray(self.workspace.predict(list(lines)), dtype=np.float64)
        return np.asarray(predicted_A / predicted_A.sum())  # float32: the sum is 1 up to rounding

    def draw(self, context_F: Floats, rng: torch.Generator) -> int:
        """See `Bandit.draw`."""
        features = " ".join(f"f{i}:{value!r}" for i, value in enumerate(context_F.tolist()))
        self.lines = [f"shared |c {features}", *(f"|a arm{arm}" for arm in range(self.arms))]
        probabilities_A = self.probabilities(self.lines)
        self.drawn = sampled(probabilities_A, rng)
        self.probability = float(probabilities_A[self.drawn])
        return self.drawn

    def learn(self, reward: float) -> None:
        """See `Bandit.learn`."""
        lines = list(self.lines)
        lines[1 + self.drawn] = f"0:{1 - reward!r}:{self.probability!r} {lines[1 + self.drawn]}"
        self.workspace.learn(lines)
