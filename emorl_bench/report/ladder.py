"""One run, graded at several shares of its budget: what a method reaches at what cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from emorl_bench.report.columns import Column, headline
from emorl_bench.report.comparison import Comparison
from emorl_bench.report.gold import ceiling, has_gold
from emorl_bench.report.read import Run
from emorl_bench.report.reading import deployed, number
from emorl_bench.report.tables import Table, chooses, label, ranked

WHOLE = 1.0


@dataclass(frozen=True)
class Rung:
    """A share of the budget: what was spent until then, and the utility of what would have been deployed."""

    share: float
    data_points: float
    utility: float


def prefix(comparison: Comparison) -> str:
    """The prefix of the scorers that judge: gold where there is gold."""
    return "gold_" if has_gold(comparison) else ""


def rungs(run: Run, decoding: str, judge: str) -> list[Rung]:
    """The shares of one run that have this decoding, rising. The whole run is the last one, where the record lacks it.

    Empty where the run was graded at its end only.
    """
    found = [rung for record in run.ladder if (rung := _rung(record, decoding, judge)) is not None]
    whole, spent = deployed(run.decoding[decoding], judge), run.cost.get("data_points_sum")
    if found and whole is not None and spent is not None and all(rung.share < WHOLE for rung in found):
        found.append(Rung(WHOLE, spent, whole))
    return sorted(found, key=lambda rung: rung.share) if len(found) > 1 else []


def _rung(record: Mapping[str, Any], decoding: str, judge: str) -> Rung | None:
    graded = record.get("decoding", {}).get(decoding)
    share, spent = number(record, "share"), number(record, "data_points")
    utility = None if graded is None else deployed(graded, judge)
    return None if share is None or spent is None or utility is None else Rung(share, spent, utility)


def ladders(comparison: Comparison, decoding: str) -> dict[str, list[list[Rung]]]:
    """Method -> its runs that were graded on the way, best method first.

    A method that chooses with the scorers is left out where these are the judges.
    """
    judge, found = prefix(comparison), {}
    for method, runs in ranked(comparison, decoding):
        if headline(comparison).by_scorers and chooses(runs):
            continue
        if climbed := [rise for run in runs if (rise := rungs(run, decoding, judge))]:
            found[method] = climbed
    return found


def ladder_table(comparison: Comparison, decoding: str) -> Table | None:
    """Utility at each share, mean and 95 % t interval over seeds; None where no run was graded on the way."""
    methods, judge = ladders(comparison, decoding), prefix(comparison)
    shares = sorted({rung.share for runs in methods.values() for run in runs for rung in run})
    if not shares:
        return None
    rows = []
    by_method = comparison.methods(decoding)
    for method, climbed in methods.items():
        cells = (_at(share, judge).of(by_method[method], decoding) for share in shares)
        rows.append((label(method, by_method[method]), str(len(climbed)), *cells))
    if (best := ceiling(comparison)) is not None:
        rows.insert(0, ("*ceiling*", "", *(f"{best['mean_utility']:.3f}" for _ in shares)))
    header = ("method", "seeds", *(f"{share:g} of the budget" for share in shares))
    return Table(header, tuple(rows))


def _at(share: float, judge: str) -> Column:
    def read(run: Run, decoding: str) -> float | None:
        return next((rung.utility for rung in rungs(run, decoding, judge) if rung.share == share), None)

    return Column(f"at_{share:g}", "", read)


def title(comparison: Comparison) -> str:
    """The name of the utility that is shown."""
    return headline(comparison).title if has_gold(comparison) else "deployed utility"
