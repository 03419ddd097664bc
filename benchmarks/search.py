"""Weight search: one whole simplex search to 1/32 against the published 135 evaluations.

The keys of the last line are the time of 135 naive evaluations over that of our whole search, scoring included.
``search`` has experts as alike as the embedded task's trained ones, ``search_strong`` has experts that hardly ever
agree.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.benches import random_bench
from benchmarks.bounds import Peaks, Work, reading_bound, steps_bound
from benchmarks.models import ALIKE, SHAPES, STRONG, Setting, Shape, micro, random_setting
from benchmarks.naive import naive
from benchmarks.ours import blended, scattered_weights
from benchmarks.record import Options, Record, options, run
from benchmarks.timing import Side, Timing, interleaved, timed
from emorl_bench.core.types import Rollout
from emorl_bench.ensemble.blending import HiddenState
from emorl_bench.ensemble.front import SearchedFront
from emorl_bench.search.simplex import SimplexSubdivision

LEVELS = 5  # each level halves the step: weights are found to 1/32
CUBE = 3  # the published grid has three points a side in each round


def published_evaluations(experts: int) -> int:
    """The evaluations of the published grid: five rounds of ``3^K`` points, 135 for three experts."""
    return LEVELS * int(CUBE**experts)  # 135 for three


@dataclass
class Search:
    """One whole search for one preference.

    A new model and a new decoder are made before each search, untimed, so nothing is remembered.

    Attributes:
        shape: the architecture and the work.
        options: the command line.
        experts: the number of experts and objectives.
        strength: the size of the adapters.
        rounds: (W, P, T) tokens of each round of the last search.
        setting: the model of the last search.
    """

    shape: Shape
    options: Options
    experts: int = 3
    strength: float = ALIKE
    rounds: list[Tensor] = field(default_factory=list)
    setting: Setting | None = None

    @property
    def side(self) -> Side:
        """A timed search."""
        return timed(self._prepare, self.options.device)

    def _prepare(self) -> Callable[[], object]:
        given, self.rounds = self.options, []
        setting = random_setting(
            self.shape, experts=self.experts, strength=self.strength, dtype=given.dtype, device=given.device
        )
        self.setting = setting
        blended(setting, scattered_weights(1, self.experts)).warm_up()
        directory = tempfile.TemporaryDirectory()
        bench = random_bench(setting, Path(directory.name))
        score, prompts = bench.score, len(bench.select)

        def watched(rollout: Rollout) -> Tensor:
            width = rollout.response_ids_BT.shape[1]
            self.rounds.append(rollout.response_ids_BT.view(-1, prompts, width))
            return score(rollout)

        strategy = SimplexSubdivision(levels=LEVELS)
        front = SearchedFront(replace(bench, score=watched), setting.experts, HiddenState(), strategy)
        uniform_K = torch.full((self.experts,), 1 / self.experts, dtype=torch.float64)

        def search() -> None:
            front.policy_for(uniform_K)
            directory.cleanup()

        return search

    def bound(self, peaks: Peaks) -> float:
        """The least seconds: the prompts read once, and the steps of every round."""
        assert self.setting is not None
        work, lengths = Work.of(self.setting), self.setting.prompt_lengths()
        steps = [steps_bound(peaks, work, self.experts, lengths, ids_WBT) for ids_WBT in self.rounds]
        return reading_bound(peaks, work, self.experts, lengths) + sum(steps)

    def facts(self, timing: Timing) -> dict[str, Any]:
        """The numbers beside the time in a row of the table."""
        assert self.setting is not None
        cost = self.setting.bank.decoder.ledger.phases["search"]
        counted: dict[str, Any] = {
            "asked": cost.evaluations_asked,
            "paid": cost.evaluations,
            "tokens": cost.generated_tokens,
            "rows_share": cost.decoded_tokens / cost.generated_tokens,
        }
        return counted | {"rounds": len(self.rounds), "seconds_per_evaluation": timing.median / cost.evaluations}


def main(argv: Sequence[str] | None) -> None:
    """Run the benchmark."""
    given = options("search", __doc__, argv, {})
    record = Record(given)
    shape = micro(SHAPES["tiny"]) if given.quick else SHAPES["tiny"]
    plain = naive(random_setting(shape, dtype=given.dtype, device=given.device))
    weights = [1 / 3] * 3
    searches = {
        "search": (Search(shape, given), "whole search, experts as alike as trained ones"),
        "search_strong": (Search(shape, given, strength=STRONG), "whole search, experts that part at once"),
    }
    sides: dict[str, Side] = {"naive, one evaluation": lambda: plain.seconds(weights)}
    timings = interleaved("search", sides | {what: s.side for s, what in searches.values()}, given.repeats)
    one, evaluations = timings["naive, one evaluation"], published_evaluations(3)
    record.notes |= {"naive_method": plain.method, "naive_evaluations": evaluations}
    record.row(f"naive, one evaluation of {evaluations}", one)
    for key, (search, what) in searches.items():
        record.row(what, timings[what], bound=search.bound(record.peaks), **search.facts(timings[what]))
        record.ratio(key, evaluations * one.median / timings[what].median)
    record.close()


if __name__ == "__main__":
    sys.exit(run(main))
