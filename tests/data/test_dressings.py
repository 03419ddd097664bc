"""One small table in the clothes of many programs: the same rows, or one line; never other rows without a word."""

from __future__ import annotations

import csv
import gzip
import io
import json
import logging
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from emorl_bench.core.errors import UserError
from emorl_bench.data.notices import warn_once
from emorl_bench.data.reading import records

Rows = list[dict[str, str]]
Read = Callable[[str, bytes], tuple[Rows | str, str]]

TEXTS = ("plain words", 'my boss said "late" again, – why?', "two\nlines, “curly”", "a\ttab; 5\" café's", ' "spaced" ')
ONE_LINE = tuple(text.replace("\n", " ").replace("\t", " ") for text in TEXTS)


def table(texts: tuple[str, ...] = TEXTS) -> Rows:
    return [{"text": text, "label": str(i % 2)} for i, text in enumerate(texts)]


@pytest.fixture
def read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Read:
    """Reads bytes under a name: the rows or the refusal, and what the log said."""

    def outcome(name: str, content: bytes) -> tuple[Rows | str, str]:
        warn_once.cache_clear()
        caplog.clear()
        (tmp_path / name).write_bytes(content)
        with caplog.at_level(logging.WARNING):
            try:
                return [row for _, row in records(tmp_path / name, ("text", "label"))], caplog.text
            except UserError as error:
                refusal = str(error)
        assert "\n" not in refusal
        assert refusal.startswith(f"task.data_dir: {tmp_path / name}")
        return refusal, caplog.text

    return outcome


def separated(rows: Rows, rng: random.Random, separator: str, quoting: int, line_end: str = "\n") -> str:
    """Written by the library: columns in any order, with an index, an id and an empty column around them."""
    extra = {"": "0", "id": "a-1", "note": 'n, "1"', "empty": ""}
    columns = [*rng.sample(list(extra), rng.randrange(len(extra) + 1)), "text", "label"]
    rng.shuffle(columns)
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=separator, quoting=quoting, lineterminator=line_end)  # type: ignore[arg-type]
    writer.writerow(columns)
    writer.writerows([(extra | row)[name] for name in columns] for row in rows)
    return file.getvalue()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_whatever_a_library_writes_is_the_same_table(read: Read, kind: str, quoting: int, encoding: str) -> None:
    rng = random.Random(f"{kind}{quoting}{encoding}")
    for line_end in ("\n", "\r\n", "\r"):
        for texts in (TEXTS, ONE_LINE, TEXTS[:1], TEXTS[1:2], TEXTS[2:3]):
            if line_end == "\r" and texts not in (ONE_LINE, TEXTS[:1]):
                continue  # before Python 3.13 the library does not quote "\n" then, so that no reader could know
            content = separated(table(texts), rng, "," if kind == "csv" else "\t", quoting, line_end).encode(encoding)
            assert read(f"a.{kind}", content)[0] == table(texts)
            assert read(f"a.{kind}.gz", gzip.compress(content))[0] == table(texts)


def test_json_under_any_of_its_names_is_the_same_table(read: Read) -> None:
    lines = "\n".join(json.dumps({"id": 1, **row}, ensure_ascii=False) for row in table())
    for name in ("a.jsonl", "a.ndjson", "a.json"):
        assert read(name, lines.encode())[0] == table()
        assert read(name, f"{lines}\n\n".encode())[0] == table()
    assert read("a.json", json.dumps(table(), indent=1).encode())[0] == table()
    assert "give an object with named columns" in read("a.jsonl", json.dumps(table()).encode())[0]


def test_tabs_without_quoting_are_the_same_table_or_one_line(read: Read) -> None:
    """What SST-2 looks like: a mark is a mark."""
    for texts in (("good film", '"unclosed'), ('"good" film', "b"), ('"good film"', "so , so"), ('a "b"', 'c"')):
        content = "text\tlabel\n" + "".join(f"{row['text']}\t{row['label']}\n" for row in table(texts))
        assert read("a.tsv", content.encode())[0] == table(texts)
    unclear = 'text\tlabel\n"a ""b"""\t0\n"c" d\t1\n'
    assert "row 3 (line 3): the quotation marks" in read("a.tsv", unclear.encode())[0]


def test_spaces_around_quotation_marks_do_not_count(read: Read) -> None:
    assert read("a.csv", b'text, label\n "a, ""b""" ,0\nc, "1"\n')[0] == [
        {"text": 'a, "b"', "label": "0"},
        {"text": "c", "label": "1"},
    ]


@pytest.mark.parametrize(
    "content", ["text;label\na;1\n", "a,1\nb,0\n", "sep=,\ntext,label\na,1\n", "text,label\na,1,\n"]
)
def test_what_is_no_such_table_is_one_line(read: Read, content: str) -> None:
    assert isinstance(read("a.csv", content.encode())[0], str)


CUT: list[tuple[str, bytes]] = [
    ("a.csv", separated(table(), random.Random(3), ",", csv.QUOTE_MINIMAL).encode()),
    ("b.csv", b'label,text\n0,"my boss said ""late"", why?"\n1,"two\nlines"\n0,"so, so"\n'),
    ("c.csv", separated(table(ONE_LINE), random.Random(4), ",", csv.QUOTE_ALL, "\r\n").encode("utf-16")),
    ("a.tsv", separated(table(), random.Random(5), "\t", csv.QUOTE_MINIMAL).encode()),
    ("b.tsv", b'text\tlabel\ngood , "film"\t1\n"so bad\t0\n'),
    ("a.jsonl", "\n".join(json.dumps(row, ensure_ascii=False) for row in table()).encode()),
    ("b.json", "\n".join(json.dumps(row, ensure_ascii=False) for row in table()).encode()),
    ("a.json", json.dumps(table(), ensure_ascii=False).encode()),
    ("a.csv.gz", gzip.compress(separated(table(), random.Random(6), ",", csv.QUOTE_MINIMAL).encode(), mtime=0)),
]


@pytest.mark.parametrize(("name", "content"), CUT, ids=[name for name, _ in CUT])
def test_cut_at_any_byte_it_is_the_first_rows_or_one_line_or_a_warning(read: Read, name: str, content: bytes) -> None:
    """An empty last cell is what remains of a text that was cut off at its beginning; loaders leave such rows out."""
    whole = read(name, content)[0]
    assert isinstance(whole, list)
    refused = 0
    for end in range(len(content)):
        rows, said = read(name, content[:end])
        if isinstance(rows, str):
            refused += 1
            continue
        sure = rows[:-1] if rows and (said or "" in rows[-1].values()) else rows
        assert sure == whole[: len(sure)], content[:end]
        assert len(rows) <= len(whole)
    assert refused > len(content) // 4


def test_a_stray_byte_changes_no_other_character(read: Read) -> None:
    rng, sound = random.Random(0), separated(table(), random.Random(3), ",", csv.QUOTE_ALL)
    places = [i for i in range(sound.index("boss"), len(sound)) if sound[i - 1 : i + 1].isalpha()]
    for place in rng.sample(places, 20):
        content = sound[:place].encode() + b"\x92" + sound[place:].encode()
        expected = read("b.csv", (sound[:place] + "’" + sound[place:]).encode())[0]
        rows, said = read("a.csv", content)
        assert rows == expected
        assert f"1 bytes are not UTF-8, the first of them in line {sound.count(chr(10), 0, place) + 1}" in said
    assert "ends in the middle of a character" in read("a.csv", "text,label\n“a”,1\nb,é".encode()[:-1])[0]
