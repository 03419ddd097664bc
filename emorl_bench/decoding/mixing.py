"""How outputs get their logits from the hidden states of their rows: the interface between decoding and aggregation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor

Head = Callable[[Tensor], Tensor]


class Mixing(ABC):
    """How each output gets its logits from the hidden states of its row's adapters.

    Mixings are hashable: equal ones share what `blend_cache` knows. It relies on this: the largest token maximises
    something that is linear in the weights, unless there is an ``inner_layer``.
    """

    @property
    def inner_layer(self) -> int | None:
        """The number of blocks after which rows are also averaged inside the decoder; None: they never are.

        A row's states then depend on its weights, and the scores of its tokens are not linear in them. So weight
        vectors share no rows, and their answers are not cached.
        """
        return None

    @abstractmethod
    def logits(self, hidden_NRH: Tensor, row_L: Tensor, weights_LM: Tensor, head: Head) -> Tensor:
        """Logits (L, V) of L outputs.

        Args:
            hidden_NRH: hidden states of all R rows under all N adapters.
            row_L: the row of each output.
            weights_LM: the weights of each output for the adapters.
            head: hidden states (..., H) -> logits (..., V).
        """

    @abstractmethod
    def states(self, hidden_NRH: Tensor, row_L: Tensor, weights_LM: Tensor) -> Tensor | None:
        """Hidden states (L, H) whose logits under the head are these; None for mixings without such states."""


class Identity(Mixing):
    """No mixing: a row has one adapter (or one sum of adapters), and its logits are those of its own hidden state."""

    def states(self, hidden_NRH: Tensor, row_L: Tensor, weights_LM: Tensor) -> Tensor:
        """The hidden state of each output's row: (1, R, H) -> (L, H)."""
        return hidden_NRH[0, row_L]

    def logits(self, hidden_NRH: Tensor, row_L: Tensor, weights_LM: Tensor, head: Head) -> Tensor:
        """The logits (L, V) of each output's row. Samples that still share a row share one product with the head."""
        if len(row_L) > hidden_NRH.shape[1]:  # samples still share rows
            return head(hidden_NRH[0])[row_L]
        return head(self.states(hidden_NRH, row_L, weights_LM))
