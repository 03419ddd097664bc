"""The names of rows: a method, and in brackets the keys in which its runs differ.

``weighted_scst [update=grpo, lr=1e-3]``. Runs that differ only in their seed are one row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from os.path import commonpath
from pathlib import Path

from emorl_bench.core.errors import UserError
from emorl_bench.report.keys import CHOICES, SETTINGS, UNSET, belongs, find, grades, short_names, value_text
from emorl_bench.report.read import Labels, Run

NEVER = ("method", "task", "model", "seed")  # a row's own name, its section, and what it averages over
SOURCE = "from"  # the name in a label of the directory that a repeated run is from
DEPTH = 4  # task/model/method/seed: the parts of a run's path below its runs_dir


def name_rows(runs: Sequence[Run]) -> list[Run]:
    """The runs of one section with the names of their rows. A method whose runs are seeds of one another keeps its own.

    Raises:
        UserError: two runs are the same, and one of them would be counted twice.
    """
    named: list[Run] = []
    shared = differing(runs, of_method=False)
    for family in _by(runs, lambda run: run.family).values():
        keys = {dir: found + shared[dir] for dir, found in differing(family, of_method=True).items()}
        names = short_names(key for found in keys.values() for key in found)
        named += [_labelled(run, run.family, {names[key]: key for key in keys[run.dir]}) for run in family]
    return _apart(named)


def group_rows(runs: Sequence[Run], by: Sequence[str]) -> list[Run]:
    """One row for each value of the given keys, over all runs that have it.

    Runs of two rows are pairs where they have the same seed and agree in all keys that vary within a row.

    Raises:
        UserError: a name is no key, or two runs of a row are the same.
    """
    known = {key for run in runs for key in run.keys}
    wanted = list(dict.fromkeys(find(name, known, "--group-by") for name in by))
    shown = {name: key for key, name in short_names(key for key in wanted if key != "method").items()}
    grouped = [_labelled(run, run.family if "method" in wanted else "", shown) for run in runs]
    inside = [
        key
        for key in sorted(known - {"task", "model", "seed", *wanted})
        if any(_vary(row, key) for row in _by(grouped, lambda run: run.method).values())
    ]
    return _apart([replace(run, pair_key=tuple(_texts(run, inside))) for run in grouped])


def differing(runs: Sequence[Run], *, of_method: bool) -> dict[Path, list[str]]:
    """Directory of a run -> the keys in which it differs from others of the given runs.

    Where two update rules were run, the settings of a rule count only between the runs of that rule: the name of the
    rule says the others. The same holds for budgets.

    Args:
        runs: of one method, or of a whole section.
        of_method: only the settings of a method and its update rule; else only the others. Methods always differ in
            the former. Where they differ in the latter, such as their budget, every row says so.
    """
    chosen = [key for key in CHOICES if belongs(key) == of_method and _vary(runs, key)]
    found = {run.dir: list(chosen) for run in runs}
    for key in (key for key in _candidates(runs) if belongs(key) == of_method):
        choice = next((choice for choice in CHOICES if key.startswith(f"{choice}.")), "")
        for alike in _by(runs, partial(_value, key=choice)).values():
            if _vary(alike, key):
                for run in alike:
                    found[run.dir].append(key)
    return found


def row_name(family: str, labels: Labels) -> str:
    """``family [key=value, …]``; without a family, the labels alone."""
    listed = ", ".join(f"{name}={value}" for name, value in labels)
    return " ".join(part for part in (family, f"[{listed}]" if family and listed else listed) if part)


def _candidates(runs: Sequence[Run]) -> list[str]:
    """The keys that all runs show, and the hash of the others where a record has no configuration."""
    every = dict.fromkeys(key for run in runs for key in run.keys)
    if not all(any(key.startswith("method.") for key in run.keys) for run in runs):
        every = dict.fromkeys(key for key in every if key == SETTINGS or all(key in run.keys for run in runs))
    else:
        every.pop(SETTINGS, None)
    return [key for key in every if key not in (*NEVER, *CHOICES) and not grades(key)]


def _vary(runs: Sequence[Run], key: str) -> bool:
    values = {run.keys.get(key, UNSET) for run in runs}
    return len(values - {UNSET} if key == SETTINGS else values) > 1  # the oldest records have no hash


def _value(run: Run, key: str) -> Hashable:
    return run.keys.get(key)


def _labelled(run: Run, family: str, shown: dict[str, str]) -> Run:
    labels = tuple((name, value_text(run.keys.get(key, UNSET))) for name, key in shown.items())
    return replace(run, labels=labels, method=row_name(family, labels))


def _texts(run: Run, keys: Iterable[str]) -> Iterator[tuple[str, str]]:
    for key in keys:
        yield key, value_text(run.keys.get(key, UNSET))


def _apart(runs: Sequence[Run]) -> list[Run]:
    """The runs; rows in which a seed is there twice are split by the directories that the runs are from."""
    twice = {run.method for same in _by(runs, _replicate).values() if len(same) > 1 for run in same}
    if not twice:
        return list(runs)
    tops = {run.dir: (run.dir.resolve().parents[DEPTH - 1] if len(run.dir.parts) > DEPTH else run.dir) for run in runs}
    common = commonpath(tops[run.dir] for run in runs if run.method in twice)
    apart = []
    for run in runs:
        if run.method in twice:
            source = tops[run.dir].relative_to(common).as_posix()
            labels = (*run.labels, (SOURCE, Path(common).name if source == "." else source))
            own = run.method == row_name(run.family, run.labels)  # else the row was made by --group-by
            name = row_name(run.family if own else "", labels)
            run = replace(run, labels=labels, method=name)
        apart.append(run)
    for same in _by(apart, _replicate).values():
        if len(same) > 1:
            raise UserError(
                f"RUNS has two runs of method={same[0].method} seed={same[0].seed}: {same[0].dir} and {same[1].dir}, "
                "with the same settings; remove one of them or choose with --where"
            )
    return apart


def _replicate(run: Run) -> Hashable:
    return run.method, run.seed, run.pair_key


def _by(runs: Sequence[Run], key: Callable[[Run], Hashable]) -> dict[Hashable, list[Run]]:
    found: dict[Hashable, list[Run]] = defaultdict(list)
    for run in runs:
        found[key(run)].append(run)
    return dict(found)
