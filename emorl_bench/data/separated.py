"""Cells of csv and tsv files.

A cell in quotation marks may hold the separator, line ends, and quotation marks, each of them doubled (RFC 4180).
Spaces around the marks do not count. Other cells are taken as they are. In tsv files a quotation mark often has no
special meaning (SST-2), and often it has (whatever a csv library writes with tabs). So a tsv file is read with quoting
only if it shows that it was written so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from emorl_bench.core.errors import UserError
from emorl_bench.data.notices import at, warn_once

Cells = list[str]
MARKED = r' *"([^"]*+(?:""[^"]*+)*+)" *(?=%s|[\r\n]|\Z)'  # a cell in quotation marks, up to the separator
PLAIN = r"[^%s\r\n]*"  # any other cell
ROW_END = re.compile(r"\r\n|\r|\n")


def cells(path: Path, text: str, separator: str) -> Iterator[tuple[int, Cells]]:
    """Every row with a text in it, with its number.

    The last line has a line end in whatever a program has written. Where it has none and ends with a text, the log says
    so: the file may have been cut short, and then that text was too.

    Raises:
        UserError: quotation marks do not close, or text follows them.
    """
    if text.strip() and not text.endswith(("\n", "\r", separator)):
        warn_once(path, f"{path}: the last line has no line end; if the file was cut short, so was its last cell")
    quoting = separator == "," or _shows_quoting(list(_rows(path, text, separator, quoting=False)))
    for number, row in enumerate(_rows(path, text, separator, quoting=quoting), start=1):
        if any(cell.strip() for cell in row):
            yield number, row


def _rows(path: Path, text: str, separator: str, *, quoting: bool) -> Iterator[Cells]:
    marked, plain = re.compile(MARKED % separator), re.compile(PLAIN % separator)
    place, row, number = 0, Cells(), 1
    while place < len(text):
        found = marked.match(text, place) if quoting else None
        if found is not None:
            row.append(found[1].replace('""', '"'))
        else:
            found = plain.match(text, place)
            assert found is not None
            if quoting and found[0].startswith('"'):
                line = len(ROW_END.findall(text, 0, place)) + 1
                raise UserError(
                    f"{at(path, number)} (line {line}): the quotation marks of a cell do not close, or text follows "
                    "them; double the marks that stand inside a cell"
                )
            row.append(found[0])
        place = found.end()
        if text.startswith(separator, place):
            place += 1
            if place < len(text):
                continue
            row.append("")  # the file ends with a separator: an empty cell follows it
        yield row
        row, number = Cells(), number + 1
        end = ROW_END.match(text, place)
        place = end.end() if end is not None else place


def _shows_quoting(rows: list[Cells]) -> bool:
    """Whether a tab-separated file, read without quoting, turns out to have been written with quoting.

    These are signs of it: a name in the header is quoted; a quoted cell has doubled marks; rows are of unequal length,
    because a quoted cell holds a tab or a line end; exactly those cells are quoted that hold a comma (spreadsheets).
    """
    full = [row for row in rows if any(cell.strip() for cell in row)]
    opened = [cell for row in full for cell in row if cell.startswith('"')]
    if not opened:
        return False
    if any(cell.startswith('"') for cell in full[0]) or any('""' in cell[1:] for cell in opened):
        return True
    if len({len(row) for row in full}) > 1:
        return True
    commas = [cell for cell in chain.from_iterable(full) if "," in cell]
    return commas == [cell for cell in opened if len(cell) > 1 and cell.endswith('"')] == opened
