"""The cost ledger: what was spent, by phase, counted around the shared parts and never reported by methods.

Phases are ``setup``, ``train/<learner>``, ``validate/<learner>``, ``search`` and ``evaluate``. Learners of one method
could run side by side on several machines, so training is reported both as the maximum over learners (the accounting of
EMORL's paper) and as the sum. Data points are the prompts trained on and searched with; prompts that learners are
validated on are counted apart, as the paper leaves them out. ``scorer/<name>/<form>`` is what a scorer's forms have
cost whoever trained them (`core.protocols.Priced`): outside every method's budget, and in no total.

Learners that work side by side in one process (`Ledger.together`) each count their own prompts, samples, tokens and
steps, exactly as if they were alone; the seconds, FLOPs and decoded rows of what they do at once are divided evenly
among those who took part. So for such learners the sum is what was measured, and the maximum one learner's share of it.

Where several processes share a run (`core.ranks`), counters are of the whole run, and so are FLOPs (this process's part
times their number); times and peak memory are this process's.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields

import torch
from torch.utils.flop_counter import FlopCounterMode


@dataclass
class Cost:
    """Counters of one phase. Times in seconds, memory in bytes; ``flops`` is an extrapolation from sampled calls."""

    prompts: int = 0  # data points: prompts decoded, however many samples of each
    samples: int = 0
    generated_tokens: int = 0
    decoded_tokens: int = 0  # those that forward passes were spent on: outputs that share a prefix share its tokens
    forward_passes: int = 0  # K a token where K experts are blended; nothing shared, nothing remembered
    trained_tokens: int = 0
    scorer_calls: int = 0
    scored_texts: int = 0
    scores_wanted: int = 0  # K for each text that was to be scored, known already or not
    evaluations: int = 0  # weight vectors a search paid for
    evaluations_asked: int = 0  # weight vectors it asked about, memoised ones included
    optimiser_steps: int = 0
    wall_seconds: float = 0.0
    device_seconds: float = 0.0  # inside metered calls, device synchronised
    peak_bytes: int = 0
    flops: float = 0.0
    parameters: int = 0  # of a scorer that has forms to compare; its bytes are the phase's peak, its training the time

    def add(self, other: Cost) -> None:
        for f in fields(self):
            mine, theirs = getattr(self, f.name), getattr(other, f.name)
            setattr(self, f.name, max(mine, theirs) if f.name == "peak_bytes" else mine + theirs)


@dataclass
class Ledger:
    """Phases and their costs. ``device`` is what is synchronised before a clock is read."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    ranks: int = 1  # processes that divide every metered call evenly
    flops_every: int = 64  # of so many metered calls one is counted operation by operation; 0: none
    phases: dict[str, Cost] = field(default_factory=dict)
    _open: list[tuple[str, ...]] = field(default_factory=lambda: [("setup",)])
    _mark: float = field(default_factory=time.perf_counter)  # up to when wall time has been charged
    _calls: dict[str, int] = field(default_factory=dict)
    _flop_rate: dict[str, tuple[float, int]] = field(default_factory=dict)  # kind -> (flops, tokens) counted so far

    @property
    def costs(self) -> list[Cost]:
        """The costs that are open now: one, or one for each learner that works side by side."""
        return [self.phases.setdefault(name, Cost()) for name in self._open[-1]]

    @property
    def current(self) -> Cost:
        """The one open cost; among several, counts must say whose they are (`costs`, `alone`)."""
        (cost,) = self.costs
        return cost

    @contextmanager
    def phase(self, name: str) -> Iterator[Cost]:
        """Charge everything inside to ``name``; wall time goes to the innermost phase only."""
        with self.together([name]) as costs:
            yield costs[0]

    @contextmanager
    def together(self, names: Sequence[str]) -> Iterator[list[Cost]]:
        """Divide the time and FLOPs of everything inside evenly among ``names``; a name given twice has two shares."""
        self.settle()
        self._open.append(tuple(names))
        try:
            yield self.costs
        finally:
            self.settle()
            self._open.pop()

    @contextmanager
    def alone(self, i: int) -> Iterator[Cost]:
        """Inside `together`: charge what follows to the i-th alone. Where only one phase is open, that is the one."""
        names = self._open[-1]
        with self.phase(names[i] if len(names) > 1 else names[0]) as cost:
            yield cost

    def settle(self) -> None:
        """Bring the open phases' wall time and peak memory up to now."""
        now, costs = time.perf_counter(), self.costs
        for cost in costs:
            cost.wall_seconds += (now - self._mark) / len(costs)
            cost.peak_bytes = max(cost.peak_bytes, peak_bytes(self.device))
        self._mark = now

    @contextmanager
    def metered(self, kind: str) -> Iterator[_Call]:
        """Time one shared call (``decode``, ``update``, ``score``); one in ``flops_every`` is counted in FLOPs too."""
        call, count = _Call(), self._calls.get(kind, 0)
        self._calls[kind] = count + 1
        sampled = self.flops_every and count % self.flops_every == 0
        counter = FlopCounterMode(display=False) if sampled else None
        started = time.perf_counter()
        if counter is None:
            yield call
        else:
            with counter:
                yield call
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        seconds, flops, costs = time.perf_counter() - started, self._flops(kind, call.tokens, counter), self.costs
        for cost in costs:
            cost.device_seconds += seconds / len(costs)
            cost.flops += self.ranks * flops / len(costs)

    def _flops(self, kind: str, tokens: int, counter: FlopCounterMode | None) -> float:
        flops, seen = self._flop_rate.get(kind, (0.0, 0))
        if counter is not None:
            counted = float(counter.get_total_flops())
            self._flop_rate[kind] = (flops + counted, seen + tokens)
            return counted
        return flops / seen * tokens if seen else 0.0

    def charge(self, name: str, cost: Cost) -> None:
        """Add a cost paid elsewhere, such as an expert another run has trained."""
        self.phases.setdefault(name, Cost()).add(cost)

    def as_dict(self) -> dict[str, dict[str, float]]:
        return {name: asdict(cost) for name, cost in self.phases.items()}

    @staticmethod
    def from_dict(phases: Mapping[str, Mapping[str, float]]) -> dict[str, Cost]:
        return {name: Cost(**cost) for name, cost in phases.items()}  # type: ignore[arg-type]

    def totals(self) -> dict[str, float]:
        """The accounting of a table row: over learners once as maximum and once as sum, search counted in both."""
        learners = [name.removeprefix("train/") for name in self.phases if name.startswith("train/")]
        train = [self.phases[f"train/{name}"] for name in learners]
        validate = [self.phases.get(f"validate/{name}", Cost()) for name in learners]
        search = self.phases.get("search", Cost())
        seconds = [t.wall_seconds + v.wall_seconds for t, v in zip(train, validate, strict=True)]
        spent = [*train, *validate, search]
        totals: dict[str, float] = {
            "data_points_max": max((c.prompts for c in train), default=0) + search.prompts,
            "data_points_sum": sum(c.prompts for c in train) + search.prompts,
            "validation_prompts": sum(c.prompts for c in validate),
            "seconds_max": max(seconds, default=0.0) + search.wall_seconds,
            "seconds_sum": sum(seconds) + search.wall_seconds,
            "search_evaluations": search.evaluations,
            "search_evaluations_asked": search.evaluations_asked,
            "peak_bytes": max((c.peak_bytes for c in self.phases.values()), default=0),
        }
        summed = (
            "samples",
            "generated_tokens",
            "decoded_tokens",
            "trained_tokens",
            "scorer_calls",
            "optimiser_steps",
            "flops",
        )
        return totals | {name: sum(getattr(c, name) for c in spent) for name in summed}


@dataclass
class _Call:
    """What a metered call tells about itself: the tokens its FLOPs are spread over."""

    tokens: int = 0


def peak_bytes(device: torch.device) -> int:
    """Peak memory of this process: allocated on the device for CUDA, resident for CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
