"""The table of methods: its columns in groups, and for each method a mean and an interval in each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from emorl_bench.indicators.intervals import Interval
from emorl_bench.report.columns import (
    Column,
    behaviour_columns,
    change_columns,
    cost_columns,
    gold_columns,
    gold_quality_columns,
    inference_columns,
    quality_columns,
)
from emorl_bench.report.comparison import Comparison
from emorl_bench.report.gold import ceiling_row, has_gold
from emorl_bench.report.read import Run
from emorl_bench.report.tables import chooses

ENOUGH = 3  # seeds; with two, Student's interval is 12.7 standard errors wide and says nothing
OPENED_WITH = ("data_points_sum", "seconds", "kl", "distinct")
OPENED_WITH_SCORES = ("mean_reward", "worst_objective", "hypervolume", "held_out_mean_reward")
OPENED_WITH_GOLD = ("gold_deployed_utility", "normalised_gold", "scorer_gap", "gold_mean_reward", "gold_hypervolume")
COSTLY = ("cost", "one answer", "change")  # groups in which less is better
LESS_IS_BETTER = ("scorer_gap", "held_out_gap", "truncated", "kl")
MORE_IS_BETTER = ("distinct",)
Cell = tuple[float, float | None, int, bool]  # mean, half-width of the interval, seeds, whether it may be compared


@dataclass(frozen=True)
class Head:
    """One column of the table."""

    key: str
    title: str
    group: str
    digits: int
    better: str
    """``high``, ``low``, or nothing where neither is better."""
    opened: bool
    """Whether the table shows it before the reader asks for it."""


@dataclass(frozen=True)
class MethodTable:
    """Columns, the ceiling by column, and decoding -> method -> a cell for each column."""

    heads: tuple[Head, ...]
    ceiling: Mapping[str, float]
    cells: Mapping[str, Mapping[str, Sequence[Cell | None]]]


def method_table(comparison: Comparison) -> MethodTable:
    """The table of one comparison. Columns that no method has a number in are left out."""
    decodings = comparison.decodings()
    columns = {decoding: grouped(comparison, decoding) for decoding in decodings}
    cells = {
        decoding: {
            method: [_cell(column, runs, decoding) for _, column in columns[decoding]]
            for method, runs in comparison.methods(decoding).items()
        }
        for decoding in decodings
    }
    rows = [row for by_method in cells.values() for row in by_method.values()]
    kept = [i for i in range(len(columns[decodings[0]])) if any(row[i] is not None for row in rows)]
    opened = {*OPENED_WITH, *(OPENED_WITH_GOLD if has_gold(comparison) else OPENED_WITH_SCORES)}
    return MethodTable(
        tuple(_head(*columns[decodings[0]][i], opened) for i in kept),
        ceiling_row(comparison),
        {
            decoding: {method: [row[i] for i in kept] for method, row in by_method.items()}
            for decoding, by_method in cells.items()
        },
    )


def grouped(comparison: Comparison, decoding: str) -> list[tuple[str, Column]]:
    """Every column with its group. A column that is in two tables of report.md is here once."""
    gold = [*gold_columns(comparison, decoding), *gold_quality_columns(comparison)] if has_gold(comparison) else []
    groups = {
        "gold": [column for column in gold if "gold" in column.key],
        "scorers": [*quality_columns(comparison), *(column for column in gold if "gold" not in column.key)],
        "answers": behaviour_columns(),
        "cost": cost_columns(),
        "one answer": inference_columns(),
        "change": change_columns(),
    }
    found: dict[str, tuple[str, Column]] = {}
    for group, columns in groups.items():
        for column in columns:
            found.setdefault(column.key, (group, column))
    return list(found.values())


def half_width(interval: Interval) -> float | None:
    """The half-width to show; None where there are too few seeds for an interval."""
    return interval.half_width if interval.n >= ENOUGH else None


def _cell(column: Column, runs: Sequence[Run], decoding: str) -> Cell | None:
    interval = column.over_seeds(runs, decoding)
    if interval is None:
        return None
    half = half_width(interval)
    return interval.mean, half, interval.n, not (column.by_scorers and chooses(runs))


def _head(group: str, column: Column, opened: set[str]) -> Head:
    better = "low" if group in COSTLY or column.key in LESS_IS_BETTER else "high"
    if group == "answers" and column.key not in (*LESS_IS_BETTER, *MORE_IS_BETTER):
        better = ""
    return Head(column.key, column.title, group, column.digits, better, column.key in opened)
