"""Everything that report.html shows, as one object that JSON can hold. The page computes nothing that is not here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from emorl_bench.indicators.intervals import t_quantile
from emorl_bench.progress import ProgressBar
from emorl_bench.report.comparison import Comparison
from emorl_bench.report.conclusion import Conclusion
from emorl_bench.report.frontier import frontiers
from emorl_bench.report.gold import BASE, ceiling, is_reward
from emorl_bench.report.html.columns import MethodTable, method_table
from emorl_bench.report.html.explained import ExplainedRun
from emorl_bench.report.html.graded import SETS, Graded, graded
from emorl_bench.report.html.samples import Samples, samples
from emorl_bench.report.html.settings import Origin, Settings, origin, settings
from emorl_bench.report.palette import looks
from emorl_bench.report.published import Beside, Published, beside
from emorl_bench.report.read import Unfinished
from emorl_bench.report.reference import reference_row
from emorl_bench.report.tables import Table, chooses, is_single_point, ranked

DRAWN = 12  # methods in colour; more cannot be told apart in one chart
PAGE_BYTES = 6_500_000  # of the data; scripts and style add 1.3 MB
ANSWER_BYTES = 4_000_000  # of the answers of all comparisons, or what the rest of the data leaves
LEAST_ANSWER_BYTES = 200_000
MOST_SEEDS = 60  # a row of more seeds has the quantile of the normal distribution
TITLES = {"gold": "gold", "objectives": "scorers", "held_out": "held-out scorers"}


@dataclass(frozen=True)
class Method:
    """A row: its name, its look in every chart, and its marks."""

    name: str
    colour: str
    marker: str
    single_point: bool
    chooses: bool


@dataclass(frozen=True)
class Judge:
    """A set of scorers that scores can be read from."""

    key: str
    title: str
    fair: bool
    """Whether methods that choose among answers with the scorers can be compared by it."""


@dataclass(frozen=True)
class Section:
    """One comparison. Methods are in the order of the headline, best first."""

    title: str
    reference: str | None
    """The row that the others are compared with; None where it was not run here."""
    conclusion: Mapping[str, Sequence[str]]
    objectives: Sequence[str]
    decodings: Sequence[str]
    preferences: Sequence[Sequence[float]]
    methods: Sequence[Method]
    drawn: Sequence[str]
    """The methods that charts show before the reader chooses others."""
    judges: Sequence[Judge]
    ceiling: Mapping[str, object] | None
    table: MethodTable
    runs: Mapping[str, Sequence[Graded]]
    """Decoding -> its runs."""
    frontiers: Mapping[str, Sequence[str]]
    """Method -> its rows with rising KL coefficients, where it was run with several."""
    samples: Samples | None
    settings: Settings
    origin: Origin
    seeds: Mapping[str, Sequence[int]]
    published: Beside | None
    """None where no paper's figures were asked for."""


@dataclass(frozen=True)
class Page:
    """The whole report."""

    root: str
    conclusion: Mapping[str, Sequence[str]] | None
    """Over all tasks."""
    overall: Mapping[str, Table]
    """Decoding -> the table over all tasks."""
    sections: Sequence[Section]
    failed: Sequence[tuple[str, str, str]]
    """Directory, state and reason of the runs that did not finish."""
    explained: Sequence[ExplainedRun]
    """Which expert decided each word, of the runs that were explained."""
    quantiles: Sequence[float]
    """Place n: the factor of the standard error in Student's 95 % interval over n seeds."""


def page(
    comparisons: Sequence[Comparison],
    conclusions: Sequence[Conclusion],
    unfinished: Sequence[Unfinished],
    roots: Sequence[Path],
    reference: str | None = None,
    overall: Mapping[str, Table] | None = None,
    together: Conclusion | None = None,
    explained: Sequence[ExplainedRun] = (),
    paper: Published | None = None,
) -> Page:
    """The content of report.html.

    Args:
        comparisons: the tables of the report.
        conclusions: one for each comparison.
        unfinished: runs that are in no table.
        roots: where the runs were read from: directories, or packed files.
        reference: the row that others are compared with (`reference_row`).
        overall: decoding -> the table over all tasks.
        together: the conclusion over all tasks.
        explained: explained answers.
        paper: published figures to set beside the runs.
    """
    with ProgressBar("report.html", 2 * len(comparisons), "steps") as bar:
        sections: list[Section] = []
        for comparison, conclusion in zip(comparisons, conclusions, strict=True):
            bar.to(len(sections), f"tables of {comparison.title}")
            sections.append(section(comparison, conclusion, reference, paper))
        room = min(ANSWER_BYTES, PAGE_BYTES - len(json.dumps([sections, explained], default=vars)))
        allowed = max(LEAST_ANSWER_BYTES, room) // max(1, len(comparisons))
        for i, comparison in enumerate(comparisons):
            bar.to(len(comparisons) + i, f"answers of {comparison.title}")
            sections[i] = replace(sections[i], samples=samples(comparison, allowed))
    return Page(
        ", ".join(map(str, roots)),
        None if together is None else _sentences(together),
        overall or {},
        sections,
        [(run.name, run.state, run.reason) for run in unfinished],
        explained,
        [0.0, 0.0, *(t_quantile(0.975, n - 1) for n in range(2, MOST_SEEDS))],
    )


def section(
    comparison: Comparison, conclusion: Conclusion, wanted: str | None, paper: Published | None = None
) -> Section:
    """One comparison, without its answers."""
    reference = reference_row(comparison, wanted)
    decodings = comparison.decodings()
    order = [name for name, _ in ranked(comparison, decodings[0])]
    order += sorted({run.method for run in comparison.runs} - set(order))
    runs = {name: [graded(run, name) for run in comparison.runs if name in run.decoding] for name in decodings}
    return Section(
        title=comparison.title,
        reference=reference,
        conclusion=_sentences(conclusion),
        objectives=comparison.objectives,
        decodings=decodings,
        preferences=comparison.runs[0].preferences_WK.round(6).tolist(),
        methods=methods(comparison, order),
        drawn=_drawn(order, reference),
        judges=_judges(comparison, runs[decodings[0]]),
        ceiling=ceiling(comparison),
        table=method_table(comparison),
        runs=runs,
        frontiers=_frontiers(comparison),
        samples=None,
        settings=settings(comparison),
        origin=origin(comparison),
        seeds={name: sorted(run.seed for run in comparison.runs if run.method == name) for name in order},
        published=None if paper is None else beside(paper, comparison, decodings[0]),
    )


def methods(comparison: Comparison, order: Sequence[str]) -> list[Method]:
    """The rows in this order, each with the look that it has in all figures."""
    style = looks(order)
    by_name = {name: [run for run in comparison.runs if run.method == name] for name in order}
    return [
        Method(name, style[name].colour, style[name].marker, is_single_point(runs), chooses(runs))
        for name, runs in by_name.items()
    ]


def _sentences(conclusion: Conclusion) -> dict[str, list[str]]:
    return {"found": list(conclusion.found), "undecided": list(conclusion.undecided)}


def _drawn(order: Sequence[str], reference: str | None) -> list[str]:
    """The best, with the reference and the base model among them."""
    always = [name for name in order if name in (reference, BASE)]
    best = [name for name in order if name not in always][: DRAWN - len(always)]
    return [name for name in order if name in {*always, *best}]


def _judges(comparison: Comparison, runs: Sequence[Graded]) -> list[Judge]:
    known = [name for name in SETS if any(name in run.points for run in runs)]
    return [Judge(name, TITLES[name], name != "objectives" and not is_reward(comparison, name)) for name in known]


def _frontiers(comparison: Comparison) -> dict[str, list[str]]:
    """Rows of one method that differ in the KL coefficient, by its value."""
    return {family: [point.runs[0].method for point in points] for family, points in frontiers(comparison).items()}
