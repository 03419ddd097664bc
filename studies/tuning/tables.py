"""The tables of a tuning: every trial, the best trial of each method, and the settings that it changes."""

from __future__ import annotations

import csv
import io
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emorl_bench.core.atomic import write_text


@dataclass(frozen=True)
class Trial:
    """One configuration of one method on one task and model.

    Attributes:
        cell: task/model.
        method: the name of the method.
        number: the number of the trial; 0 is the method as its YAML has it.
        settings: what is changed, by key.
        utility: by seed, on the select split.
    """

    cell: str
    method: str
    number: int
    settings: Mapping[str, Any]
    utility: Mapping[int, float]

    @property
    def mean(self) -> float | None:
        """The mean over seeds; None if no seed has ended."""
        return sum(self.utility.values()) / len(self.utility) if self.utility else None


def write_tables(trials: Sequence[Trial], out: Path, seeds: Sequence[int], cells: Sequence[str]) -> None:
    """Write ``trials.csv`` and ``trials.md``."""
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "trials.csv", as_csv(trials, seeds))
    write_text(out / "trials.md", as_markdown(trials, seeds, cells))


def as_csv(trials: Sequence[Trial], seeds: Sequence[int]) -> str:
    """One line for each trial."""
    keys = list(dict.fromkeys(key for trial in trials for key in trial.settings))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["cell", "method", "trial", *keys, *(f"utility_{seed}" for seed in seeds), "mean"])
    for trial in trials:
        values = [_number(trial.utility.get(seed)) for seed in seeds]
        settings = [trial.settings.get(key, "") for key in keys]
        writer.writerow([trial.cell, trial.method, trial.number, *settings, *values, _number(trial.mean)])
    return text.getvalue()


def best(trials: Sequence[Trial], cells: Sequence[str]) -> dict[str, int]:
    """The best trial of each method.

    It has the highest mean among the trials that are better than trial 0 in every cell; without such a trial it is
    trial 0. Two seeds prove little, so a trial that is better in one cell only is not taken. A trial that has not run
    in all cells is no candidate. If trial 0 has not run in all cells, its method is left out.
    """
    found = {}
    for method in dict.fromkeys(trial.method for trial in trials):
        means: dict[int, dict[str, float]] = {}
        for trial in trials:
            if trial.method == method and trial.mean is not None:
                means.setdefault(trial.number, {})[trial.cell] = trial.mean
        whole = {number: by_cell for number, by_cell in means.items() if len(by_cell) == len(cells)}
        if own := whole.get(0):
            better = [n for n, by_cell in whole.items() if all(by_cell[cell] > own[cell] for cell in cells)]
            found[method] = max(better, key=lambda n: sum(whole[n].values()), default=0)
    return found


def as_markdown(trials: Sequence[Trial], seeds: Sequence[int], cells: Sequence[str]) -> str:
    """The page with the settings that changed and all trials."""
    chosen = best(trials, cells)
    counts = {trial.method: 1 + max(t.number for t in trials if t.method == trial.method) for trial in trials}
    lines = [
        "# Trials of tuning",
        "",
        f"Written by `python -m studies.tuning {shlex.join(sys.argv[1:])}`. {max(counts.values(), default=0)} "
        f"configurations of every method, seeds {', '.join(map(str, seeds))}, which no report uses. Numbers are "
        "utilities on the select split, mean over the graded preferences and over seeds. Trial 0 is the method as its "
        "YAML had it; in bold the trial whose settings are taken: of those that are better than trial 0 in every "
        "column, the one with the highest mean. The KL coefficient was the common one.",
        "",
        "## What moved",
        "",
        *_table(["method", "trial", "settings", *cells, "of trial 0"], _moved(trials, chosen, cells)),
        "",
        "## All trials",
        "",
        *_table(["method", "trial", "settings", *cells], _all(trials, chosen, cells)),
    ]
    return "\n".join(lines) + "\n"


def _moved(trials: Sequence[Trial], chosen: Mapping[str, int], cells: Sequence[str]) -> list[list[str]]:
    rows = []
    for method, number in chosen.items():
        first, own = (_by_cell(trials, method, trial) for trial in (0, number))
        settings = next(trial.settings for trial in trials if (trial.method, trial.number) == (method, number))
        before = " ".join(_number(first[cell]) for cell in cells if cell in first)
        rows.append([method, str(number), _said(settings), *(_number(own.get(cell)) for cell in cells), before])
    return rows


def _all(trials: Sequence[Trial], chosen: Mapping[str, int], cells: Sequence[str]) -> list[list[str]]:
    rows = []
    for method, number in dict.fromkeys((trial.method, trial.number) for trial in trials):
        own = _by_cell(trials, method, number)
        settings = next(trial.settings for trial in trials if (trial.method, trial.number) == (method, number))
        shown = f"**{number}**" if chosen.get(method) == number else str(number)
        rows.append([method, shown, _said(settings), *(_number(own.get(cell)) for cell in cells)])
    return rows


def _by_cell(trials: Sequence[Trial], method: str, number: int) -> dict[str, float | None]:
    return {trial.cell: trial.mean for trial in trials if (trial.method, trial.number) == (method, number)}


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]


def _said(settings: Mapping[str, Any]) -> str:
    return " ".join(
        f"`{key}={value:g}`" if isinstance(value, float) else f"`{key}={value}`" for key, value in settings.items()
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
