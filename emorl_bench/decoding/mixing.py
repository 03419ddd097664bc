"""How outputs get their logits from the hidden states of their rows: the interface between decoding and aggregation."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Protocol, runtime_checkable

from torch import Tensor

Head = Callable[[Tensor], Tensor]


class Mixing(Hashable, Protocol):
    """How each output gets its logits from the hidden states of its row's adapters.

    The largest token must maximise something that is linear in the weights: `blend_cache` relies on that.
    """

    def logits(self, hidden_NRH: Tensor, row_L: Tensor, weights_LM: Tensor, head: Head) -> Tensor:
        """Logits (L, V) of L outputs.

        Args:
            hidden_NRH: hidden states of all R rows under all N adapters.
            row_L: the row of each output.
            weights_LM: the weights of each output for the adapters.
            head: hidden states (..., H) -> logits (..., V).
        """

    def states(self, hidden_NRH: Tensor, row_L: Tensor, weights_LM: Tensor) -> Tensor | None:
        """Hidden states (L, H) whose logits under the head are these; None for mixings without such states."""


@runtime_checkable
class InnerMixing(Mixing, Protocol):
    """A `Mixing` that also averages the adapters' rows inside the decoder (`layer_averaging`).

    A row's states then depend on its weights, and the scores of its tokens are not linear in them. So weight vectors
    share no rows, and their answers are not cached.
    """

    @property
    def layer(self) -> int:
        """The number of blocks before the average; at least one block follows."""


class Identity:
    """No mixing: a row has one adapter (or one sum of adapters), and its logits are those of its own hidden state."""

    def states(self, hidden_NRH: Tensor, row_L: Tensor, weights_LM: Tensor) -> Tensor:
        """The hidden state of each output's row: (1, R, H) -> (L, H)."""
        return hidden_NRH[0, row_L]

    def logits(self, hidden_NRH: Tensor, row_L: Tensor, weights_LM: Tensor, head: Head) -> Tensor:
        """The logits (L, V) of each output's row. Samples that still share a row share one product with the head."""
        if len(row_L) > hidden_NRH.shape[1]:  # samples still share rows
            return head(hidden_NRH[0])[row_L]
        return head(self.states(hidden_NRH, row_L, weights_LM))
