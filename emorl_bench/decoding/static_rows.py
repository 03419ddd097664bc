"""The decode loop of a GPU, which should not wait for the host: it looks for ended answers only once in n tokens.

Every output has a row of its own from its first token on, also where outputs agree. A row whose answer has ended gets
padding until half of all rows have ended; then the ended rows are dropped. Between two such checks the host reads no
token, so no step waits for it. The tokens are those of the other loop (`decoding.decode`), but for rounding, because a
row's states depend on its own tokens alone. Rows that could be shared are computed several times, so this loop is for
decodes with few rows, whose time goes into launching kernels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from emorl_bench.decoding.batch import Batch, Generated, Plan
from emorl_bench.decoding.fused.static import StaticStepper
from emorl_bench.decoding.graphs import Record
from emorl_bench.decoding.stepping import Start, static_stepper

if TYPE_CHECKING:
    from emorl_bench.decoding.decode import Decoder

STATIC_ROWS = 1024  # rows times experts; with more, the rows that sharing saves are worth more than launches


def decode_static(
    decoder: Decoder, plan: Plan, part: Batch, generated: Generated, mine_O: Tensor, record: Record | None
) -> int:
    """Decode one part of a batch, and write its outputs to the rows ``mine_O`` of ``generated``.

    ``record`` makes graphs of the steps; None launches each kernel.

    Returns:
        how many tokens were fed to the model, those of rows that had ended included.
    """
    assert decoder.fused is not None
    start = Start(part.prompts, plan.adapters, part.mix_SM, plan.sampling.max_new_tokens)
    stepper = static_stepper(decoder.backbone, decoder.fused, start, plan.blend_cache, record)
    return _Static(decoder, plan, part, generated, mine_O, stepper).run()


class _Static:
    """A running decode. ``output_L`` are the outputs with a row, ``going_L`` says which of them have not ended."""

    def __init__(
        self, decoder: Decoder, plan: Plan, part: Batch, generated: Generated, mine_O: Tensor, stepper: StaticStepper
    ) -> None:
        self.decoder, self.plan, self.part, self.stepper = decoder, plan, part, stepper
        self.generated, self.mine_O = generated, mine_O
        self.output_L = torch.arange(len(part.start_O), device=mine_O.device)
        self.row_L, self.going_L = part.start_O, torch.ones_like(self.output_L, dtype=torch.bool)

    def run(self) -> int:
        steps, every = self.plan.sampling.max_new_tokens, self.decoder.check_every
        hidden_NRH, fed = self.stepper.first(), len(self.part.prompts)
        for t in range(steps):
            token_L = self.choose(hidden_NRH, t)
            if t + 1 == steps:
                break
            if t == 0:
                self.stepper.rows.keep(self.row_L)
                self.row_L = self.output_L
            if t % every == 0:
                kept = self.check()
                if kept is not None and not len(kept):
                    break
                token_L = token_L if kept is None else token_L[kept]
                self.stepper.rows.reserve(min(steps, t + 1 + every))
            hidden_NRH = self.stepper.step(token_L)
            fed += len(token_L)
        return fed

    def choose(self, hidden_NRH: Tensor, t: int) -> Tensor:
        """Choose and write the next token (L,) of each output. Nothing here waits for the device."""
        rows = self.decoder.readout_rows(len(hidden_NRH))
        found = [
            self.decoder.next_tokens(self.plan, self.part, hidden_NRH, row_L, output_L, t)
            for row_L, output_L in zip(self.row_L.split(rows), self.output_L.split(rows), strict=True)
        ]
        token_L, logp_L = (torch.cat(parts) for parts in zip(*found, strict=True))
        if t < self.part.known_OT.shape[1]:
            known_L = self.part.known_OT[self.output_L, t]
            token_L = torch.where(known_L < 0, token_L, known_L)
        into_L, generated, backbone = self.mine_O[self.output_L], self.generated, self.decoder.backbone
        token_L = token_L.masked_fill(~self.going_L, backbone.pad)  # `where` would copy the number there, and wait
        generated.ids[into_L, t], generated.mask[into_L, t] = token_L, self.going_L
        generated.logprobs[into_L, t] = torch.where(self.going_L, logp_L, generated.logprobs[into_L, t])
        self.going_L = self.going_L & ~backbone.is_eos(token_L)
        return token_L

    def check(self) -> Tensor | None:
        """The rows that go on, where at most half of them do and the others are dropped; else None. The host waits."""
        kept = self.going_L.nonzero().squeeze(1)
        if 2 * len(kept) > len(self.going_L):
            return None
        if len(kept):
            self.stepper.rows.keep(kept)
        self.output_L, self.going_L = self.output_L[kept], self.going_L[kept]
        self.row_L = torch.arange(len(kept), device=kept.device)
        return kept
