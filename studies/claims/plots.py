"""Figures of the study, as PNG and SVG: the contrasts of claims, gold against KL, gold against preferences served."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emorl_bench.report.comparison import Comparison, comparisons
from emorl_bench.report.gold import normalised
from emorl_bench.report.palette import looks
from emorl_bench.report.read import Run
from emorl_bench.report.reading import uniform
from emorl_bench.report.style import BETTER, INK, figure, legend, panels
from studies.claims.claims import REFUTED, REPRODUCED, UNDECIDED
from studies.claims.decide import Decided
from studies.claims.measures import DECODING
from studies.claims.tables import Answer

OUTCOMES = {REPRODUCED: ("#009E73", "o"), REFUTED: ("#D55E00", "s"), UNDECIDED: ("#5B5B5B", "D")}
GOLD = f"normalised gold {BETTER}"
Point = tuple[float, float]


def plot_claims(answers: Sequence[Answer], path: Path) -> bool:
    """Every contrast of a claim in units of its margin, with its interval. False where there is none."""
    found = [one for answer in answers for claim in answer.question.claims for one in answer.of_claim(claim)]
    if not found:
        return False
    with figure(path, 9.0, 1.4 + 0.36 * len(found)) as drawing:
        axes = drawing.subplots()
        axes.axvspan(-1, 1, color="#EFEFEF", zorder=0)
        axes.axvline(0, color=INK, linewidth=0.8)
        for i, one in enumerate(found):
            _forest_row(axes, i, one)
        axes.set_yticks(range(len(found)), [one.contrast.title for one in found])
        axes.invert_yaxis()
        axes.set_xscale("symlog", linthresh=2)
        axes.set_xlabel("difference, in margins of equality (the grey band), with 95 % intervals")
        axes.set_title("Published claims: what is measured here")
        _legend(drawing)
    return True


def _forest_row(axes: Any, row: int, one: Decided) -> None:
    colour, marker = OUTCOMES[outcome := one.contrast.outcome(one.verdict.word)]
    low, mean, high = (value / one.margin for value in (one.difference.low, one.difference.mean, one.difference.high))
    axes.plot([low, high], [row, row], color=colour, linewidth=2)
    axes.plot([mean], [row], color=colour, marker=marker, linestyle="", label=outcome)


def _legend(drawing: Any) -> None:
    """One entry for each name, from all panels."""
    named: dict[str, Any] = {}
    for axes in drawing.axes:
        handles, names = axes.get_legend_handles_labels()
        named |= dict(zip(names, handles, strict=True))
    legend(drawing, list(named.values()), list(named))


def plot_kl(runs: Sequence[Run], path: Path) -> bool:
    """Gold against KL: a line for each method, a point for each coefficient, the mean over seeds."""

    def nats(run: Run) -> float:
        return uniform("kl")(run, DECODING) or 0.0

    return _plot(runs, path, nats, lambda run: run.kl_coefficient, "KL to the base (nats)")


def plot_change(runs: Sequence[Run], path: Path) -> bool:
    """Gold against the number of preferences that are served at one budget, the mean over seeds."""

    def served(run: Run) -> float:
        return float(len(run.preferences_WK))

    return _plot(runs, path, served, served, "preferences served at one budget")


def _plot(
    runs: Sequence[Run], path: Path, x: Callable[[Run], float], group: Callable[[Run], float | None], label: str
) -> bool:
    """A panel for each cell; runs of one group are one point. False where no method has two points."""
    lines = _lines(runs, x, group)
    if not lines:
        return False
    cells, look = sorted({cell for cell, _ in lines}), looks(sorted({method for _, method in lines}))
    with figure(path, 10.5, 4.8) as drawing:
        for axes, cell in zip(panels(drawing, len(cells), 2), cells, strict=True):
            for method in sorted(method for at, method in lines if at == cell):
                style = {"color": look[method].colour, "marker": look[method].marker, "markeredgecolor": "white"}
                axes.plot(*zip(*lines[cell, method], strict=True), label=method, **style)
            axes.set_xscale("log")
            axes.set_xlabel(label)
            axes.set_ylabel(GOLD)
            axes.set_title(cell)
        _legend(drawing)
    return True


def _lines(
    runs: Sequence[Run], x: Callable[[Run], float], group: Callable[[Run], float | None]
) -> dict[tuple[str, str], list[Point]]:
    """(cell, method) -> the mean (x, normalised gold) of each group, by x; only lines of two points or more."""
    found: dict[tuple[str, str], dict[float | None, list[Point]]] = {}
    for cell in comparisons(runs):
        for run, gold in _golds(cell):
            if gold is not None and (at := x(run)) > 0:
                line = found.setdefault((f"{run.task} · {run.model}", run.family), {})
                line.setdefault(group(run), []).append((at, gold))
    means = {key: sorted(map(_middle, line.values())) for key, line in found.items()}
    return {key: points for key, points in means.items() if len(points) > 1}


def _middle(points: Sequence[Point]) -> Point:
    at, gold = np.mean(points, axis=0).tolist()
    return at, gold


def _golds(cell: Comparison) -> list[tuple[Run, float | None]]:
    read = normalised(cell, DECODING)
    return [(run, read(run, DECODING)) for run in cell.runs]
