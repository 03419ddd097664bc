"""The cost ledger: what was spent, by phase, counted around the shared parts and never reported by methods.

Phases are ``train/<learner>``, ``search`` and ``evaluate``. Learners of one method could run side by side on several
machines, so training is reported both as the maximum over learners (the accounting of EMORL's paper) and as the sum.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields

import torch
from torch.utils.flop_counter import FlopCounterMode

FLOP_SAMPLE_EVERY = 64  # metered calls between two that are counted operation by operation


@dataclass
class Cost:
    """Counters of one phase. Times in seconds, memory in bytes; ``flops`` is an extrapolation from sampled calls."""

    prompts: int = 0  # data points: prompts decoded, however many samples of each
    samples: int = 0
    generated_tokens: int = 0
    trained_tokens: int = 0
    scorer_calls: int = 0
    scored_texts: int = 0
    evaluations: int = 0  # weight vectors a search paid for
    evaluations_asked: int = 0  # weight vectors it asked about, memoised ones included
    optimiser_steps: int = 0
    wall_seconds: float = 0.0
    device_seconds: float = 0.0  # inside metered calls, device synchronised
    peak_bytes: int = 0
    flops: float = 0.0

    def add(self, other: Cost) -> None:
        for f in fields(self):
            mine, theirs = getattr(self, f.name), getattr(other, f.name)
            setattr(self, f.name, max(mine, theirs) if f.name == "peak_bytes" else mine + theirs)


@dataclass
class Ledger:
    """Phases and their costs. ``device`` is what is synchronised before a clock is read."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    phases: dict[str, Cost] = field(default_factory=dict)
    _open: list[str] = field(default_factory=lambda: ["setup"])
    _calls: dict[str, int] = field(default_factory=dict)
    _flop_rate: dict[str, tuple[float, int]] = field(default_factory=dict)  # kind -> (flops, tokens) counted so far

    @property
    def current(self) -> Cost:
        return self.phases.setdefault(self._open[-1], Cost())

    @contextmanager
    def phase(self, name: str) -> Iterator[Cost]:
        """Charge everything inside to ``name``; wall time goes to the innermost phase only."""
        outer, started = self.current, time.perf_counter()
        self._open.append(name)
        cost = self.current
        try:
            yield cost
        finally:
            self._open.pop()
            elapsed = time.perf_counter() - started
            cost.wall_seconds += elapsed
            outer.wall_seconds -= elapsed
            cost.peak_bytes = max(cost.peak_bytes, peak_bytes(self.device))

    @contextmanager
    def metered(self, kind: str) -> Iterator[_Call]:
        """Time one shared call (``decode``, ``update``, ``score``); every 64th is counted in FLOPs too."""
        call, count = _Call(), self._calls.get(kind, 0)
        self._calls[kind] = count + 1
        counter = FlopCounterMode(display=False) if count % FLOP_SAMPLE_EVERY == 0 else None
        started = time.perf_counter()
        if counter is None:
            yield call
        else:
            with counter:
                yield call
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        cost = self.current
        cost.device_seconds += time.perf_counter() - started
        cost.flops += self._flops(kind, call.tokens, counter)

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
        """The accounting of a table row: data points as maximum over learners and as sum, search counted in both."""
        train = [c for name, c in self.phases.items() if name.startswith("train/")]
        search = self.phases.get("search", Cost())
        spent = [*train, search]
        return {
            "data_points_max": max((c.prompts for c in train), default=0) + search.prompts,
            "data_points_sum": sum(c.prompts for c in spent),
            "seconds_max": max((c.wall_seconds for c in train), default=0.0) + search.wall_seconds,
            "seconds_sum": sum(c.wall_seconds for c in spent),
            "samples": sum(c.samples for c in spent),
            "generated_tokens": sum(c.generated_tokens for c in spent),
            "trained_tokens": sum(c.trained_tokens for c in spent),
            "scorer_calls": sum(c.scorer_calls for c in spent),
            "search_evaluations": search.evaluations,
            "optimiser_steps": sum(c.optimiser_steps for c in spent),
            "flops": sum(c.flops for c in spent),
            "peak_bytes": max((c.peak_bytes for c in self.phases.values()), default=0),
        }


@dataclass
class _Call:
    """What a metered call tells about itself: the tokens its FLOPs are spread over."""

    tokens: int = 0


def peak_bytes(device: torch.device) -> int:
    """Peak memory of this process: allocated on the device for CUDA, resident for CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
