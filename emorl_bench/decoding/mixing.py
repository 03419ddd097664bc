"""How outputs get their logits from the hidden states of their rows: the seam between decoding and aggregation."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Protocol, runtime_checkable

from torch import Tensor

Head = Callable[[Tensor], Tensor]


class Mixing(Hashable, Protocol):
    """How each output gets its logits from the hidden states of its row's adapters.

    Which token is the largest must be decided by something linear in the weights: `memory` relies on it.
    """

    def logits(self, hidden_NRH: Tensor, row_L: Tensor, weights_LM: Tensor, head: Head) -> Tensor:
        """(L, V) from all rows' states, the row and the weights of each output."""

    def states(self, hidden_NRH: Tensor, row_L: Tensor, weights_LM: Tensor) -> Tensor | None:
        """(L, H) states of which the head makes these logits; None where there are no such states."""


@runtime_checkable
class InnerMixing(Mixing, Protocol):
    """A `Mixing` whose adapters also meet inside the decoder (`meeting`), under the weights of each row's outputs.

    What a row holds then depends on its weights, and its largest token is not linear in them: weight vectors share no
    rows, and there is no memory of their answers.
    """

    @property
    def layer(self) -> int: ...  # after how many blocks; others follow


class Alone:
    """Every row speaks for itself."""

    def states(self, hidden_NRH: Tensor, row_L: Tensor, weights_LM: Tensor) -> Tensor:
        return hidden_NRH[0, row_L]

    def logits(self, hidden_NRH: Tensor, row_L: Tensor, weights_LM: Tensor, head: Head) -> Tensor:
        if len(row_L) > hidden_NRH.shape[1]:  # samples that have not parted yet
            return head(hidden_NRH[0])[row_L]
        return head(self.states(hidden_NRH, row_L, weights_LM))
