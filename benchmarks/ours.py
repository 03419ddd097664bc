"""Our side of the comparisons, through the same calls that a run makes, and what came out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.bounds import Peaks, Work, distinct_rows, reading_bound, steps_bound
from benchmarks.models import Setting
from benchmarks.timing import Side, Timing, timed
from emorl_bench.core.protocols import Sampler
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Example, Sampling
from emorl_bench.ensemble.blending import HiddenState


@dataclass
class Decode:
    """Greedy decodes of one sampler, ``vectors`` weight vectors at once; remembers the last one's tokens."""

    setting: Setting
    sampler: Sampler
    vectors: int = 1
    experts: int = 1
    times: int = 1  # batches of prompts
    ids_WBT: Tensor = field(default_factory=lambda: torch.zeros(1, 1, 1))
    rows_share: float = 1.0  # of the rows of its outputs, those that were decoded
    working_bytes: int = 0  # on a GPU, the most that the last decode held beside what was there before

    @property
    def side(self) -> Side:
        return timed(self._prepare, self.setting.backbone.device)

    def _prepare(self) -> Callable[[], object]:
        examples = self.setting.prompts(self.times)
        return lambda: self.run(examples)

    def warm_up(self) -> None:
        """Two tokens: libraries load, weights are fused."""
        short = replace(self, setting=replace(self.setting, new_tokens=2))
        short.run(short.setting.prompts(short.times))

    def run(self, examples: list[Example]) -> None:
        before = self._fed
        greedy = Sampling(self.setting.new_tokens, temperature=0.0)
        occupied = self._gpu_bytes(reset=True)
        rollout = self.sampler.generate(examples, greedy, stream(0))
        self.working_bytes = self._gpu_bytes() - occupied
        if rollout.tokens != self.vectors * len(examples) * self.setting.new_tokens:
            raise AssertionError(f"a response ended early: {rollout.tokens} tokens decoded, so work is not equal")
        self.ids_WBT = rollout.response_ids_BT.view(self.vectors, len(examples), -1)
        self.rows_share = (self._fed - before) / rollout.tokens

    def _gpu_bytes(self, *, reset: bool = False) -> int:
        """The peak so far, or when ``reset`` what is allocated now; 0 without a GPU."""
        device = self.setting.backbone.device
        if device.type != "cuda":
            return 0
        if reset:
            torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.max_memory_allocated(device)

    @property
    def _fed(self) -> int:
        """Tokens that forward passes were spent on so far; outputs with one prefix share them."""
        return self.setting.bank.decoder.ledger.current.decoded_tokens

    def bound(self, peaks: Peaks) -> float:
        work, lengths = Work.of(self.setting), self.setting.prompt_lengths() * self.times
        reading = reading_bound(peaks, work, self.experts, lengths)
        return reading + steps_bound(peaks, work, self.experts, lengths, self.ids_WBT)

    def facts(self, timing: Timing) -> dict[str, Any]:
        """What a row of the table also says."""
        facts: dict[str, Any] = {"tokens_per_second": self.ids_WBT.numel() / timing.median}
        if self.vectors > 1:
            outputs = distinct_rows(self.ids_WBT)[1]
            facts |= {"rows_share": self.rows_share, "outputs_per_prompt": outputs}
        if self.setting.backbone.device.type == "cuda":
            model = self.setting.backbone.model
            facts["peak_bytes"] = sum(p.nbytes for p in model.parameters()) + self.working_bytes
        return facts


def blended(setting: Setting, weights_WM: Tensor) -> Decode:
    blend = HiddenState().blend(setting.experts, weights_WM)
    return Decode(setting, blend, vectors=len(weights_WM), experts=len(setting.experts))


def one_policy(setting: Setting, times: int) -> Decode:
    """One expert alone on ``times`` as many prompts."""
    return Decode(setting, setting.experts[0], times=times)


def scattered_weights(count: int, experts: int) -> Tensor:
    """(W, M) float64: random points of the simplex, no two in one direction."""
    exponential_WM = -torch.rand(count, experts, generator=stream(0, "weights"), dtype=torch.float64).log()
    return exponential_WM / exponential_WM.sum(1, keepdim=True)
