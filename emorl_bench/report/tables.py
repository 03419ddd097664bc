"""Tables. Rows are found in the runs, and every number is a mean over a stated number of seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from emorl_bench.indicators.fronts import additive_epsilon, controllability, igd_plus, pooled_front
from emorl_bench.report.columns import (
    Column,
    behaviour_columns,
    change_columns,
    cost_columns,
    front_columns,
    gold_columns,
    gold_quality_columns,
    headline,
    inference_columns,
    quality_columns,
)
from emorl_bench.report.comparison import Comparison
from emorl_bench.report.escape import cell
from emorl_bench.report.gold import ceiling_row, has_gold
from emorl_bench.report.read import Floats, Run
from emorl_bench.report.reading import number

SINGLE_POINT = "†"  # marks methods whose one policy answers every preference
CHOOSES = "‡"  # marks methods that choose among answers with the scorers
CEILING = "ceiling"  # the row of the best legal answers
TERMINAL = ("mean_reward", "hypervolume", "held_out_mean_reward", "data_points_max", "seconds")
TERMINAL_GOLD = ("gold_deployed_utility", "normalised_gold", "scorer_gap", "held_out_gap", "distinct", "seconds")


@dataclass(frozen=True)
class Table:
    """A header and rows of text. The first column names, the others hold numbers."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """The table as Markdown."""
        rule = (":--", *("--:" for _ in self.header[1:]))
        lines = (tuple(map(cell, self.header)), rule, *(tuple(map(cell, cells)) for cells in self.rows))
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)

    def plain(self) -> str:
        """Aligned text, for a terminal or a log that shows no markup."""
        widths = [max(map(len, column)) for column in zip(self.header, *self.rows, strict=True)]
        lines = [self.header, tuple("─" * width for width in widths), *self.rows]
        return "\n".join(
            "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
            for line in lines
        )


def all_columns(comparison: Comparison, decoding: str) -> list[Column]:
    """Every column but those of fronts only. A column that is in two tables is here once."""
    gold = [*gold_columns(comparison, decoding), *gold_quality_columns(comparison)] if has_gold(comparison) else []
    both = [*gold, *quality_columns(comparison), *behaviour_columns()]
    both += [*cost_columns(), *inference_columns(), *change_columns()]
    return list({column.key: column for column in reversed(both)}.values())[::-1]


def results_table(comparison: Comparison, decoding: str, columns: Sequence[Column]) -> Table:
    """One row for each method, best first, below the best possible answers where these are known."""
    rows = [
        (label(name, runs), str(len(runs)), *(column.of(runs, decoding) for column in columns))
        for name, runs in ranked(comparison, decoding)
    ]
    best = ceiling_row(comparison)
    if any(column.key in best for column in columns):
        cells = (f"{best[column.key]:.{column.digits}f}" if column.key in best else "" for column in columns)
        rows.insert(0, (f"*{CEILING}*", "", *cells))
    return Table(("method", "seeds", *(column.title for column in columns)), tuple(rows))


def headline_table(comparison: Comparison, decoding: str) -> Table:
    """The few columns that fit a terminal."""
    keys = TERMINAL_GOLD if has_gold(comparison) else TERMINAL
    columns = {column.key: column for column in all_columns(comparison, decoding)}
    return results_table(comparison, decoding, [columns[key] for key in keys])


def fronts_table(comparison: Comparison, decoding: str) -> Table | None:
    """Indicators of whole fronts, for methods that answer preferences differently: a single point is no front."""
    methods = [(name, runs) for name, runs in ranked(comparison, decoding) if not is_single_point(runs)]
    if not methods:
        return None
    fronts = [comparison.whole(run, decoding)[1] for run in comparison.runs if decoding in run.decoding]
    if not (fronts := [front for front in fronts if front.size]):
        return None
    pooled = pooled_front(fronts)

    def close(key: str, title: str, indicator: Callable[[Floats, Floats], float], digits: int = 3) -> Column:
        return Column(key, title, _of_front(comparison, indicator), digits, by_scorers=True)

    columns = [
        *(column for column in quality_columns(comparison) if column.key in ("hypervolume", "deployed_utility")),
        *front_columns(),
        close("igd_plus", "IGD+ (0 is best)", lambda _, front: igd_plus(front, pooled)),
        close("additive_epsilon", "additive ε (0 is best)", lambda _, front: additive_epsilon(front, pooled)),
        close("controllability", "controllability", controllability, 2),
    ]
    rows = [
        (label(name, runs), str(len(runs)), *(column.of(runs, decoding) for column in columns))
        for name, runs in methods
    ]
    return Table(("method", "seeds", *(column.title for column in columns)), tuple(rows))


def members_table(comparison: Comparison, decoding: str) -> Table | None:
    """Policies of one method that were graded one by one, such as CORY's two agents.

    One row for each method and member, with means over seeds; None where no method has members.
    """
    found: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in comparison.runs:
        if decoding in run.decoding:
            for name in run.members:
                found[run.method, name].append(run)
    gold, rows = has_gold(comparison), []
    for (method, name), runs in sorted(found.items()):
        deployed = sum(bool(run.members[name]["deployed"]) for run in runs)
        values = (column.text(column.over_seeds(runs, decoding)) for column in _member_columns(name, gold))
        rows.append((method, name, f"{deployed} of {len(runs)}", *values))
    titles = (column.title for column in _member_columns("", gold))
    return Table(("method", "policy", "deployed in", *titles), tuple(rows)) if rows else None


def ranked(comparison: Comparison, decoding: str) -> list[tuple[str, list[Run]]]:
    """Methods by the headline, best first.

    A method that chooses with the scorers is not ranked by them and comes last.
    """
    column = headline(comparison)

    def key(item: tuple[str, list[Run]]) -> tuple[bool, float, str]:
        interval = column.over_seeds(item[1], decoding)
        unranked = interval is None or (column.by_scorers and chooses(item[1]))
        return unranked, 0.0 if interval is None else -interval.mean, item[0]

    return sorted(comparison.methods(decoding).items(), key=key)


def label(method: str, runs: Sequence[Run]) -> str:
    """The method's name with its marks."""
    marks = [mark for mark, holds in ((SINGLE_POINT, is_single_point(runs)), (CHOOSES, chooses(runs))) if holds]
    return " ".join([method, *marks])


def chooses(runs: Sequence[Run]) -> bool:
    """Whether the method chooses among its answers with the scorers."""
    return any(run.chooses for run in runs)


def is_single_point(runs: Sequence[Run]) -> bool:
    """Whether one policy answered every preference in all seeds.

    A search may choose one blend for every preference in one seed. The method still counts as one with a front.
    """
    return all(run.single_point for run in runs)


def _of_front(
    comparison: Comparison, indicator: Callable[[Floats, Floats], float]
) -> Callable[[Run, str], float | None]:
    """An indicator of the complete points of a run; None where it has none."""

    def read(run: Run, decoding: str) -> float | None:
        preferences_NK, points_NK = comparison.whole(run, decoding)
        return indicator(preferences_NK, points_NK) if points_NK.size else None

    return read


def _member_columns(member: str, gold: bool) -> list[Column]:
    def graded(key: str) -> Callable[[Run, str], float | None]:
        return lambda run, decoding: number(run.members[member]["decoding"][decoding], key)

    return [
        Column("select", "select (greedy)", lambda run, _: number(run.members[member]["select"], "mean_reward")),
        Column("mean_reward", "mean reward", graded("mean_reward")),
        Column("held_out_mean_reward", "held-out mean", graded("held_out_mean_reward")),
        *([Column("gold_mean_reward", "gold mean", graded("gold_mean_reward"))] if gold else []),
        Column("kl", "KL (nats/seq)", graded("kl"), 2),
    ]
