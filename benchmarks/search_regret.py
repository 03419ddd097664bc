"""Weight search without language models: regret against evaluations, on surfaces whose optimum is known.

Every strategy meets the same surfaces, preferences and noise (`search_surfaces`, one draw for each seed) and may
evaluate as many blends; regret is what the recommended blend's true utility lacks to the optimum. A figure is the
median over the seeds. Columns: ``regret`` after all evaluations, for one preference; ``four``, the same evaluations for
four preferences together: a search for one preference has a quarter of them each, one that answers all has all.

Keys of the last line: a strategy's regret over the random search's, the geometric mean over surfaces, numbers of
objectives and noise where it finished a round within the budget; less than 1 is better. A regret counts as 0.001 at
least. ``_four`` compares the column ``four``.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from benchmarks.record import Options, Record, options, run
from benchmarks.search_regret_plot import plot_regret
from benchmarks.search_surfaces import SURFACES
from benchmarks.search_trials import Random, Strategy, Trial, trial
from benchmarks.timing import Timing, say
from emorl_bench.core.errors import UserError, did_you_mean
from emorl_bench.search.hierarchical import HierarchicalGrid
from emorl_bench.search.optuna_study import INSTALL, OptunaSearch
from emorl_bench.search.simplex import SimplexSubdivision
from emorl_bench.search.sobol import Sobol
from emorl_bench.search.ucb_front import UcbFront

NOISES = (0.0, 0.05)
PREFERENCES = 4  # that share the evaluations in the column `four`
LEAST = 1e-3  # regret below which nobody would care
SEEDS, EVALUATIONS, OBJECTIVES = 20, 32, "2,4,6"
SLOW_ON = "concave-4"  # what optuna_gp is run on by default, with noise: it takes a second or more a search
ANSWER_ALL = ("random", "sobol", "ucb_front")  # what they ask does not depend on the preference

Strategies = Mapping[str, Callable[[int, int], Strategy]]  # evaluations, seed -> strategy


def strategies() -> dict[str, Callable[[int, int], Strategy]]:
    known: dict[str, Callable[[int, int], Strategy]] = {
        "random": lambda n, seed: Random(n, seed),
        "sobol": lambda n, seed: Sobol(n, batch=1, seed=seed),
        "cube": lambda n, seed: HierarchicalGrid(),
        "simplex": lambda n, seed: SimplexSubdivision(),
        "ucb_front": lambda n, seed: UcbFront(n, seed=seed),
    }
    if find_spec("optuna") is not None:
        known["optuna_tpe"] = lambda n, seed: OptunaSearch("tpe", n, seed=seed)
        known["optuna_gp"] = lambda n, seed: OptunaSearch("gp", n, seed=seed)
    return known


@dataclass(frozen=True)
class Case:
    surface: str
    objectives: int
    noise: float

    def __str__(self) -> str:
        return f"{self.surface}, {self.objectives} objectives, noise {self.noise:g}"


@dataclass(frozen=True)
class Curves:
    """All trials of one strategy on one case."""

    strategy: str
    trials: Sequence[Trial]

    @property
    def median_N(self) -> NDArray[np.float64]:
        """NaN where fewer than all seeds had finished a round."""
        return np.asarray(np.median([t.regret_N for t in self.trials], axis=0))

    @property
    def end(self) -> float:
        return float(self.median_N[-1])

    @property
    def four(self) -> float:
        count = len(self.median_N)
        return self.end if self.strategy in ANSWER_ALL else float(self.median_N[max(count // PREFERENCES, 1) - 1])


Results = dict[Case, dict[str, Curves]]


def main(argv: Sequence[str] | None) -> None:
    extra = {
        "objectives": (OBJECTIVES, "numbers of objectives"),
        "evaluations": (str(EVALUATIONS), "blends that a search may evaluate"),
        "gp": (SLOW_ON, "where optuna_gp is run, with noise: SURFACE-OBJECTIVES, all or none"),
    }
    given = options("search_regret", __doc__, argv, extra, repeats=SEEDS)
    sizes = _numbers(given, "objectives", 2)
    evaluations = _numbers(given, "evaluations", 1)[0]
    places = ["all", "none", *(f"{surface}-{size}" for surface, size in itertools.product(SURFACES, sizes))]
    if given.extra["gp"] not in [*places, SLOW_ON]:
        raise UserError(f"--gp={given.extra['gp']}: unknown{did_you_mean(given.extra['gp'], places)}")
    if given.quick:
        sizes, evaluations = sizes[:1], 12
    record = Record(given)
    results = measured(record, sizes, evaluations)
    record.notes["preferences"] = f"{PREFERENCES} share the evaluations in `four`"
    record.notes["left_out"] = [] if find_spec("optuna") else [f"optuna_tpe and optuna_gp; to have them: {INSTALL}"]
    record.notes["median_regret_after_each_evaluation"] = {
        str(case): {name: [_known(r) for r in curves.median_N.tolist()] for name, curves in found.items()}
        for case, found in results.items()
    }
    for line in table(results):
        print(line)
    compare(record, results)
    picture = given.out.with_suffix(".png")
    plot_regret(picture, {str(c): {s: v.median_N for s, v in found.items()} for c, found in results.items() if c.noise})
    print(f"drawn: {picture}")
    record.close()


def measured(record: Record, sizes: Sequence[int], evaluations: int) -> Results:
    known, results, given = strategies(), Results(), record.options
    cases = [Case(*case) for case in itertools.product(SURFACES, sizes, NOISES)]
    for done, case in enumerate(cases, 1):
        results[case] = {}
        for name, strategy in known.items():
            if name == "optuna_gp" and not wanted(case, given.extra["gp"]):
                continue
            curves = Curves(name, _trials(strategy, case, evaluations, given.repeats))
            if math.isnan(curves.end):  # not one round within the budget
                continue
            results[case][name] = curves
            seconds = Timing(tuple(t.seconds for t in curves.trials))
            record.row(f"{case}, {name}", seconds, vectors=evaluations, regret=curves.end, four=_known(curves.four))
        say(f"search_regret: {done}/{len(cases)} {case}, {record.elapsed:.0f} s")
    return results


def wanted(case: Case, place: str) -> bool:
    """Whether optuna_gp is run on a case."""
    return place == "all" or (case.noise > 0 and place == f"{case.surface}-{case.objectives}")


def _trials(strategy: Callable[[int, int], Strategy], case: Case, evaluations: int, seeds: int) -> list[Trial]:
    given = (case.surface, case.objectives, case.noise, evaluations)
    return [trial(strategy(evaluations, seed), *given, seed) for seed in range(seeds)]


def table(results: Results) -> list[str]:
    """Markdown: medians after all evaluations, and in brackets the column `four`."""
    names = list(dict.fromkeys(name for found in results.values() for name in found))
    lines = [f"| surface | objectives | noise | {' | '.join(names)} |", "|---" * (3 + len(names)) + "|"]
    for case, found in results.items():
        cells = [_cell(found[n]) if n in found else "–" for n in names]
        lines.append(f"| {case.surface} | {case.objectives} | {case.noise:g} | {' | '.join(cells)} |")
    return lines


def _cell(curves: Curves) -> str:
    four = _known(curves.four)
    return f"{curves.end:.3f} ({'–' if four is None else f'{four:.3f}'})"


def _known(regret: float) -> float | None:
    """``None`` before the first round is over."""
    return None if math.isnan(regret) else regret


def compare(record: Record, results: Results) -> None:
    names = dict.fromkeys(name for found in results.values() for name in found if name != "random")
    for name, column in itertools.product(names, ("end", "four")):
        both = [(found[name], found["random"]) for found in results.values() if name in found]
        pairs = [(getattr(mine, column), getattr(random, column)) for mine, random in both]
        logs = [math.log(max(mine, LEAST) / max(random, LEAST)) for mine, random in pairs if not math.isnan(mine)]
        if logs:
            record.ratio(name if column == "end" else f"{name}_four", math.exp(sum(logs) / len(logs)))


def _numbers(given: Options, key: str, least: int) -> list[int]:
    text = given.extra[key]
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) >= least for part in parts):
        raise UserError(f"--{key}={text}: give whole numbers of {least} or more, separated by commas")
    return [int(part) for part in parts]


if __name__ == "__main__":
    sys.exit(run(main))
