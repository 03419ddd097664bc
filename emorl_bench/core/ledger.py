"""The cost ledger: what a run spends, by phase. The shared code counts; a method never reports its own cost.

Phases are ``setup``, ``train/<learner>``, ``validate/<learner>``, ``search`` and ``evaluate``. Learners of one method
could be trained side by side on several machines. So training is reported twice: as the maximum over learners (the
accounting of EMORL's paper) and as their sum. ``scorer/<name>/<form>`` holds the cost of each form of a scorer, whoever
trained it (`core.protocols.Scorer.costs`). It is outside every method's budget and in no total.

The ledger also limits a method's budget. ``limit`` is how many prompts training, validation and search may spend
together. `Ledger.ask` refuses more, and is called wherever prompts are decoded. An expert that an earlier run has
trained is charged like one that is trained here.

Several learners may work at the same time in one process (`Ledger.together`). Each then counts its own prompts,
samples, tokens and steps, exactly as if it were alone. Seconds, FLOPs and decoded rows of shared calls are divided
evenly among the learners that took part. The sum over learners is therefore the measured cost, and the maximum is one
learner's share of it.

Where several processes share a run (`core.ranks`), counters are of the whole run, and so are FLOPs (those of this
process times the number of processes). Times and peak memory are of this process.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, field, fields

import torch

from emorl_bench.core.errors import UserError
from emorl_bench.core.flops import FlopCounter
from emorl_bench.core.totals import is_counted, part_of_phase, totals


@dataclass
class Cost:
    """Counters of one phase. Times are in seconds, memory is in bytes. ``flops`` is extrapolated from sampled calls."""

    prompts: int = 0
    """Prompts that were decoded, each once however many samples it has: the "data points" of tables."""
    samples: int = 0
    generated_tokens: int = 0
    decoded_tokens: int = 0
    """Tokens that forward passes were spent on. Outputs that share a prefix share the cost of its tokens."""
    forward_passes: int = 0
    """Forward passes without any sharing or caching: K for each token where K experts are blended."""
    trained_tokens: int = 0
    scorer_calls: int = 0
    scored_texts: int = 0
    scores_wanted: int = 0
    """K for each text that was to be scored, whether its score was known already or not."""
    evaluations: int = 0
    """Weight vectors that a search paid for."""
    evaluations_asked: int = 0
    """Weight vectors that a search asked about, those included whose value was known."""
    optimiser_steps: int = 0
    wall_seconds: float = 0.0
    device_seconds: float = 0.0
    """Seconds inside metered calls, with the device synchronised."""
    peak_bytes: int = 0
    flops: float = 0.0
    parameters: int = 0
    """Parameters of a scorer that has forms to compare.

    Its bytes are the phase's peak, its training is the phase's time.
    """

    def add(self, other: Cost) -> None:
        """Add another cost to this one. Peak memory is the larger of the two."""
        for f in fields(self):
            mine, theirs = getattr(self, f.name), getattr(other, f.name)
            setattr(self, f.name, max(mine, theirs) if f.name == "peak_bytes" else mine + theirs)


@dataclass
class Meter:
    """Metered calls of one kind: how many there were, and the FLOPs and tokens of those that were counted."""

    calls: int = 0
    flops: float = 0.0
    tokens: int = 0

    def flops_of(self, tokens: int, counter: FlopCounter | None) -> float:
        """The FLOPs of a call: counted, or else as many for each token as in the calls that were counted."""
        if counter is None:
            return self.flops / self.tokens * tokens if self.tokens else 0.0
        counted = float(counter.total)
        self.flops, self.tokens = self.flops + counted, self.tokens + tokens
        return counted


TOGETHER = "+"
FREE = "free"  # a phase that is opened and forgotten
Meters = dict[str, dict[str, Meter]]
"""Open phases, joined by `TOGETHER` -> kind of call -> its meter."""


@dataclass
class Ledger:
    """Phases and their costs."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """The device that is synchronised before a clock is read."""
    ranks: int = 1
    """Number of processes that divide every metered call evenly."""
    flops_every: int = 64
    """One call in this many is counted operation by operation; 0 counts none."""
    phases: dict[str, Cost] = field(default_factory=dict)
    limit: int | None = None
    """Prompts that training, validation and search may spend together; ``None`` is no limit."""
    converged_at: dict[str, int | None] = field(default_factory=dict)
    """Learner -> the prompts after which the rule of convergence would have stopped it; ``None`` where it would not."""
    best_step: dict[str, int] = field(default_factory=dict)
    """Learner -> the step of its best checkpoint; 0 where no validation was better than that of the untrained one."""
    _open: list[tuple[str, ...]] = field(default_factory=lambda: [("setup",)])
    _mark: float = field(default_factory=time.perf_counter)  # the time up to which wall time has been charged
    meters: Meters = field(default_factory=dict)
    """What the estimate of FLOPs rests on. A checkpoint holds the meters of its phases (`meters_of`), so that the
    estimate is a function of the work alone, and not of how often it was interrupted."""

    @property
    def costs(self) -> list[Cost]:
        """The costs of the open phases: one, or one for each learner that works at the same time."""
        return [self.phases.setdefault(name, Cost()) for name in self._open[-1]]

    @property
    def current(self) -> Cost:
        """The cost of the only open phase. Where several are open, the caller must choose one (`costs`, `alone`)."""
        (cost,) = self.costs
        return cost

    @contextmanager
    def phase(self, name: str) -> Iterator[Cost]:
        """Charge everything inside the block to ``name``. Wall time goes to the innermost phase only."""
        with self.together([name]) as costs:
            yield costs[0]

    @contextmanager
    def together(self, names: Sequence[str]) -> Iterator[list[Cost]]:
        """Divide time and FLOPs of everything inside the block evenly among ``names``.

        A name given twice has two shares.
        """
        self.settle()
        self._open.append(tuple(names))
        try:
            yield self.costs
        finally:
            self.settle()
            self._open.pop()

    @contextmanager
    def alone(self, i: int) -> Iterator[Cost]:
        """Inside `together`: charge the block to the i-th phase only. Where one phase is open, it is that one."""
        names = self._open[-1]
        with self.phase(names[i] if len(names) > 1 else names[0]) as cost:
            yield cost

    @contextmanager
    def free(self) -> Iterator[None]:
        """Charge nothing inside the block, not even time: it repeats work that was charged before."""
        try:
            with self.phase(FREE):
                yield
        finally:
            self.phases.pop(FREE, None)
            self.meters.pop(FREE, None)

    def settle(self) -> None:
        """Add the wall time since the last call, and the peak memory, to the open phases."""
        now, costs = time.perf_counter(), self.costs
        for cost in costs:
            cost.wall_seconds += (now - self._mark) / len(costs)
            cost.peak_bytes = max(cost.peak_bytes, peak_bytes(self.device))
        self._mark = now

    @contextmanager
    def metered(self, kind: str, *, countable: bool = True) -> Iterator[_Call]:
        """Time one shared call (``decode``, ``update``, ``score``). One in ``flops_every`` is also counted in FLOPs.

        The caller tells the FLOPs of a call that is not ``countable``.
        """
        call, meter = _Call(), self.meters.setdefault(TOGETHER.join(self._open[-1]), {}).setdefault(kind, Meter())
        sampled = countable and self.flops_every and meter.calls % self.flops_every == 0
        meter.calls += countable
        counter, call.counted = FlopCounter() if sampled else None, bool(sampled)
        started = time.perf_counter()
        if counter is None:
            yield call
        else:
            with counter:
                yield call
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        seconds, costs = time.perf_counter() - started, self.costs
        flops = meter.flops_of(call.tokens, counter) if call.flops is None else call.flops
        for cost in costs:
            cost.device_seconds += seconds / len(costs)
            cost.flops += self.ranks * flops / len(costs)

    def charge(self, name: str, cost: Cost) -> None:
        """Add a cost that was paid elsewhere, such as that of an expert which another run has trained."""
        self.phases.setdefault(name, Cost()).add(cost)

    def meters_of(self, phases: Sequence[str]) -> dict[str, dict[str, list[float]]]:
        """The meters that some phases take part in, ready for JSON; `take_up` reads them."""
        own = {at: kinds for at, kinds in self.meters.items() if not set(phases).isdisjoint(at.split(TOGETHER))}
        return {at: {kind: list(astuple(meter)) for kind, meter in kinds.items()} for at, kinds in own.items()}

    def take_up(self, meters: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
        """Go on from meters that an earlier process has left. Of two records of one meter the longer one counts."""
        for at, kinds in meters.items():
            mine = self.meters.setdefault(at, {})
            for kind, (calls, flops, tokens) in kinds.items():
                if calls > mine.get(kind, Meter()).calls:
                    mine[kind] = Meter(int(calls), float(flops), int(tokens))

    def as_dict(self) -> dict[str, dict[str, float]]:
        """Phase -> counter -> value, ready for JSON; `from_dict` reads it."""
        return {name: asdict(cost) for name, cost in self.phases.items()}

    @staticmethod
    def from_dict(phases: Mapping[str, Mapping[str, float]]) -> dict[str, Cost]:
        """Phase -> `Cost`, from what `as_dict` has written."""
        return {name: Cost(**cost) for name, cost in phases.items()}  # type: ignore[arg-type]

    def totals(self) -> dict[str, float]:
        """The totals of a table row (`core.totals`)."""
        return totals(self.phases)

    @property
    def spent(self) -> int:
        """Prompts that count against a method's budget: those of training, validation and search."""
        return sum(cost.prompts for name, cost in self.phases.items() if is_counted(name))

    @property
    def generated_tokens(self) -> int:
        """Tokens that were generated in all phases until now."""
        return sum(cost.generated_tokens for cost in self.phases.values())

    @property
    def training(self) -> bool:
        """Whether an open phase is the training or the validation of some learner."""
        return any(part_of_phase(name) in ("train", "validate") for name in self._open[-1])

    @property
    def left(self) -> int | None:
        """Prompts that the method may still spend; ``None`` is no limit."""
        return None if self.limit is None else max(0, self.limit - self.spent)

    def ask(self, prompts: int) -> None:
        """Ask for permission to spend prompts, before they are decoded. Outside the counted phases everything is free.

        Raises:
            UserError: the method has not so many left. Training loops and searches stop before this happens.
        """
        names = self._open[-1]
        if self.limit is None or not any(map(is_counted, names)) or self.spent + prompts <= self.limit:
            return
        raise UserError(
            f"budget.prompts={self.limit}: {self.spent} are spent and '{names[0]}' asks for {prompts} more; a method "
            "divides its budget with Budget.share, trains with rl.loop, and searches with ensemble.front"
        )

    def restart(self, limit: int | None) -> None:
        """Forget what a method has cost, and allow the next ``limit`` prompts. Costs of setup and scorers stay."""
        self.settle()
        self.limit = limit
        self.converged_at.clear()
        self.best_step.clear()
        self.meters = {at: kinds for at, kinds in self.meters.items() if at == "setup"}
        for name in [name for name in self.phases if name != "setup" and not name.startswith("scorer/")]:
            del self.phases[name]


@dataclass
class _Call:
    """What a metered call tells about itself: the tokens its FLOPs are spread over, or FLOPs that nothing can count.

    ``counted`` tells it that each of its operations is counted, so it must not hide any (`decoding.graphs`).
    """

    tokens: int = 0
    flops: float | None = None
    counted: bool = False


def peak_bytes(device: torch.device) -> int:
    """Peak memory of this process in bytes: allocated on the device for CUDA, resident memory for a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
