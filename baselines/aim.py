"""AIM (2502.02421) of the experts that EMORL blends: a merge that spares the input channels the base model uses most.

``W' = W + update * (1 - s (1 - omega))``, column by column: s is the mean magnitude of each input of a layer in the
base model on calibration texts, divided by the layer's largest. ``omega`` 1 leaves the merge as it is, 0 keeps the most
used channel of each layer as the base has it. It follows any merge; after a soup it stays low-rank: only A is scaled.

Against the paper: calibrated on training prompts and the base model's own sampled answers, where it takes general text;
the prompts and tokens are charged as those of a learner, and taken from what is reserved for the search.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Aggregator, Bench, Policy, Sampler
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Rollout
from emorl_bench.ensemble.merging import Merge, OneByOne, check_share
from emorl_bench.models.lora import Adapter
from emorl_bench.policies.together import on_one_base


@dataclass(frozen=True)
class Aim(Aggregator):
    """``merge``: what AIM follows, such as the soup. ``omega``: how much of its update the most used channel keeps.
    ``calibration_prompts``: of the train split. ``salience``: (I,) in [0, 1] for each layer, which calibration finds.
    """

    merge: Merge
    omega: float = 0.4
    calibration_prompts: int = 32
    salience: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_share("omega", self.omega, zero=True, one=True)
        if self.calibration_prompts < 1:
            raise UserError(f"method.aggregator.calibration_prompts={self.calibration_prompts}: give 1 or more")

    def blend(self, experts: Sequence[Policy], weights_WM: Tensor) -> Sampler:
        return OneByOne(experts, weights_WM, self)

    def merged(self, adapters: Sequence[Adapter], weights_M: Tensor) -> Adapter:
        before = self.merge.merged(adapters, weights_M)
        kept = {layer: 1 - s_I * (1 - self.omega) for layer, s_I in self.salience.items()}
        return replace(before, factors={n: (a * kept[n].to(a), b) for n, (a, b) in before.factors.items()})

    def calibrated(self, bench: Bench, experts: Sequence[Policy]) -> Aim:
        """On training prompts only. A phase of its own: it needs no expert, so it could run beside their training."""
        order = torch.randperm(len(bench.train), generator=stream(bench.seed, "calibration", "prompts"))
        prompts = [bench.train[i] for i in order[: self.calibration_prompts].tolist()]
        once = replace(bench.sampling, samples_per_prompt=1)
        with bench.ledger.phase("train/calibration"):
            answers = experts[0].reference().generate(prompts, once, stream(bench.seed, "calibration"))
            with bench.ledger.metered("calibrate") as call:
                call.tokens = answers.tokens
                return replace(self, salience=salience(experts, answers))


@torch.no_grad()
def salience(experts: Sequence[Policy], rollout: Rollout) -> dict[str, Tensor]:
    """Mean magnitude of each layer's input channels in the base model on these texts, its largest brought to 1.

    Rows go one at a time: no padding enters the mean.
    """
    decoder, _ = on_one_base(experts)
    base = experts[0].reference()
    sums: dict[str, Tensor] = {}
    with _watching(decoder.backbone.layers, sums):
        for row in range(len(rollout.examples)):
            base.hidden(rollout.rows([row]))
    return {layer: sum_I / sum_I.max().clamp_min(torch.finfo(sum_I.dtype).tiny) for layer, sum_I in sums.items()}


@contextmanager
def _watching(layers: Mapping[str, nn.Module], sums: dict[str, Tensor]) -> Iterator[None]:
    """Add up the magnitudes of what every layer is given; divided by the layer's largest, sums do for means."""

    def watch(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def add(_: nn.Module, given: tuple[Any, ...]) -> None:
            seen_I = given[0].abs().double().flatten(0, -2).sum(0)
            sums[name] = sums[name] + seen_I if name in sums else seen_I

        return add

    handles = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
