"""The results of the regret studies: averages, Markdown tables as they stand in docs/search.md, and ratios."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.record import Record
from benchmarks.timing import Timing
from studies.search_regret.docs import TABLES, document, write_tables
from studies.search_regret.plot import plot_regret
from studies.search_regret.strategies import ANSWER_ALL, CONFIRM, FRESH, LEFT_OUT
from studies.search_regret.trials import Trial

PREFERENCES = 4  # preferences that share the evaluations in the column `four`
LEAST = 1e-3  # a smaller regret does not matter
Average = Literal["median", "mean"]


@dataclass(frozen=True)
class Case:
    """The conditions of a search: column -> cell of a table, in order."""

    cells: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        """The conditions in words."""
        return ", ".join(f"{column} {cell}" for column, cell in self.cells)


@dataclass(frozen=True)
class Curves:
    """All trials of one strategy on one case.

    Attributes:
        strategy: its name.
        trials: one for each seed.
        average: the median or the mean over them.
    """

    strategy: str
    trials: Sequence[Trial]
    average: Average = "median"

    @property
    def average_N(self) -> NDArray[np.float64]:
        """The average regret after n evaluations; NaN where not all trials had finished a round."""
        found_XN = np.stack([t.regret_N for t in self.trials])
        return np.asarray(np.median(found_XN, axis=0) if self.average == "median" else found_XN.mean(0))

    @property
    def end(self) -> float:
        """The average regret after all evaluations."""
        return float(self.average_N[-1])

    @property
    def four(self) -> float:
        """The average regret if four preferences share the evaluations.

        A search for one preference has had a quarter of them, one that answers all preferences has had all.
        """
        count = len(self.average_N)
        return self.end if self.strategy in ANSWER_ALL else float(self.average_N[max(count // PREFERENCES, 1) - 1])


Results = Mapping[Case, Mapping[str, Curves]]


def table(results: Results) -> list[str]:
    """The table of averages after all evaluations, with the column `four` in brackets.

    Searches that confirm are left out.
    """
    names = [name for name in _names(results) if not _variant(name)]
    return _markdown(results, names, lambda found, name: _cell(found[name]) if name in found else "–")


def confirm_table(results: Results) -> list[str]:
    """The table of averages after all evaluations, without and with leaders that are graded again."""
    names = [name.removesuffix(CONFIRM) for name in _names(results) if name.endswith(CONFIRM)]
    compared = {case: found for case, found in results.items() if any(map(_variant, found))}
    return _markdown(compared, names, _both)


def ratios(results: Results) -> Iterator[tuple[str, float]]:
    """Geometric means of ratios over the cases.

    Yields:
        the key and the ratio: a strategy to the random search, ``+confirm`` to the strategy itself.
    """
    for name in _names(results):
        base = name.removesuffix(FRESH).removesuffix(CONFIRM) if _variant(name) else "random"
        for column in ("end",) if _variant(name) else ("end", "four"):
            pairs = [(f[name], f[base]) for f in results.values() if name in f and base in f and name != base]
            logs = [_log(getattr(mine, column)) - _log(getattr(other, column)) for mine, other in pairs]
            finite = [log for log in logs if not math.isnan(log)]
            if finite:
                key = name.replace("+", "_").replace(" ", "_")
                yield key if column == "end" else f"{key}_four", math.exp(sum(finite) / len(finite))


def ratio_table(found: Mapping[str, float]) -> list[str]:
    """The table of ratios of the strategies to the random search, for one preference and for four."""
    names = [name for name in found if "_confirm" not in name and not name.endswith("_four")]
    lines = [_line(["", *names]), "|---" * (1 + len(names)) + "|"]
    for title, suffix in (("one preference", ""), ("four preferences", "_four")):
        cells = [f"{found[name + suffix]:.2f}" if name + suffix in found else "–" for name in names]
        lines.append(_line([title, *cells]))
    return lines


def confirm_ratio_table(found: Mapping[str, float]) -> list[str]:
    """The table of ratios of searches whose leaders are graded again to those without."""
    keys = {"both halves": "_confirm", "the fresh half": "_confirm_on_fresh"}
    names = [name.removesuffix("_confirm") for name in found if name.endswith("_confirm")]
    lines = [_line(["decided by", *names]), "|---" * (1 + len(names)) + "|"]
    for title, suffix in keys.items():
        cells = [f"{found[name + suffix]:.2f}" if name + suffix in found else "–" for name in names]
        lines.append(_line([title, *cells]))
    return lines


def keep(record: Record, found: dict[str, Curves], case: Case, curves: Curves) -> None:
    """Add a row to the record, unless no round ended within the budget."""
    if not math.isnan(curves.end):
        found[curves.strategy] = curves
        seconds, evaluations = Timing(tuple(t.seconds for t in curves.trials)), len(curves.average_N)
        facts = {"regret": curves.end, "four": known(curves.four)}
        record.row(f"{case}, {curves.strategy}", seconds, vectors=evaluations, **facts)


def finish(record: Record, results: Results, panels: Mapping[str, Mapping[str, Curves]]) -> None:
    """Write the tables, the picture and the record."""
    average = next(iter(next(iter(results.values())).values())).average
    record.notes["left_out"] = LEFT_OUT
    record.notes[f"{average}_regret_after_each_evaluation"] = {
        str(case): {name: [known(r) for r in curves.average_N.tolist()] for name, curves in found.items()}
        for case, found in results.items()
    }
    for key, value in ratios(results):
        record.ratio(key, value)
    averages, over = (table(results), confirm_table(results)), record.ratios
    tables = dict(zip(TABLES, (averages[0], ratio_table(over), averages[1], confirm_ratio_table(over)), strict=True))
    for title, lines in tables.items():
        print("", f"{title}:", "", *lines, "", sep="\n")
    if (path := document(record.options)) is not None:
        write_tables(path, record.options.name, tables)
    picture = record.options.out.with_suffix(".png")
    drawn = {title: {name: c.average_N for name, c in found.items()} for title, found in panels.items()}
    plot_regret(picture, drawn, average)
    print(f"drawn: {picture}")
    record.close()


def plain(found: Mapping[str, Curves]) -> dict[str, Curves]:
    """The curves of searches that do not confirm."""
    return {name: curves for name, curves in found.items() if not _variant(name)}


def known(regret: float) -> float | None:
    """The regret, or None before the first round has ended."""
    return None if math.isnan(regret) else regret


def _names(results: Results) -> list[str]:
    return list(dict.fromkeys(itertools.chain.from_iterable(results.values())))


def _variant(name: str) -> bool:
    return name.endswith((CONFIRM, FRESH))


def _markdown(results: Results, names: Sequence[str], cell: Callable[[Mapping[str, Curves], str], str]) -> list[str]:
    columns = [column for column, _ in next(iter(results)).cells]
    lines = [_line([*columns, *names]), "|---" * (len(columns) + len(names)) + "|"]
    for case, found in results.items():
        lines.append(_line([*(text for _, text in case.cells), *(cell(found, name) for name in names)]))
    return lines


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(curves: Curves) -> str:
    four = known(curves.four)
    return f"{curves.end:.3f} ({'–' if four is None else f'{four:.3f}'})"


def _both(found: Mapping[str, Curves], name: str) -> str:
    ends = [f"{found[key].end:.3f}" if key in found else "–" for key in (name, name + CONFIRM)]
    return " → ".join(ends)


def _log(regret: float) -> float:
    return math.log(max(regret, LEAST)) if not math.isnan(regret) else math.nan
