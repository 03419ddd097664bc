"""The figures of one comparison, each with its caption."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from emorl_bench.indicators.aggregates import iqm
from emorl_bench.report.aggregate import scores, shared_reference, together
from emorl_bench.report.comparison import Comparison
from emorl_bench.report.curves_plot import plot_curves
from emorl_bench.report.frontier_plot import plot_frontier
from emorl_bench.report.fronts_plot import plot_fronts
from emorl_bench.report.gold import has_gold
from emorl_bench.report.ladder import title
from emorl_bench.report.ladder_plot import plot_ladder
from emorl_bench.report.palette import Look, looks
from emorl_bench.report.profile_plot import plot_profile
from emorl_bench.report.scores_plot import plot_scores
from emorl_bench.report.surface_plot import plot_search
from emorl_bench.report.tables import ranked

GOLD_SCORES = (
    "Utility of the deployed policies, mean over the preferences. Filled dots are gold, hollow ones the scorers "
    "trained against, hollow diamonds the held-out ones: a policy whose hollow marks lie far to the right of its "
    "filled one pleases scorers with what is worth less. The dashed line is the best that legal answers reach. Small "
    "dots are seeds, bars 95 % t intervals over seeds."
)
SCORES = (
    "Mean reward at the uniform preference. Large dots are means, small dots seeds, bars 95 % t intervals over "
    "seeds; hollow dots are scorers that nothing was trained or selected against."
)
CURVES = (
    "Training curves, on the select split. Lines are means and bands the range over seeds; a learner that has stopped "
    "keeps its last value; grey lines are the other methods. An expert's curve is the score of its own objective. "
    "Methods with the same experts share a panel; an expert taken from the bank has its curve in the run that trained "
    "it."
)
FRONTIER = (
    "Reward against KL, one curve a method over its KL coefficients, which stand beside the points. Markers "
    "are means, bars 95 % t intervals over seeds, dots seeds; higher and further left is better."
)
PROFILE = (
    "Performance profiles. For each threshold τ, the share of runs above it, mean over tasks; bands are pointwise 95 % "
    "bootstraps over the seeds of each task. A curve above another one everywhere is better at every threshold."
)
KINDS = ("scores", "ladder", "curves", "pareto", "frontier", "search", "profile")
MOST = 12  # rows in colour: more cannot be told apart
SEARCH = (
    "Search surface. Small dots are the blends evaluated, stars the best of each seed; weights are divided by "
    "their sum."
)


def draw(
    comparison: Comparison, out: Path, reference: str | None, step: Callable[[], None] = lambda: None
) -> dict[str, str]:
    """Draw every figure that the runs have data for, as PNG and SVG; name of the PNG -> caption.

    ``step`` is called after each of the `KINDS`, to show progress.
    """
    decoding, gold = comparison.decodings()[0], has_gold(comparison)
    style, rest = chosen([name for name, _ in ranked(comparison, decoding)], reference)
    plots: dict[str, tuple[Callable[[Path], bool], str]] = {
        "scores": (partial(plot_scores, comparison, decoding, style), (GOLD_SCORES if gold else SCORES) + rest),
        "ladder": (partial(plot_ladder, comparison, decoding, style), _ladder(comparison) + rest),
        "curves": (partial(plot_curves, comparison, style), CURVES + rest),
        "pareto": (partial(plot_fronts, comparison, decoding, style), _fronts(decoding, gold) + rest),
        "frontier": (partial(plot_frontier, comparison), FRONTIER),
        "search": (partial(plot_search, comparison, style), SEARCH),
        "profile": (partial(plot_profile, [comparison], decoding, style), PROFILE + rest),
    }
    captions = {}
    for kind in KINDS:
        plot, caption = plots[kind]
        path = out / f"{comparison.stem}_{kind}.png"
        if plot(path):
            captions[path.name] = caption
        step()
    return captions


def draw_profile(
    comparisons: Sequence[Comparison], decoding: str, out: Path, wanted: str | None
) -> tuple[str, str] | None:
    """The performance profiles over all tasks with normalised gold: name of the PNG and caption; None without any."""
    known, path = together(comparisons, decoding), out / "all_tasks_profile.png"
    found = sorted(scores(known, decoding), key=lambda row: -float(iqm(np.concatenate(row.arrays))))
    style, rest = chosen([row.method for row in found], shared_reference(known, wanted))
    return (path.name, PROFILE + rest) if plot_profile(known, decoding, style, path) else None


def chosen(best: Sequence[str], reference: str | None) -> tuple[dict[str, Look], str]:
    """The looks of all rows, given best first: the reference and the best ones in colour, the others in grey.

    Also a sentence with the names of those in grey.
    """
    first = [name for name in best if name == reference]
    shown = [*first, *(name for name in best if name != reference)][:MOST]
    rest = [name for name in best if name not in shown]
    sentence = f" In grey, beyond the {MOST} best: {', '.join(rest)}." if rest else ""
    return looks(shown, reversed(rest)), sentence


def _ladder(comparison: Comparison) -> str:
    return (
        f"{title(comparison).capitalize()} against cost. The same runs graded at shares of their budget; lines are "
        "means and bands the range over seeds."
    )


def _fronts(decoding: str, gold: bool) -> str:
    truth = " Scores are gold; the dashed line joins the best legal answers for the preferences, the ceiling." * gold
    return (
        f"Objectives in pairs, {decoding} decoding: one marker for each preference, mean over seeds; dots are "
        f"seeds. A line joins a method's points that are undominated in the panel, the others are faint.{truth}"
    )
