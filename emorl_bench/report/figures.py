"""The figures of one comparison, each with its caption."""

from __future__ import annotations

from pathlib import Path

from emorl_bench.report.comparison import Comparison
from emorl_bench.report.curves_plot import plot_curves
from emorl_bench.report.frontier_plot import plot_frontier
from emorl_bench.report.fronts_plot import plot_fronts
from emorl_bench.report.gold import has_gold
from emorl_bench.report.ladder import title
from emorl_bench.report.ladder_plot import plot_ladder
from emorl_bench.report.scores_plot import plot_scores
from emorl_bench.report.style import looks
from emorl_bench.report.surface_plot import plot_search

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
    "Training curves. Lines are means and bands the range over seeds; a learner that has stopped keeps its "
    "last value; grey lines are the other methods. An expert taken from the bank has its "
    "curve in the run that trained it."
)
FRONTIER = (
    "Reward against KL, one curve a method over its KL coefficients, which stand beside the points. Markers "
    "are means, bars 95 % t intervals over seeds, dots seeds; higher and further left is better."
)
SEARCH = (
    "Search surface. Small dots are the blends evaluated, stars the best of each seed; weights are divided by "
    "their sum."
)


def draw(comparison: Comparison, out: Path, reference: str) -> dict[str, str]:
    """Draw every figure that the runs have data for; file name -> caption."""
    style, gold = looks(sorted({run.method for run in comparison.runs}), reference), has_gold(comparison)
    decoding, several = comparison.decodings()[0], len(comparison.objectives) > 1
    files = {
        kind: out / f"{comparison.stem}_{kind}.png"
        for kind in ("scores", "ladder", "curves", "pareto", "frontier", "search")
    }
    plot_scores(comparison, decoding, style, files["scores"])
    captions = {files["scores"].name: GOLD_SCORES if gold else SCORES}
    if plot_ladder(comparison, decoding, style, files["ladder"]):
        captions[files["ladder"].name] = (
            f"{title(comparison).capitalize()} against cost. The same runs graded at shares of their budget; lines are "
            "means and bands the range over seeds."
        )
    if plot_curves(comparison, style, files["curves"]):
        captions[files["curves"].name] = CURVES
    if several:
        plot_fronts(comparison, decoding, style, files["pareto"])
        captions[files["pareto"].name] = _fronts(decoding, gold)
    if plot_frontier(comparison, reference, files["frontier"]):
        captions[files["frontier"].name] = FRONTIER
    if plot_search(comparison, style, files["search"]):
        captions[files["search"].name] = SEARCH
    return captions


def _fronts(decoding: str, gold: bool) -> str:
    truth = " Scores are gold; the dashed line joins the best legal answers for the preferences, the ceiling." * gold
    return (
        f"Objectives in pairs, {decoding} decoding: one marker for each preference, mean over seeds; dots are "
        f"seeds. A line joins a method's points that are undominated in the panel, the others are faint.{truth}"
    )
