"""What one decode is given and what it returns: rows and outputs (`Batch`), how (`Plan`), and tokens (`Generated`).

Outputs are weight-major: W blocks (weight vectors, or policies) of P prompts of G samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from emorl_bench.core.types import Sampling
from emorl_bench.decoding.blend_cache import BlendCache
from emorl_bench.decoding.layer_averaging import LayerAveraging
from emorl_bench.decoding.mixing import Mixing
from emorl_bench.models.backbone import Backbone
from emorl_bench.models.lora import Adapter, RowMix


@dataclass(frozen=True)
class Batch:
    """S starting rows, one prompt each, and the O outputs that are generated from them.

    Attributes:
        prompts: token ids of the prompt of each starting row.
        mix_SM: weights by which each row sums the adapters; None: every row is decoded by every adapter.
        start_O: index of the starting row of each output.
        weights_OM: weights of each output for the hidden states of its row's adapters.
        uniforms_TO: the random number of each step of each output, in [0, 1).
        known_OT: token ids that are known before decoding, as wide as the longest such prefix; -1 after its end.
    """

    prompts: Sequence[Sequence[int]]
    mix_SM: Tensor | None
    start_O: Tensor
    weights_OM: Tensor
    uniforms_TO: Tensor
    known_OT: Tensor

    @classmethod
    def of_policies(
        cls, prompts: Sequence[Sequence[int]], mix_SM: Tensor | None, samples: int, uniforms_TO: Tensor
    ) -> Batch:
        """One starting row for each prompt of each policy; its outputs are the samples of that prompt.

        Args:
            prompts: token ids of W*P prompts, policy-major.
            mix_SM: the weights by which each row sums the adapters, or None for one policy.
            samples: G, the outputs of each row.
            uniforms_TO: the random number of each step of each output.
        """
        start_O = torch.arange(len(prompts)).repeat_interleave(samples)
        return cls(prompts, mix_SM, start_O, torch.ones(len(start_O), 1), uniforms_TO, nothing_known(len(start_O)))

    @classmethod
    def of_blends(
        cls,
        prompts: Sequence[Sequence[int]],
        weights_WM: Tensor,
        samples: int,
        uniforms_TO: Tensor,
        *,
        shared: bool,
    ) -> Batch:
        """W weight vectors on each of P prompts.

        Args:
            prompts: token ids of the P prompts.
            weights_WM: the weight vectors.
            samples: G, the outputs of each weight vector and prompt.
            uniforms_TO: the random number of each step of each output.
            shared: whether all weight vectors start in one row of the prompt, or each in a row of its own.
        """
        readings = 1 if shared else len(weights_WM)
        start_S = torch.arange(len(prompts) * readings)
        start_O = start_S.repeat_interleave(samples).repeat(len(weights_WM) // readings)
        weights_OM = weights_WM.repeat_interleave(len(prompts) * samples, dim=0)
        return cls([*prompts] * readings, None, start_O, weights_OM, uniforms_TO, nothing_known(len(start_O)))

    def weights_of_rows(self) -> Tensor:
        """(S, M): the weights of each starting row's outputs; only for rows that weight vectors do not share."""
        weights_SM = self.weights_OM.new_zeros(len(self.prompts), self.weights_OM.shape[1])
        weights_SM[self.start_O] = self.weights_OM
        return weights_SM

    def only(self, outputs: Tensor) -> Batch:
        """These outputs and the starting rows that they need.

        Without outputs one row remains: ranks that make steps together all need a row to feed.
        """
        needed, start_O = torch.unique(self.start_O[outputs], return_inverse=True)
        needed = needed if len(needed) else torch.zeros(1, dtype=torch.long)
        return Batch(
            [self.prompts[i] for i in needed.tolist()],
            None if self.mix_SM is None else self.mix_SM[needed],
            start_O,
            self.weights_OM[outputs],
            self.uniforms_TO[:, outputs],
            self.known_OT[outputs],
        )

    def of_rows(self, low: int, high: int) -> Tensor:
        """Indices of the outputs that start in rows ``low … high-1``."""
        return ((self.start_O >= low) & (self.start_O < high)).nonzero().squeeze(1)

    def to(self, backbone: Backbone) -> Batch:
        """The same on the model's device; ``mix_SM`` in the model's dtype."""
        device = backbone.device
        mix_SM = None if self.mix_SM is None else self.mix_SM.to(device, backbone.dtype)
        outputs = (t.to(device) for t in (self.start_O, self.weights_OM, self.uniforms_TO, self.known_OT))
        return Batch(self.prompts, mix_SM, *outputs)


@dataclass(frozen=True)
class Plan:
    """How a batch is decoded.

    Attributes:
        adapters: M adapters; none at all is the base model.
        mixing: how outputs get their logits from the hidden states of the adapters.
        sampling: number of tokens, temperature and samples.
        blend_cache: keys and values of prompts, and known answers; None keeps nothing.
    """

    adapters: Sequence[Adapter]
    mixing: Mixing
    sampling: Sampling
    blend_cache: BlendCache | None = None

    def averaging(self, part: Batch) -> LayerAveraging | None:
        """After which block the rows of a part are averaged, with their weights; None for mixing at the head alone."""
        if self.mixing.inner_layer is None:
            return None
        return LayerAveraging(self.mixing.inner_layer, RowMix(part.weights_of_rows()))


@dataclass(frozen=True)
class Generated:
    """Token ids of O outputs, which of them are real, and their log-probabilities, each (O, T)."""

    ids: Tensor
    mask: Tensor
    logprobs: Tensor

    @classmethod
    def empty(cls, outputs: int, sampling: Sampling, backbone: Backbone) -> Generated:
        """Padding only. Log-probabilities of greedy tokens are NaN, and stay NaN."""
        shape, device = (outputs, sampling.max_new_tokens), backbone.device
        exact = torch.promote_types(backbone.dtype, torch.float32)
        return cls(
            torch.full(shape, backbone.pad, device=device),
            torch.zeros(shape, dtype=torch.bool, device=device),
            torch.full(shape, 0.0 if sampling.temperature else torch.nan, dtype=exact, device=device),
        )


def nothing_known(outputs: int) -> Tensor:
    """(O, 0): no output begins with known tokens."""
    return torch.empty(outputs, 0, dtype=torch.long)


def uniforms(sampling: Sampling, prompts: int, blocks: int, rngs: Sequence[torch.Generator]) -> Tensor:
    """(T, W*P*G) random numbers in [0, 1), one for each step of each output.

    With one generator all W blocks have the same numbers; with W generators each block has its own.
    """
    shape = (sampling.max_new_tokens, prompts * sampling.samples_per_prompt)
    drawn = [torch.rand(shape, generator=rng) for rng in rngs]
    return torch.cat(drawn * (blocks // len(drawn)), dim=1)
