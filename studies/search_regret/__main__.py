"""Weight search without language models: regret against evaluations, on surfaces whose optimum is known.

Every strategy has the same surfaces, preferences and noise (`surfaces`, one draw for each seed) and may evaluate the
same number of blends. Regret is the optimum less the true utility of the recommended blend. A figure is the median over
the seeds.

Columns: ``regret`` is that after all evaluations, for one preference. ``four`` divides the same evaluations among four
preferences: a search for one preference has a quarter of them each, and one that answers all preferences has all. Where
there is noise, each search is also run with its leaders graded again (`search.successive_halving`), at the same price.

Keys of the last line: a strategy's regret over the random search's. It is the geometric mean over surfaces, numbers of
objectives and noise where the strategy finished a round within the budget; less than 1 is better. A regret counts as
0.001 at least. ``_four`` compares the column ``four``. ``_confirm`` compares a strategy that confirms with itself
without.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence

from benchmarks.record import Record, options, run
from benchmarks.timing import say
from emorl_bench.core.errors import UserError, did_you_mean
from studies.search_regret.docs import OPTION, document
from studies.search_regret.strategies import EVALUATIONS, LEADERS, Variant, numbers, variants
from studies.search_regret.surfaces import SURFACES
from studies.search_regret.tables import PREFERENCES, Case, Curves, Results, finish, keep, plain
from studies.search_regret.trials import Trial, on_surface

NOISES = (0.0, 0.05)
SEEDS, OBJECTIVES = 20, "2,4,6"
SLOW_ON = "concave-4"  # optuna_gp runs only here by default, with noise: a search takes a second or more


def main(argv: Sequence[str] | None) -> None:
    """Run the study.

    Raises:
        UserError: an option is wrong, or the file of ``--docs`` lacks the place of a table.
    """
    extra = OPTION | {
        "objectives": (OBJECTIVES, "numbers of objectives"),
        "evaluations": (str(EVALUATIONS), "blends that a search may evaluate"),
        "gp": (SLOW_ON, "where optuna_gp is run, with noise: SURFACE-OBJECTIVES, all or none"),
    }
    given = options("search_regret", __doc__, argv, extra, repeats=SEEDS)
    document(given)  # raises if the file lacks the place of a table
    sizes = numbers(given, "objectives", 2)
    evaluations = numbers(given, "evaluations", LEADERS + 1)[0]
    places = ["all", "none", *(f"{surface}-{size}" for surface, size in itertools.product(SURFACES, sizes))]
    if given.extra["gp"] not in [*places, SLOW_ON]:
        raise UserError(f"--gp={given.extra['gp']}: unknown{did_you_mean(given.extra['gp'], places)}")
    if given.quick:
        sizes, evaluations = sizes[:1], 12
    record = Record(given)
    results = measured(record, sizes, evaluations)
    record.notes["preferences"] = f"{PREFERENCES} share the evaluations in `four`"
    noisy = {str(case): plain(found) for case, found in results.items() if dict(case.cells)["noise"] != "0"}
    finish(record, results, noisy)


def measured(record: Record, sizes: Sequence[int], evaluations: int) -> Results:
    """Run every strategy on every surface, number of objectives and noise."""
    results: dict[Case, dict[str, Curves]] = {}
    cases = list(itertools.product(SURFACES, sizes, NOISES))
    for done, (surface, objectives, noise) in enumerate(cases, 1):
        case = Case((("surface", surface), ("objectives", str(objectives)), ("noise", f"{noise:g}")))
        results[case] = {}
        for name, variant in variants(confirm=noise > 0).items():
            wanted = noise > 0 and record.options.extra["gp"] in ("all", f"{surface}-{objectives}")
            if name == "optuna_gp" and not wanted:
                continue
            given = (surface, objectives, noise, evaluations)
            curves = Curves(name, [_trial(variant, *given, seed) for seed in range(record.options.repeats)])
            keep(record, results[case], case, curves)
        say(f"search_regret: {done}/{len(cases)} {case}, {record.elapsed:.0f} s")
    return results


def _trial(variant: Variant, surface: str, objectives: int, noise: float, evaluations: int, seed: int) -> Trial:
    judged = variant.confirm or "both"
    return on_surface(variant(evaluations, seed), surface, objectives, noise, evaluations, seed, judged)


if __name__ == "__main__":
    sys.exit(run(main))
