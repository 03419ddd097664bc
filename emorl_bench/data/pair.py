"""PAIR: client statements in motivational interviewing, each with reflections written at three levels of quality.

Source: github.com/MichiganNLP/dynaopt, ``topic_clean_umich.csv`` (Apache-2.0); Min et al., "PAIR: Prompt-Aware margIn
Ranking for Counselor Reflection Scoring in Motivational Interviewing" (EMNLP 2022).
Layout: comma-separated, 10 columns: prompt, hq1, hq2 (complex reflections), mq1 (a simple one),
lq1 .. lq5 (no reflections), topic; the topic may be left out. With a header, columns may have any order, and there may
be others; json with these names is read too.
Size: 318 prompts in the file, 2 x 318 high, 318 middle and up to 5 x 318 low responses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from emorl_bench.core.errors import UserError
from emorl_bench.data.notices import at, quoted, warn_once
from emorl_bench.data.reading import check_columns, check_named_once, clean, plain, rows
from emorl_bench.data.sources import Source, find, read
from emorl_bench.data.splitting import Division, divide, normal

FILE = "pair/topic_clean_umich.csv"
ABOUT = "PAIR (Apache-2.0) is topic_clean_umich.csv of github.com/MichiganNLP/dynaopt"
COLUMNS = ("prompt", "hq1", "hq2", "mq1", "lq1", "lq2", "lq3", "lq4", "lq5", "topic")
LAYOUTS = (9, 10)  # columns without and with the topic
SHARES = {"scorer": 0.35, "held_out": 0.35, "select": 0.1, "report": 0.2}
LEVELS = ("hq", "mq", "lq")
LEAST_PROMPTS = 10


@dataclass(frozen=True)
class Row:
    """A prompt and its written responses; an empty cell is left out."""

    prompt: str
    hq: tuple[str, ...]
    mq: tuple[str, ...]
    lq: tuple[str, ...]
    topic: str


def load(source: Source) -> list[Row]:
    """The distinct prompts in file order, white space normalised. Of a repeated prompt, the first row counts.

    Raises:
        UserError: the file is missing or broken, a prompt is empty or only a number, or there are fewer than 10.
    """
    found: dict[str, Row] = {}
    repeated: list[int] = []
    for number, cells in _cells(source):
        cells = [" ".join(cell.split()) for cell in cells]
        if not cells[0]:
            raise UserError(f"task.data_dir: {source.file}: row {number} has an empty prompt; fill or delete it")
        if not any(character.isalpha() for character in cells[0]):
            raise UserError(
                f"task.data_dir: {source.file}: row {number}: the prompt {quoted(cells[0])} has no word in it; "
                "name the columns in a header if the first one is an index"
            )
        for column in (COLUMNS[i] for i, cell in enumerate(cells) if not cell):
            warn_once(source, f"{source.file}: row {number} has an empty {column} cell; its prompt is kept")
        if normal(cells[0]) in found:
            repeated.append(number)
        else:
            found[normal(cells[0])] = _row(cells)
    if repeated:
        places = ", ".join(map(str, repeated))
        warn_once(source, f"{source.file}: {len(repeated)} duplicate prompts removed (rows {places})")
    if len(found) < LEAST_PROMPTS:
        raise UserError(
            f"task.data_dir: {source.file} has {len(found)} distinct prompts; at least {LEAST_PROMPTS} are needed"
        )
    return list(found.values())


def parts(rows: Sequence[Row], seed: int = 0) -> Division[Row]:
    """The parts of the corpus, divided by prompt.

    ``scorer`` and ``held_out`` train the two sets of scorers; ``select`` and ``report`` train neither.
    """
    return divide(rows, lambda row: row.prompt, SHARES, seed)


def _row(cells: list[str]) -> Row:
    by_level = {level: tuple(c for i, c in enumerate(cells) if c and COLUMNS[i][:2] == level) for level in LEVELS}
    return Row(cells[0], by_level["hq"], by_level["mq"], by_level["lq"], cells[9] if len(cells) > 9 else "")


def _cells(source: Source) -> Iterator[tuple[int, list[str]]]:
    """Numbered rows in the order of `COLUMNS`, without the header; with the topic only where the file has it."""
    if source.hub is not None:
        yield from _by_name(read(source, COLUMNS[:9], ABOUT, optional=COLUMNS[9:]))
        return
    path = find(source, ABOUT)
    first: list[str] = []
    for number, row in rows(path):
        if isinstance(row, dict):
            yield from _by_name([(number, plain(row, COLUMNS[:9], COLUMNS[9:], at(path, number)))])
            continue
        if not first:
            first, places = row, _places(row, at(path, number))
        if len(row) != len(first):
            raise UserError(
                f"{at(path, number)} has {len(row)} columns where the first row has {len(first)}; "
                "quote cells that contain a comma"
            )
        if not (_has_names(first) and row == first):
            yield number, [clean(row[place]) for place in places]


def _by_name(found: Iterable[tuple[int, dict[str, str]]]) -> Iterator[tuple[int, list[str]]]:
    for number, row in found:
        yield number, [row[name] for name in COLUMNS if name in row]


def _names(row: Sequence[str]) -> list[str]:
    return [cell.strip().casefold() for cell in row]


def _has_names(row: Sequence[str]) -> bool:
    """Whether a row is a header: one of its cells is the name of a column."""
    return not set(_names(row)).isdisjoint(COLUMNS)


def _places(row: Sequence[str], where: str) -> list[int]:
    """Where the columns are, by the names in a header; in a file without a header, they are in their own order.

    Raises:
        UserError: the header lacks a name, or has it twice, or its names are unknown; or there is no header, and the
            row has not 9 or 10 columns.
    """
    names = _names(row)
    if _has_names(row):
        check_columns(names, COLUMNS[:9], f"{where} (the header)")
        check_named_once(names, COLUMNS, where)
        return [names.index(name) for name in COLUMNS if name in names]
    if len(row) not in LAYOUTS:
        raise UserError(
            f"{where} has {len(row)} columns, not 9 or 10; "
            f"expected comma-separated {', '.join(COLUMNS)} (topic may be left out)"
        )
    if all(len(cell.split()) == 1 for cell in row):
        raise UserError(
            f"{where} looks like a header with other names ({quoted(', '.join(row))}); "
            f"name the columns {', '.join(COLUMNS)}"
        )
    return list(range(len(row)))
