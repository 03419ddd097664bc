"""Experts that meet at an earlier layer of the decoder, and once more at its end.

EMORL (2505.02579, section 3.2) blends last hidden states; the head is linear, so these are blended logits. Here the
states after ``layer`` blocks are averaged with the blend's weights, every expert's upper blocks read that average with
their own adapter, keys and values, and the last hidden states are blended as before: what lies above is not linear, so
this is a policy that no blend of logits gives. In an encoder-decoder each expert's decoder reads its own encoder.

Against EMORL:

- Layers are counted as transformers counts ``hidden_states``: the last one is what the head reads, final norm included,
  so ``layer`` = number of layers is EMORL. One expert's weight alone gives that expert.
- Passes are as many, one for each expert and token. One pass with merged parameters above the meeting would be fewer;
  it would also mix two ways of combining, and need each architecture's step in two parts.
- Prefixes are shared by samples of one weight vector only, greedy answers do not follow from one another, and the fused
  step does not serve: a search is dearer than EMORL's by all that `docs/decoding.md` saves.
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
class Met(HiddenState):
    """Last hidden states of experts that have met after ``layer`` blocks (`decoding.mixing.InnerMixing`)."""

    layer: int


@dataclass(frozen=True)
class EarlierLayer(Aggregator):
    """``layer``: after how many of the decoder's blocks; None: half of them. Weights are brought to sum 1: inside the
    decoder their sum would be the size of a state.
    """

    layer: int | None = None

    def blend(self, experts: Sequence[Policy], weights_WM: Tensor) -> Sampler:
        layer, layers = self._place(experts)
        mixing = HiddenState() if layer == layers else Met(layer)
        return mixing.blend(experts, directions(weights_WM))

    def validate(self, policy: Policy) -> None:
        """Raise a `UserError` where this policy's model has no such layer."""
        self._place([policy])

    def _place(self, policies: Sequence[Policy]) -> tuple[int, int]:
        """The layer to meet after, and how many there are."""
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
