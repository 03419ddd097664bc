"""The interfaces of searches for the weights of a blend. A search knows nothing of language models."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor


class WeightSearch(Protocol):
    """A search for the best weights of one preference: ask for candidates, tell their utility."""

    def ask(self) -> Tensor:
        """(W, M) candidates to evaluate; W = 0 when the search is over."""

    def tell(self, weights_WM: Tensor, utility_W: Tensor) -> None:
        """Report the utility (W,) of the candidates (W, M) that `ask` has returned last."""

    def best(self) -> Tensor:
        """(M,) the best weights found."""


class SearchStrategy(Protocol):
    """The settings of a search, from the configuration."""

    def start(self, experts: int) -> WeightSearch:
        """A new search for the weights of M experts."""


class FrontSearch(Protocol):
    """A search for the whole front at once. It is told the scores of every objective, and answers every preference."""

    def ask(self) -> Tensor:
        """(W, M) candidates to evaluate; W = 0 when the search is over."""

    def tell(self, weights_WM: Tensor, scores_WK: Tensor) -> None:
        """Report the mean scores (W, K) of the candidates (W, M); NaN where an objective does not apply."""

    def best(self, preference_K: Tensor) -> Tensor:
        """(M,) the weights for a preference (K,)."""


@runtime_checkable
class FrontStrategy(Protocol):
    """The settings of a search for the whole front, from the configuration."""

    def start_front(self, experts: int) -> FrontSearch:
        """A new search for the weights of M experts."""
