"""AIM (2502.02421): a merge of EMORL's experts that spares the input channels which the base model uses most.

``W' = W + update * (1 - s (1 - omega))``, column by column. For each input channel of a layer, s is the mean magnitude
of the base model's inputs on calibration texts, divided by the largest mean of the layer. With ``omega`` 1 the merge
stays as it is. With ``omega`` 0 the most used channel of each layer stays as the base has it. AIM follows any merge.
After a soup the update stays low-rank, because only A is scaled.

Against the paper: the calibration texts are training prompts with the base model's own sampled answers, where the paper
takes general text. Their prompts and tokens are charged like those of a learner, and they are taken from what is
reserved for the search.
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
    """AIM after another merge.

    Attributes:
        merge: the merge that AIM follows, such as the soup.
        omega: the share of its update that the most used channel keeps.
        calibration_prompts: the number of training prompts for the calibration.
        salience: s (I,) in [0, 1] for each layer, which the calibration finds.
    """

    merge: Merge
    omega: float = 0.4
    calibration_prompts: int = 32
    salience: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            UserError: ``omega`` lies outside [0, 1], or there are no calibration prompts.
        """
        check_share("omega", self.omega, zero=True, one=True)
        if self.calibration_prompts < 1:
            raise UserError(f"method.aggregator.calibration_prompts={self.calibration_prompts}: give 1 or more")

    def blend(self, experts: Sequence[Policy], weights_WM: Tensor) -> Sampler:
        """See `core.protocols.Aggregator.blend`."""
        return OneByOne(experts, weights_WM, self)

    def merged(self, adapters: Sequence[Adapter], weights_M: Tensor) -> Adapter:
        """The merge under weights (M,), with the columns of its A scaled."""
        before = self.merge.merged(adapters, weights_M)
        kept = {layer: 1 - s_I * (1 - self.omega) for layer, s_I in self.salience.items()}
        return replace(before, factors={n: (a * kept[n].to(a), b) for n, (a, b) in before.factors.items()})

    def calibrated(self, bench: Bench, experts: Sequence[Policy]) -> Aim:
        """Find the salience of every layer on training prompts and the base model's answers to them.

        This is a phase of its own in the ledger. It needs no expert, so it could run beside their training.

        Raises:
            UserError: the method's budget does not pay for the prompts (`Ledger.ask`).
        """
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
    """The mean magnitude of each layer's input channels in the base model on these texts, with 1 as its largest.

    Rows are read one at a time, so no padding enters the mean.

    Returns:
        (I,) by the name of the layer.
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
    """Add up the magnitudes of all inputs of every layer; divided by the largest sum, sums serve as means."""

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
