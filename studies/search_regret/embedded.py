"""Weight search on the embedded task: regret against evaluations, for the trained experts of `benchmarks.embedded`.

Ground truth is a lattice of blends on the simplex, all decoded greedily for many statements of the report split. A
search asks about a blend, and is told the mean scores of the nearest lattice blend on a few select prompts. These have
other situations than the report prompts, as in a run. Regret is the best true utility of the lattice less that of the
search's answer. The select prompts are drawn anew for every repeat, and are the same for all strategies. Everything is
decoded once, before any search, so searches cost almost nothing.

A figure is the mean over repeats and, in the picture, over preferences. Columns and keys are those of
`studies.search_regret`. ``best_known`` of the notes is the regret of a search that knows all select prompts.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.benches import random_bench
from benchmarks.embedded import trained_experts
from benchmarks.models import SHAPES, micro, random_setting
from benchmarks.record import Record, options, run
from benchmarks.timing import say
from emorl_bench.core.protocols import Bench, Policy
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Example
from emorl_bench.ensemble.blending import HiddenState
from emorl_bench.search.successive_halving import Part
from emorl_bench.tasks.reflections import Reflections
from studies.search_regret.docs import OPTION, document
from studies.search_regret.strategies import CONFIRM, EVALUATIONS, LEADERS, Variant, numbers, variants
from studies.search_regret.tables import Case, Curves, Results, finish, keep, plain
from studies.search_regret.trials import Trial, trial

Floats = NDArray[np.float64]

REPEATS = 10
AT_ONCE = 16  # prompts in one decode of the lattice
PREFERENCES = {
    "even": (1 / 3, 1 / 3, 1 / 3),
    "reflection": (0.6, 0.2, 0.2),
    "empathy": (0.2, 0.6, 0.2),
    "fluency": (0.2, 0.2, 0.6),
}
GP_ON = "even"  # optuna_gp takes a second or more a search


@dataclass(frozen=True)
class Lattice:
    """Blends on the simplex, and their scores.

    Attributes:
        weights_GM: the weight vectors of G blends.
        select_GPK: their scores on each select prompt.
        report_GK: their mean scores on the report prompts, the truth.
    """

    weights_GM: Floats
    select_GPK: Floats
    report_GK: Floats

    def nearest(self, weights_WM: Floats) -> NDArray[np.int64]:
        """(W,): the index of the lattice blend that is nearest to each weight vector."""
        return np.asarray(((weights_WM[:, None] - self.weights_GM[None]) ** 2).sum(-1).argmin(1))


@dataclass(frozen=True)
class Prompted:
    """A lattice seen on a few prompts, every second of them fresh; see `trials.Met`."""

    lattice: Lattice
    prompts_P: NDArray[np.int64]

    def seen(self, weights_WM: Floats, part: Part) -> Floats:
        """See `trials.Met.seen`."""
        chosen = {"all": self.prompts_P, "explored": self.prompts_P[1::2], "fresh": self.prompts_P[::2]}[part]
        scores_WPK = self.lattice.select_GPK[self.lattice.nearest(weights_WM)][:, chosen]
        return np.asarray(scores_WPK.mean(1))

    def true(self, weights_WM: Floats) -> Floats:
        """See `trials.Met.true`."""
        return self.lattice.report_GK[self.lattice.nearest(weights_WM)]


def main(argv: Sequence[str] | None) -> None:
    """Run the study.

    Raises:
        UserError: an option is wrong, or the file of ``--docs`` lacks the place of a table.
    """
    extra = OPTION | {
        "prompts": ("8,32", "select prompts that a search is told of"),
        "evaluations": (str(EVALUATIONS), "blends that a search may evaluate"),
        "lattice": ("32", "steps along an edge of the simplex"),
        "select": ("128", "select prompts to draw from"),
        "report": ("192", "report prompts that are the truth"),
    }
    given = options("search_regret_embedded", __doc__, argv, extra, repeats=REPEATS)
    document(given)  # raises if the file lacks the place of a table
    few = numbers(given, "prompts", 2)
    evaluations, steps, select, report = (
        numbers(given, key, least)[0]
        for key, least in (("evaluations", LEADERS + 1), ("lattice", 2), ("select", max(few)), ("report", 1))
    )
    if given.quick:
        few, evaluations, steps, select, report = few[:1], 24, 4, 2 * few[0], 8
    record = Record(given)
    lattice = measured(steps, select, report, quick=given.quick)
    record.notes |= notes(lattice, few)
    say(f"search_regret_embedded: {len(lattice.weights_GM)} blends decoded, {record.elapsed:.0f} s")
    results = searched(record, lattice, few, evaluations)
    finish(record, results, dict(over_preferences(results, few)))


def measured(steps: int, select: int, report: int, *, quick: bool) -> Lattice:
    """The scores of all blends of a lattice with ``steps`` steps along an edge.

    All blends of a few prompts are decoded together, so equal prefixes are decoded once.
    """
    bench, experts, prompts = material(select + report, select, quick=quick)
    points = [p for p in itertools.product(range(steps + 1), repeat=len(experts)) if sum(p) == steps]
    weights_GM = torch.tensor(points, dtype=torch.float64) / steps
    blend = HiddenState().blend(experts, weights_GM)
    greedy = replace(bench.sampling, temperature=0.0, samples_per_prompt=1)

    def scores(examples: Sequence[Example]) -> Floats:
        parts = []
        for first in range(0, len(examples), AT_ONCE):
            some = examples[first : first + AT_ONCE]
            scores_BK = bench.score(blend.generate(some, greedy, stream(0)))
            parts.append(scores_BK.double().view(len(points), len(some), -1).numpy())
        return np.concatenate(parts, axis=1)

    return Lattice(weights_GM.numpy(), scores(prompts[:select]), scores(prompts[select:]).mean(1))


def material(count: int, select: int, *, quick: bool) -> tuple[Bench, Sequence[Policy], Sequence[Example]]:
    """A bench, experts and prompts; the first ``select`` prompts have the situations of the select split.

    Args:
        count: the number of prompts.
        select: how many of them are select prompts.
        quick: take random experts and prompts.
    """
    if quick:
        setting = random_setting(micro(SHAPES["tiny"]), dtype=torch.float32, device=torch.device("cpu"))
        return random_bench(setting, Path()), setting.experts, setting.prompts(count)[:count]
    splits = Reflections({}, train=1, select=select, report=count - select).splits()
    return *trained_experts(), [*splits.select, *splits.report]


def notes(lattice: Lattice, few: Sequence[int]) -> dict[str, object]:
    """How hard the search is: the utilities of the best and the worst blend, and the standard error of a difference."""
    found: dict[str, object] = {"blends": len(lattice.weights_GM)}
    for name, preference in PREFERENCES.items():
        true_G = lattice.report_GK @ preference
        told_GP = lattice.select_GPK @ preference
        gap_GP = told_GP - told_GP[true_G.argmax()]
        spread = float(np.median(gap_GP.std(1)))
        found[name] = {
            "utility_of_best_and_worst": [float(true_G.max()), float(true_G.min())],
            "utility_of_the_experts": (lattice.report_GK[lattice.nearest(np.eye(3))] @ preference).tolist(),
            "best_known": float(true_G.max() - true_G[told_GP.mean(1).argmax()]),
            "standard_error_of_a_difference": {str(n): spread / math.sqrt(n) for n in few},
        }
    return found


def searched(record: Record, lattice: Lattice, few: Sequence[int], evaluations: int) -> Results:
    """Run every strategy for every preference and number of prompts."""
    results: dict[Case, dict[str, Curves]] = {}
    for count, (name, preference) in itertools.product(few, PREFERENCES.items()):
        case = Case((("prompts", str(count)), ("preference", name)))
        results[case] = {}
        for strategy, variant in variants(confirm=True).items():
            if strategy != "optuna_gp" or (name == GP_ON and count == few[0]):
                given = (lattice, count, np.array(preference), evaluations)
                trials = [_trial(variant, *given, repeat) for repeat in range(record.options.repeats)]
                keep(record, results[case], case, Curves(strategy, trials, "mean"))
        say(f"search_regret_embedded: {case}, {record.elapsed:.0f} s")
    return results


def over_preferences(results: Results, few: Sequence[int]) -> Iterator[tuple[str, dict[str, Curves]]]:
    """All trials of each strategy that has met every preference.

    Yields:
        for each number of prompts a panel of plain searches, and one of searches that confirm.
    """
    for count in few:
        cases = [found for case, found in results.items() if dict(case.cells)["prompts"] == str(count)]
        names = [name for name in cases[0] if all(name in found for found in cases)]
        pooled = {name: [t for found in cases for t in found[name].trials] for name in names}
        curves = {name: Curves(name, trials, "mean") for name, trials in pooled.items()}
        yield f"{count} prompts", plain(curves)
        again = {name.removesuffix(CONFIRM): found for name, found in curves.items() if name.endswith(CONFIRM)}
        yield f"{count} prompts, leaders graded again", again


def _trial(variant: Variant, lattice: Lattice, count: int, preference_K: Floats, evaluations: int, seed: int) -> Trial:
    prompts_P = np.random.default_rng(seed).choice(lattice.select_GPK.shape[1], count, replace=False)
    optimum = float((lattice.report_GK @ preference_K).max())
    strategy = variant(evaluations, seed)
    return trial(strategy, Prompted(lattice, prompts_P), preference_K, optimum, evaluations, variant.confirm or "both")


if __name__ == "__main__":
    sys.exit(run(main))
