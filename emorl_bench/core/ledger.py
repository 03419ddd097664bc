"""The cost ledger: what was spent, by phase, counted around the shared parts and never reported by methods.

Phases are ``setup``, ``train/<learner>``, ``validate/<learner>``, ``search`` and ``evaluate``. Learners of one method
could run side by side on several machines, so training is reported both as the maximum over learners (the accounting of
EMORL's paper) and as the sum. ``scorer/<name>/<form>`` is what a scorer's forms have cost whoever trained them
(`core.protocols.Priced`): outside every method's budget, and in no total.

The ledger is also the meter of a method's budget: it knows how many prompts training, validation and search may spend
together (``limit``), and refuses more wherever they would be decoded (`Ledger.ask`). It goes by its own counts, so an
expert that an earlier run has trained counts like one that was trained here.

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

from emorl_bench.core.errors import UserError
from emorl_bench.core.totals import is_counted, part_of_phase, totals


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
    limit: int | None = None  # prompts that training, validation and search may spend together
    converged_at: dict[str, int | None] = field(default_factory=dict)  # learner -> data points at which it would stop
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
        """The accounting of a table row (`core.totals`)."""
        return totals(self.phases)

    @property
    def spent(self) -> int:
        """Prompts that count against a method's budget: trained on, validated on and searched with."""
        return sum(cost.prompts for name, cost in self.phases.items() if is_counted(name))

    @property
    def training(self) -> bool:
        """Whether what happens now is charged to the training or validation of some learner."""
        return any(part_of_phase(name) in ("train", "validate") for name in self._open[-1])

    @property
    def left(self) -> int | None:
        """Prompts that the method may still spend; ``None`` is no limit."""
        return None if self.limit is None else max(0, self.limit - self.spent)

    def ask(self, prompts: int) -> None:
        """Whoever is about to spend prompts asks first. Outside the counted phases everything is free.

        Raises:
            UserError: the method has not so many left. Training loops and searches end before they come to this.
        """
        names = self._open[-1]
        if self.limit is None or not any(map(is_counted, names)) or self.spent + prompts <= self.limit:
            return
        raise UserError(
            f"budget.prompts={self.limit}: {self.spent} are spent and '{names[0]}' asks for {prompts} more; a method "
            "divides its budget with Budget.share, trains with rl.loop, and searches with ensemble.front"
        )

    def restart(self, limit: int | None) -> None:
        """Forget what a method has cost, and give the next ``limit`` prompts; setup and scorers stay charged."""
        self.settle()
        self.limit = limit
        self.converged_at.clear()
        for name in [name for name in self.phases if name != "setup" and not name.startswith("scorer/")]:
            del self.phases[name]


@dataclass
class _Call:
    """What a metered call tells about itself: the tokens its FLOPs are spread over."""

    tokens: int = 0


def peak_bytes(device: torch.device) -> int:
    """Peak memory of this process: allocated on the device for CUDA, resident for CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
