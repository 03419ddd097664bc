"""Our side of the comparisons, through the same calls that a run makes, and what it found."""

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
    """Greedy decodes of one sampler; it remembers the tokens of the last one.

    Attributes:
        setting: model and prompts.
        sampler: what is decoded.
        vectors: weight vectors that are decoded at once.
        experts: the experts that decode each row.
        times: batches of prompts.
        ids_WBT: the tokens of the last decode.
        rows_share: decoded rows over the rows of all outputs.
        working_bytes: on a GPU, the most bytes that the last decode held beside what was there before.
    """

    setting: Setting
    sampler: Sampler
    vectors: int = 1
    experts: int = 1
    times: int = 1
    ids_WBT: Tensor = field(default_factory=lambda: torch.zeros(1, 1, 1))
    rows_share: float = 1.0
    working_bytes: int = 0

    @property
    def side(self) -> Side:
        """A timed decode on new prompts."""
        return timed(self._prepare, self.setting.backbone.device)

    def _prepare(self) -> Callable[[], object]:
        examples = self.setting.prompts(self.times)
        return lambda: self.run(examples)

    def warm_up(self) -> None:
        """Decode two tokens, so that libraries are loaded and weights are fused."""
        short = replace(self, setting=replace(self.setting, new_tokens=2))
        short.run(short.setting.prompts(short.times))

    def run(self, examples: list[Example]) -> None:
        """Decode the prompts.

        Raises:
            AssertionError: a response ended early, so both sides would not do the same work.
        """
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
        """Tokens that forward passes were made for so far; outputs with one prefix share them."""
        return self.setting.bank.decoder.ledger.current.decoded_tokens

    def bound(self, peaks: Peaks) -> float:
        """The least seconds that the last decode could take on this machine."""
        work, lengths = Work.of(self.setting), self.setting.prompt_lengths() * self.times
        reading = reading_bound(peaks, work, self.experts, lengths)
        return reading + steps_bound(peaks, work, self.experts, lengths, self.ids_WBT)

    def facts(self, timing: Timing) -> dict[str, Any]:
        """The numbers beside the time in a row of the table."""
        facts: dict[str, Any] = {"tokens_per_second": self.ids_WBT.numel() / timing.median}
        if self.vectors > 1:
            outputs = distinct_rows(self.ids_WBT)[1]
            facts |= {"rows_share": self.rows_share, "outputs_per_prompt": outputs}
        if self.setting.backbone.device.type == "cuda":
            model = self.setting.backbone.model
            facts["peak_bytes"] = sum(p.nbytes for p in model.parameters()) + self.working_bytes
        return facts


def blended(setting: Setting, weights_WM: Tensor) -> Decode:
    """Decode blends of all experts of a setting under W weight vectors (W, M)."""
    blend = HiddenState().blend(setting.experts, weights_WM)
    return Decode(setting, blend, vectors=len(weights_WM), experts=len(setting.experts))


def one_policy(setting: Setting, times: int) -> Decode:
    """Decode one expert alone on ``times`` as many prompts."""
    return Decode(setting, setting.experts[0], times=times)


def scattered_weights(count: int, experts: int) -> Tensor:
    """(W, M) float64: random points of the simplex, no two of them in one direction."""
    exponential_WM = -torch.rand(count, experts, generator=stream(0, "weights"), dtype=torch.float64).log()
    return exponential_WM / exponential_WM.sum(1, keepdim=True)
