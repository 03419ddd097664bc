"""Ensembles: how experts are blended into one sampler, and how the weights of a blend are searched."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from emorl_bench.core.protocols.policies import Policy, Sampler

if TYPE_CHECKING:
    from emorl_bench.core.protocols.method import Bench


class Aggregator(ABC):
    """Blends M experts into one sampler. New weights cost nothing; new experts must be trained.

    Blending is batched: W weight vectors make one sampler. Its rows are weight-major: W blocks, each with the rows that
    a blend of one weight vector would give.
    """

    calibration_prompts: int = 0
    """Training prompts that `calibrated` spends. They are taken from what is reserved for the search."""

    @abstractmethod
    def blend(self, experts: Sequence[Policy], weights_WM: Tensor) -> Sampler:
        """A sampler for all weight vectors (W, M) at once."""

    def validate(self, policy: Policy) -> None:  # noqa: B027, most go with every model
        """Check, before anything is trained, that this aggregator works with the policy's model.

        Raises:
            UserError: it does not.
        """

    def calibrated(self, bench: Bench, experts: Sequence[Policy]) -> Aggregator:
        """The aggregator that blends these experts, after it has seen what it needs of the base model.

        Most aggregators need nothing, and return themselves.
        """
        return self


class WeightSearch(Protocol):
    """A search for the best weights of one preference. It knows nothing of language models."""

    def ask(self) -> Tensor:
        """(W, M) candidates to evaluate; W = 0 when the search is over."""

    def tell(self, weights_WM: Tensor, utility_W: Tensor) -> None:
        """Report the utility (W,) of the candidates (W, M) that `ask` has returned last."""

    def best(self) -> Tensor:
        """(M,) the best weights found."""


class SearchStrategy(Protocol):
    """The settings of a search for one preference, from the configuration."""

    def start(self, experts: int) -> WeightSearch:
        """A new search for the weights of this number of experts (M)."""


class FrontSearch(Protocol):
    """One search for all preferences: it is told the score of every objective, and can answer every preference."""

    def ask(self) -> Tensor:
        """(W, M) candidates to evaluate; W = 0 when the search is over."""

    def tell(self, weights_WM: Tensor, scores_WK: Tensor) -> None:
        """Report the mean scores (W, K) of the candidates (W, M); NaN where an objective does not apply."""

    def best(self, preference_K: Tensor) -> Tensor:
        """(M,) the best weights found for a preference (K,)."""


class FrontStrategy(ABC):
    """The settings of one search for all preferences, from the configuration. A strategy of this kind inherits it."""

    @abstractmethod
    def start_front(self, experts: int) -> FrontSearch:
        """A new search for the weights of this number of experts (M)."""
