"""Rows of csv, tsv, json and jsonl files (also .gz), whoever wrote them with whatever program.

Text in any common encoding is read. A cell is only text, whatever it begins with: nothing is evaluated. Whatever cannot
be read is one `UserError` with file and row. Rows are counted from 1, header included.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from emorl_bench.core.errors import UserError, did_you_mean
from emorl_bench.data.encoding import text_of
from emorl_bench.data.notices import at, quoted
from emorl_bench.data.separated import cells

Numbered = Iterator[tuple[int, dict[str, str]]]

FORMATS = ("csv", "tsv", "json", "jsonl", "ndjson")
NAMED = 12  # names of columns that a message shows


def rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | list[str]]]:
    """Every row of a file with its number: cells of csv and tsv (a header is a row too), objects of json and jsonl.

    Raises:
        UserError: the file cannot be read, has another format, or a row is broken.
    """
    kind = path.name.removesuffix(".gz").rpartition(".")[2].lower()
    if kind not in FORMATS:
        raise UserError(f"{at(path)}: '.{kind}' files are not read; give {', '.join(FORMATS)}, or one of them with .gz")
    text = text_of(path)
    if kind == "json":
        yield from _json_lines(path, text) if _has_json_lines(text) else enumerate(_json_list(path, text), start=1)
    elif kind in ("jsonl", "ndjson"):
        yield from _json_lines(path, text)
    else:
        yield from cells(path, text, "\t" if kind == "tsv" else ",")


def records(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> Numbered:
    """Numbered rows by column name, with these columns and those of the optional ones that the file has.

    Csv and tsv files need a header.

    Raises:
        UserError: as `rows`; or a column is missing, a row is longer or shorter than the header, or a value is a list.
    """
    header: list[str] = []
    for number, row in rows(path):
        if isinstance(row, dict):
            yield number, plain(row, columns, optional, at(path, number))
        elif not header:
            header = [cell.strip() for cell in row]
            check_columns(header, columns, f"{at(path, number)} (the header)")
            check_named_once(header, [*columns, *optional], at(path, number))
        elif len(row) != len(header):
            raise UserError(
                f"{at(path, number)} has {len(row)} columns where the header has {len(header)}; "
                "quote cells that hold the separator or a quote"
            )
        else:
            yield number, plain(dict(zip(header, row, strict=True)), columns, optional, at(path, number))


def plain(row: Mapping[str, Any], columns: Sequence[str], optional: Sequence[str], where: str) -> dict[str, str]:
    """The named columns of an object as text. Null becomes empty text.

    Raises:
        UserError: a column is missing, or a value is a list or an object.
    """
    check_columns(row, columns, where)
    wanted = [*columns, *(column for column in optional if column in row)]
    for column in wanted:
        if isinstance(row[column], list | dict):
            raise UserError(f"{where}: '{column}' is a {type(row[column]).__name__}; give text or a number")
    return {column: "" if row[column] is None else clean(str(row[column])) for column in wanted}


def check_columns(found: Iterable[str], wanted: Sequence[str], where: str) -> None:
    """Check that all columns that are wanted are there.

    Raises:
        UserError: one of them is not; the message names the most similar column, or all.
    """
    for column in wanted:
        if column not in found:
            known = [quoted(name)[1:-1] for name in islice(found, NAMED)]
            raise UserError(f"{where} has no column '{column}'{did_you_mean(column, known)}")


def check_named_once(header: Sequence[str], wanted: Sequence[str], where: str) -> None:
    """Check that no column that is read is in the header twice.

    Raises:
        UserError: it is.
    """
    for column in wanted:
        if header.count(column) > 1:
            raise UserError(f"{where} (the header) has {header.count(column)} columns '{column}'; rename or delete one")


def clean(text: str) -> str:
    """Text that a tokenizer and a file can hold: no NUL, no half of a surrogate pair."""
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def whole(text: str, known: Sequence[int], where: str) -> int:
    """The number that the text is.

    Raises:
        UserError: it is none of the ``known`` ones.
    """
    if text.strip() not in map(str, known):
        raise UserError(f"{where} is {quoted(text)}; give one of {', '.join(map(str, known))}")
    return int(text)


def _json_lines(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):  # not splitlines: U+2028 may stand inside a text
        if line.strip():
            yield number, _object(_json(line, at(path, number)), at(path, number))


def _has_json_lines(text: str) -> bool:
    """Whether a json file has an object in each line, as some libraries write it under this name."""
    first, *rest = (line.strip() for line in text.strip().split("\n"))
    return bool(rest) and first.startswith("{") and first.endswith("}")


def _json_list(path: Path, text: str) -> Iterator[dict[str, Any]]:
    if not text.strip():
        return
    found = _json(text, at(path))
    if not isinstance(found, list):
        raise UserError(f"{at(path)}: holds one {type(found).__name__}; give a json list of objects, or a jsonl file")
    for number, row in enumerate(found, start=1):
        yield _object(row, at(path, number))


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_named_once)
    except (ValueError, RecursionError) as error:  # ValueError: bad syntax, or a number of thousands of digits
        raise UserError(f"{where} is not json ({str(error)[:100]}); mend or delete it") from error


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        name = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the name {quoted(name)} stands twice in one object")
    return found


def _object(row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise UserError(f"{where} is a {type(row).__name__}; give an object with named columns")
    return row
