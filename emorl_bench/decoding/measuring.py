"""Whether recorded steps are faster than launched ones on this device with this model, and equal to them."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch
from torch import Tensor

from emorl_bench.core.clock import seconds_of
from emorl_bench.decoding.fused.engine import FusedModel
from emorl_bench.decoding.graphs import Record
from emorl_bench.decoding.stepping import Start, rounding, static_stepper
from emorl_bench.models.backbone import Backbone

ROWS, STEPS = 16, 32  # of the decode that is timed; with it, what recording takes is paid back within a short answer


@dataclass
class GraphTimes:
    """Seconds of a short decode, launched and recorded; ``same`` says whether the states agree but for rounding."""

    launched: float
    recorded: float
    same: bool

    @property
    def pays(self) -> bool:
        """Whether recording is right, and saves time."""
        return self.same and self.recorded < self.launched


@torch.no_grad()
def time_graphs(backbone: Backbone, fused: FusedModel, record: Record) -> GraphTimes:
    """Time both, and compare their states. A line on stderr says so where these differ."""
    start = Start([backbone.prompt_ids("a b c")] * ROWS, (), None, STEPS + 1)
    states = {how: _decoded(backbone, fused, start, how) for how in (None, record)}
    launched_RH, recorded_RH = (states[how].double() for how in (None, record))
    error = ((launched_RH - recorded_RH).norm(dim=-1) / launched_RH.norm(dim=-1)).max()
    same = bool(error <= rounding(backbone, len(fused.projections)))
    if not same:
        print("decode: recorded steps differ from launched ones, so none is recorded", file=sys.stderr, flush=True)
    works = [lambda how=how: _decoded(backbone, fused, start, how) for how in (None, record)]
    launched, recorded = seconds_of(backbone.device, *works)
    return GraphTimes(launched, recorded, same)


def _decoded(backbone: Backbone, fused: FusedModel, start: Start, record: Record | None) -> Tensor:
    """(R, H): the last states of a decode of fixed tokens, which differ from row to row."""
    stepper = static_stepper(backbone, fused, start, None, record)
    stepper.first()
    stepper.rows.reserve(STEPS + 1)
    first_R = torch.arange(ROWS, device=backbone.device) % backbone.vocabulary
    for step in range(STEPS):
        hidden_NRH = stepper.step((first_R + step) % backbone.vocabulary)
    return hidden_NRH[0].clone()
