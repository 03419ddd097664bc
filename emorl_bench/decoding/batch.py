"""What one decode is given and what it gives: the batch of rows and outputs, the plan, the tokens that were spoken.

Outputs are weight-major: W blocks (weight vectors, or policies) of P prompts of G samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from emorl_bench.core.types import Sampling
from emorl_bench.models.backbone import Backbone
from emorl_bench.models.lora import Adapter, RowMix
from emorl_bench.decoding.layer_averaging import Meeting
from emorl_bench.decoding.blend_cache import BlendMemory
from emorl_bench.decoding.mixing import InnerMixing, Mixing


@dataclass(frozen=True)
class Batch:
    """Rows to start from, and the outputs that grow out of them."""

    prompts: Sequence[Sequence[int]]  # one for each of S starting rows
    mix_SM: Tensor | None  # rows of their own adapter sums; None: every row is decoded by every adapter
    start_O: Tensor  # the starting row of each output
    weights_OM: Tensor  # how each output weighs the hidden states of its row's adapters
    uniforms_TO: Tensor
    known_OT: Tensor  # tokens that are known to be said; -1 from where on they are not; as wide as the longest

    @classmethod
    def of_policies(
        cls, prompts: Sequence[Sequence[int]], mix_SM: Tensor | None, samples: int, uniforms_TO: Tensor
    ) -> Batch:
        """Every starting row is one policy's prompt, and speaks for itself."""
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
        """W weight vectors on each prompt; all of them start in one row of it, unless rows are not ``shared``."""
        readings = 1 if shared else len(weights_WM)
        start_S = torch.arange(len(prompts) * readings)
        start_O = start_S.repeat_interleave(samples).repeat(len(weights_WM) // readings)
        weights_OM = weights_WM.repeat_interleave(len(prompts) * samples, dim=0)
        return cls([*prompts] * readings, None, start_O, weights_OM, uniforms_TO, nothing_known(len(start_O)))

    def weights_of_rows(self) -> Tensor:
        """(S, M): the weights of each starting row's outputs, which are equal where rows are not shared."""
        weights_SM = self.weights_OM.new_zeros(len(self.prompts), self.weights_OM.shape[1])
        weights_SM[self.start_O] = self.weights_OM
        return weights_SM

    def only(self, outputs: Tensor) -> Batch:
        """These outputs and the starting rows that they need, and one row even for none: to keep pace with."""
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
        """The outputs that start in rows ``low … high-1``."""
        return ((self.start_O >= low) & (self.start_O < high)).nonzero().squeeze(1)

    def to(self, backbone: Backbone) -> Batch:
        """On the model's device; sums of adapters in the model's own type."""
        device = backbone.device
        mix_SM = None if self.mix_SM is None else self.mix_SM.to(device, backbone.dtype)
        outputs = (t.to(device) for t in (self.start_O, self.weights_OM, self.uniforms_TO, self.known_OT))
        return Batch(self.prompts, mix_SM, *outputs)


@dataclass(frozen=True)
class Plan:
    """How a batch is decoded."""

    adapters: Sequence[Adapter]
    mixing: Mixing
    sampling: Sampling
    memory: BlendMemory | None = None

    def meeting(self, part: Batch) -> Meeting | None:
        """Where the rows of a part meet inside the decoder, if they do."""
        if not isinstance(self.mixing, InnerMixing):
            return None
        return Meeting(self.mixing.layer, RowMix(part.weights_of_rows()))


@dataclass(frozen=True)
class Spoken:
    """Tokens of O outputs and how likely each was, (O, T)."""

    ids: Tensor
    mask: Tensor
    logprobs: Tensor

    @classmethod
    def nothing(cls, outputs: int, sampling: Sampling, backbone: Backbone) -> Spoken:
        """Padding alone; greedy log-probabilities are NaN and stay so."""
        shape, device = (outputs, sampling.max_new_tokens), backbone.device
        exact = torch.promote_types(backbone.dtype, torch.float32)
        return cls(
            torch.full(shape, backbone.pad, device=device),
            torch.zeros(shape, dtype=torch.bool, device=device),
            torch.full(shape, 0.0 if sampling.temperature else torch.nan, dtype=exact, device=device),
        )


def nothing_known(outputs: int) -> Tensor:
    return torch.empty(outputs, 0, dtype=torch.long)


def uniforms(sampling: Sampling, prompts: int, blocks: int, rngs: Sequence[torch.Generator]) -> Tensor:
    """(T, W*P*G): one random number for each step of each output, the same in every block unless each has its own."""
    shape = (sampling.max_new_tokens, prompts * sampling.samples_per_prompt)
    drawn = [torch.rand(shape, generator=rng) for rng in rngs]
    return torch.cat(drawn * (blocks // len(drawn)), dim=1)
