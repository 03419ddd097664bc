"""Figures of the study, as PNG and SVG: the contrasts of claims, gold against KL, gold against preferences served."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

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
        handles, names = axes.get_legend_handles_labels()
        once = dict(zip(names, handles, strict=True))
        legend(drawing, list(once.values()), list(once))
    return True


def _forest_row(axes: object, row: int, one: Decided) -> None:
    colour, marker = OUTCOMES[outcome := one.contrast.outcome(one.verdict.word)]
    low, mean, high = (value / one.margin for value in (one.difference.low, one.difference.mean, one.difference.high))
    axes.plot([low, high], [row, row], color=colour, linewidth=2)  # type: ignore[attr-defined]
    axes.plot([mean], [row], color=colour, marker=marker, linestyle="", label=outcome)  # type: ignore[attr-defined]


def plot_kl(runs: Sequence[Run], path: Path) -> bool:
    """Gold against KL: a line for each method, a point for each coefficient, the mean over seeds."""
    return _plot(runs, path, lambda run: uniform("kl")(run, DECODING), "KL to the base (nats)", coefficient)


def plot_change(runs: Sequence[Run], path: Path) -> bool:
    """Gold against the number of preferences that are served at one budget, the mean over seeds."""
    return _plot(runs, path, lambda run: float(len(run.preferences_WK)), "preferences served at one budget", served)


def coefficient(run: Run) -> float:
    """The KL coefficient of a run."""
    return float(run.kl_coefficient or 0.0)


def served(run: Run) -> float:
    """The number of preferences that a run answers."""
    return float(len(run.preferences_WK))


def _plot(
    runs: Sequence[Run], path: Path, x: Callable[[Run], float | None], label: str, group: Callable[[Run], float]
) -> bool:
    lines = _lines(runs, x, group)
    if not lines:
        return False
    cells = sorted({cell for cell, _ in lines})
    look = looks(sorted({method for _, method in lines}))
    with figure(path, 10.5, 4.8) as drawing:
        for axes, cell in zip(panels(drawing, len(cells), 2, sharey=False), cells, strict=True):
            for (at, method), points in sorted(lines.items()):
                if at == cell:
                    style = {"color": look[method].colour, "marker": look[method].marker, "markeredgecolor": "white"}
                    axes.plot(*zip(*points, strict=True), label=method, **style)
            axes.set_xscale("log")
            axes.set_xlabel(label)
            axes.set_ylabel(GOLD)
            axes.set_title(cell)
        handles = {
            name: handle
            for axes in drawing.axes
            for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        legend(drawing, list(handles.values()), list(handles))
    return True


def _lines(
    runs: Sequence[Run], x: Callable[[Run], float | None], group: Callable[[Run], float]
) -> dict[tuple[str, str], list[Point]]:
    """(cell, method) -> the means over seeds of each group's (x, normalised gold), by x."""
    found: dict[tuple[str, str], dict[float, list[Point]]] = {}
    for cell in comparisons(runs):
        for run, gold in _golds(cell):
            if gold is not None and (at := x(run)) is not None and at > 0:
                line = found.setdefault((f"{run.task} · {run.model}", run.family), {})
                line.setdefault(group(run), []).append((at, gold))
    means = {
        key: sorted(tuple(np.mean(points, axis=0).tolist()) for points in line.values()) for key, line in found.items()
    }
    return {key: points for key, points in means.items() if len(points) > 1}  # type: ignore[misc]


def _golds(cell: Comparison) -> list[tuple[Run, float | None]]:
    read = normalised(cell, DECODING)
    return [(run, read(run, DECODING)) for run in cell.runs]
