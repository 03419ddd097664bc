"""Rows of csv, tsv, json and jsonl files (also .gz), whoever wrote them with whatever program.

Text in any common encoding is read. A cell is only text, whatever it begins with: nothing is evaluated. Whatever cannot
be read is one `UserError` with file and row. Rows are counted from 1, header included.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import logging
import zlib
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from emorl_bench.core.errors import UserError, did_you_mean
from emorl_bench.data.sizes import content

Numbered = Iterator[tuple[int, dict[str, str]]]

FORMATS = ("csv", "tsv", "json", "jsonl")
LONGEST_CELL = 2**31 - 1  # characters; csv's own limit is 131,072
BOMS = (  # utf-32's begins with utf-16's, so it goes first
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
SHOWN, NAMED = 40, 12  # characters of a text, and names of columns, that a message shows
SNIFFED = 4096  # bytes that are looked at for UTF-16 without a mark

log = logging.getLogger(__name__)


@lru_cache(maxsize=10_000)
def warn_once(where: Hashable, text: str) -> None:
    """Log a warning once in a process, because a run reads its corpus more than once.

    ``where`` tells corpora with equal warnings apart.
    """
    log.warning("%s", text)


def rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | list[str]]]:
    """Every row of a file with its number: cells of csv and tsv (a header is a row too), objects of json and jsonl.

    Raises:
        UserError: the file cannot be read, has another format, or a row is broken.
    """
    kind = path.name.removesuffix(".gz").rpartition(".")[2].lower()
    if kind not in FORMATS:
        raise UserError(
            f"{_at(path)}: '.{kind}' files are not read; give {', '.join(FORMATS)}, or one of them with .gz"
        )
    text = _text(path)
    if kind == "json":
        yield from enumerate(_json_list(path, text), start=1)
    elif kind == "jsonl":
        for number, line in enumerate(text.split("\n"), start=1):  # not splitlines: U+2028 may stand inside a text
            if line.strip():
                yield number, _object(_json(line, _at(path, number)), _at(path, number))
    else:
        yield from _cells(path, text, "\t" if kind == "tsv" else ",")


def records(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> Numbered:
    """Numbered rows by column name, with these columns and those of the optional ones that the file has.

    Csv and tsv files need a header.

    Raises:
        UserError: as `rows`; or a column is missing, a row is longer or shorter than the header, or a value is a list.
    """
    header: list[str] = []
    for number, row in rows(path):
        if isinstance(row, dict):
            yield number, plain(row, columns, optional, _at(path, number))
        elif not header:
            header = [cell.strip() for cell in row]
            _check_columns(header, columns, f"{_at(path, number)} (the header)")
        elif len(row) != len(header):
            raise UserError(
                f"{_at(path, number)} has {len(row)} columns where the header has {len(header)}; "
                "quote cells that hold the separator or a quote"
            )
        else:
            yield number, plain(dict(zip(header, row, strict=True)), columns, optional, _at(path, number))


def plain(row: Mapping[str, Any], columns: Sequence[str], optional: Sequence[str], where: str) -> dict[str, str]:
    """The named columns of an object as text. Null becomes empty text.

    Raises:
        UserError: a column is missing, or a value is a list or an object.
    """
    _check_columns(row, columns, where)
    wanted = [*columns, *(column for column in optional if column in row)]
    for column in wanted:
        if isinstance(row[column], list | dict):
            raise UserError(f"{where}: '{column}' is a {type(row[column]).__name__}; give text or a number")
    return {column: "" if row[column] is None else clean(str(row[column])) for column in wanted}


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


def quoted(text: str) -> str:
    """The beginning of a text for a message of one line, without characters that a terminal would act on."""
    return ascii(text.strip()[:SHOWN])


def _check_columns(found: Iterable[str], wanted: Sequence[str], where: str) -> None:
    for column in wanted:
        if column not in found:
            known = [quoted(name)[1:-1] for name in islice(found, NAMED)]
            raise UserError(f"{where} has no column '{column}'{did_you_mean(column, known)}")


class Tabs(csv.excel_tab):
    """Tab-separated text, in which a quotation mark has no special meaning."""

    quoting = csv.QUOTE_NONE


def _cells(path: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(LONGEST_CELL)
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, csv.excel) if separator == "," else csv.reader(lines, Tabs)
    number = 0
    try:
        for number, row in enumerate(reader, start=1):
            if any(cell.strip() for cell in row):
                yield number, row
    except csv.Error as error:
        raise UserError(f"{_at(path, number + 1)} is not {separator!r}-separated text ({error}); mend it") from error


def _json_list(path: Path, text: str) -> Iterator[dict[str, Any]]:
    if not text.strip():
        return
    found = _json(text, _at(path))
    if not isinstance(found, list):
        raise UserError(f"{_at(path)}: holds one {type(found).__name__}; give a json list of objects, or a jsonl file")
    for number, row in enumerate(found, start=1):
        yield _object(row, _at(path, number))


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: bad syntax, or a number of thousands of digits
        raise UserError(f"{where} is not json ({str(error)[:100]}); mend or delete it") from error


def _object(row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise UserError(f"{where} is a {type(row).__name__}; give an object with named columns")
    return row


def _at(path: Path, row: int | None = None) -> str:
    return f"task.data_dir: {path}" if row is None else f"task.data_dir: {path}: row {row}"


def _text(path: Path) -> str:
    """The whole file, decoded."""
    try:
        data = content(path, _at(path))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{_at(path)}: is not a whole gzip file ({error}); fetch it again") from error
    except OSError as error:
        raise UserError(f"{_at(path)}: cannot be read ({error.strerror}); check path and permissions") from error
    text = _decoded(path, data)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UserError(f"{_at(path)}: line {line} holds a NUL character; save the file as UTF-8 text")
    return text


def _decoded(path: Path, data: bytes) -> str:
    encoding = next((name for mark, name in BOMS if data.startswith(mark)), None) or _unmarked(data)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise UserError(f"{_at(path)}: is not {encoding} text ({error.reason}); save it as UTF-8") from error
    for encoding in ("cp1252", "latin-1"):  # latin-1 takes every byte
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        warn_once(path, f"{path}: is not UTF-8; read as {encoding}")
        break
    return text


def _unmarked(data: bytes) -> str:
    """The encoding of text without a byte-order mark. In UTF-16, ASCII letters have a zero in every second byte."""
    even, odd = data[0:SNIFFED:2], data[1:SNIFFED:2]
    zeros = even.count(0), odd.count(0)
    if max(zeros) > len(odd) // 2 and min(zeros) == 0:
        return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
    return "utf-8"
