"""Experts whose hidden states are averaged at an earlier layer of the decoder, and once more at its end.

EMORL (2505.02579, section 3.2) blends last hidden states. The head is linear, so these are blended logits. Here the
hidden states after ``layer`` decoder blocks are averaged with the blend's weights. The upper blocks of every expert
then read that average with the expert's own adapter, keys and values, and the last hidden states are blended as before.
The upper blocks are not linear, so no blend of logits gives this policy. In an encoder-decoder each expert's decoder
reads its own encoder.

Against EMORL:

- Layers are counted as transformers counts ``hidden_states``. The last one is what the head reads, after the final
  norm. So ``layer`` = number of layers is EMORL. A weight vector with one expert alone gives that expert.
- The number of passes is the same: one for each expert and token. One pass with merged parameters above the average
  would be cheaper. It would also mix two ways of combining, and the step of each architecture would have to be divided
  in two.
- Only samples of one weight vector share prefixes, greedy answers do not follow from one another, and no fused step is
  used. So a search costs more than EMORL's by all that `docs/decoding.md` saves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Aggregator, Policy, Sampler
from emorl_bench.decoding.layer_averaging import decoder_blocks
from emorl_bench.ensemble.blending import HiddenState
from emorl_bench.policies.together import on_one_base
from emorl_bench.search.successive_halving import directions


@dataclass(frozen=True)
class EarlierLayerMixing(HiddenState):
    """Experts whose hidden states are averaged after ``layer`` decoder blocks, and once more before the head."""

    layer: int

    @property
    def inner_layer(self) -> int:
        """See `decoding.mixing.Mixing.inner_layer`."""
        return self.layer


@dataclass(frozen=True)
class EarlierLayer(Aggregator):
    """Average hidden states after some of the decoder's blocks, and blend the last ones.

    Weights are scaled to sum 1, because inside the decoder their sum would multiply the hidden state.

    Attributes:
        layer: the number of blocks before the average; None is half of them.
    """

    layer: int | None = None

    def blend(self, experts: Sequence[Policy], weights_WM: Tensor) -> Sampler:
        """See `core.protocols.Aggregator.blend`.

        Raises:
            UserError: the model of the experts has no such layer.
        """
        layer, layers = self._place(experts)
        mixing = HiddenState() if layer == layers else EarlierLayerMixing(layer)
        return mixing.blend(experts, directions(weights_WM))

    def validate(self, policy: Policy) -> None:
        """See `core.protocols.Aggregator.validate`.

        Raises:
            UserError: the policy's model has no such layer, or it does not mark its blocks.
        """
        self._place([policy])

    def _place(self, policies: Sequence[Policy]) -> tuple[int, int]:
        """The number of blocks before the average, and the number of all blocks."""
        decoder, _ = on_one_base(policies)
        layers = len(decoder_blocks(decoder.backbone.model))
        if self.layer is None:
            return max(1, layers // 2), layers
        if self.layer not in range(1, layers + 1):
            raise UserError(
                f"method.aggregator.layer={self.layer}: the decoder of this model has {layers} layers; give a whole "
                f"number from 1 to {layers} (which is method=emorl), or null for half of them"
            )
        return int(self.layer), layers
