"""Which trials there are: kills at random, signals, each point of each kind of write, full disks, terminals, sweeps."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studies.survival.sweeps import VICTIMS
from studies.survival.trials import Trial
from studies.survival.writes import FULL, Death, points

SWEEP = "sweep"  # what stands for a method where the trial is a sweep


@dataclass(frozen=True)
class Plan:
    """The command line.

    Attributes:
        kills: number of kills at random moments, at least.
        methods: names of methods.
        kinds: kinds of trials.
        seed: of all that is random.
        jobs: trials at a time.
        runs: where runs are kept.
        out: where the tables go.
        most: number of trials of each kind, at most; None: all.
        told: the content of ``survival.yaml``.
        overrides: overrides of every run.
    """

    kills: int
    methods: Sequence[str]
    kinds: Sequence[str]
    seed: int
    jobs: int
    runs: Path
    out: Path
    most: int | None
    told: Mapping[str, Any]
    overrides: Sequence[str]

    def arguments(self, method: str) -> list[str]:
        """The command line of a method's run, or of the sweep."""
        common = [*self.told["common"]]
        own = [f"method={method}", *self.told["methods"].get(method, ())] if method != SWEEP else self.told["sweep"]
        return [*common, *own, *self.overrides]


def trials(plan: Plan, writes: Mapping[str, Mapping[str, list[int]]]) -> list[Trial]:
    """All trials, in an order in which early ones are of all kinds.

    Args:
        plan: the command line.
        writes: by method the sizes of the recorded writes, by kind.
    """
    found = [*_random(plan), *_signals(plan), *_torn(plan, writes), *_full(plan, writes)]
    found += [Trial("two terminals", method, 0, kills=0) for method in plan.methods]
    found += [Trial("sweeps", SWEEP, n, VICTIMS[n % len(VICTIMS)]) for n in range(plan.told["sweeps"] * len(VICTIMS))]
    wanted = [trial for trial in found if trial.kind in plan.kinds]
    random.Random(plan.seed).shuffle(wanted)
    place: Counter[str] = Counter()
    kept = []
    for trial in wanted:
        place[trial.kind] += 1
        if plan.most is None or place[trial.kind] <= plan.most:
            kept.append(trial)
    return kept


def _random(plan: Plan) -> list[Trial]:
    """Runs that are killed once, and runs that are killed again and again."""
    each, again = plan.kills / len(plan.methods), plan.told["again"]
    single = math.ceil(each * plan.told["single"])
    repeated = math.ceil((each - single) / again) if each > single else 0
    found = [Trial("single kill", method, n) for method in plan.methods for n in range(single)]
    return found + [Trial("repeated kills", method, n, kills=again) for method in plan.methods for n in range(repeated)]


def _signals(plan: Plan) -> list[Trial]:
    return [Trial("signals", method, n, name) for method in plan.methods for n, name in enumerate(plan.told["signals"])]


def _torn(plan: Plan, writes: Mapping[str, Mapping[str, list[int]]]) -> list[Trial]:
    """Every point of every kind of write, each in one method that has such a write; methods take turns."""
    found, rng = list[Trial](), random.Random(plan.seed)
    for kind in sorted({kind for own in writes.values() for kind in own}):
        having = [method for method in plan.methods if kind in writes[method]]
        rng.shuffle(having)
        sizes = [size for method in having for size in writes[method][kind]]
        for i, point in enumerate(points(kind, sizes)):
            method = having[i % len(having)]
            death = Death(kind, _which(kind, writes[method][kind], rng), point)
            found.append(Trial("torn writes", method, len(found), f"{kind}: {point}", death))
    return found


def _full(plan: Plan, writes: Mapping[str, Mapping[str, list[int]]]) -> list[Trial]:
    """No room in a write of each kind."""
    found, rng = list[Trial](), random.Random(plan.seed + 1)
    for kind in sorted({kind for own in writes.values() for kind in own}):
        having = [method for method in plan.methods if any(writes[method].get(kind, ()))]
        if having and "inside" in points(kind, writes[having[0]][kind]):
            method = rng.choice(having)
            n = _which(kind, writes[method][kind], rng)
            death = Death(kind, n, FULL, writes[method][kind][n])
            found.append(Trial("full disk", method, len(found), f"{kind}: full", death))
    return found


def _which(kind: str, sizes: list[int], rng: random.Random) -> int:
    """One of the writes of a kind. Of heartbeats only the first are certain to come, because they come with time."""
    return rng.randrange(min(len(sizes), 2) if kind == "status.json" else len(sizes))
