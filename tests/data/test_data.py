"""Reading files that anyone may have made: any encoding, very long lines, formulas, broken rows; nothing crashes."""

from __future__ import annotations

import csv
import gzip
import json
import logging
import random
from pathlib import Path

import pytest

from emorl_bench.core.errors import UserError
from emorl_bench.data import gsm8k, imdb
from emorl_bench.data.reading import records, rows
from emorl_bench.data.sources import Source, find

TEXT = "it’s naïve – “yes”, café £5"  # in cp1252 as well
LONG = 20_000_000  # characters in one line; 100 MB are read the same way, this keeps the test short


def write(directory: Path, name: str, content: bytes | str) -> Path:
    path = directory / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(path: Path) -> list[dict[str, str]]:
    return [row for _, row in records(path, ("text", "label"))]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
@pytest.mark.parametrize("kind", ["csv", "tsv", "json", "jsonl", "csv.gz"])
def test_every_encoding_and_format_gives_the_same_text(tmp_path: Path, kind: str, encoding: str) -> None:
    row = json.dumps({"text": TEXT, "label": 1}, ensure_ascii=False)
    content = {
        "csv": f'text,label\r\n"{TEXT}",1\r\n',
        "tsv": f"text\tlabel\n{TEXT}\t1\n",
        "json": f"[{row}]",
        "jsonl": f"{row}\n\n",
    }[kind.removesuffix(".gz")].encode(encoding)
    path = write(tmp_path, f"file.{kind}", gzip.compress(content) if kind.endswith(".gz") else content)
    assert read(path) == [{"text": TEXT, "label": "1"}]


def test_what_is_not_utf8_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert read(write(tmp_path, "a.csv", "text,label\ncafé,1\n".encode("cp1252")))[0]["text"] == "café"
        assert read(write(tmp_path, "b.csv", b"text,label\n\x81\xe9,1\n"))[0]["text"] == "\x81é"
    assert "not UTF-8; read as cp1252" in caplog.text
    assert "not UTF-8; read as latin-1" in caplog.text


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json"])
def test_a_very_long_line_is_read(tmp_path: Path, kind: str) -> None:
    long = "a b " * (LONG // 4)
    line = json.dumps({"text": long, "label": "1"})
    separator = "\t" if kind == "tsv" else ","
    content = {"jsonl": line, "json": f"[{line}]"}.get(kind, f"text{separator}label\n{long}{separator}1\n")
    assert [len(row["text"]) for row in read(write(tmp_path, f"file.{kind}", content))] == [LONG]


@pytest.mark.parametrize(
    "cell", ["=1+1", "+1", "-1", "@SUM(A1)", "=cmd|'/c calc'!A0", "__import__('os').abort()", "${oc.env:HOME}", "{0}%s"]
)
@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_formula_is_text(tmp_path: Path, kind: str, cell: str) -> None:
    path = tmp_path / f"file.{kind}"
    if kind == "csv":
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([["text", "label"], [cell, "1"]])
    else:
        path.write_text(json.dumps([{"text": cell, "label": 1}]))
    assert read(path) == [{"text": cell, "label": "1"}]


def test_line_ends_inside_cells_and_json_stay(tmp_path: Path) -> None:
    assert read(write(tmp_path, "a.csv", 'text,label\r"one\ntwo",1\r'))[0]["text"] == "one\ntwo"
    content = json.dumps({"text": "one\u2028two\x85three", "label": None}, ensure_ascii=False)
    assert read(write(tmp_path, "a.jsonl", content)) == [{"text": "one\u2028two\x85three", "label": ""}]
    assert read(write(tmp_path, "a.tsv", 'text\tlabel\n"unclosed\t1\nnext\t0\n'))[0]["text"] == '"unclosed'


def test_text_that_no_file_could_hold_is_mended(tmp_path: Path) -> None:
    (row,) = read(write(tmp_path, "a.jsonl", '{"text": "a\\u0000b\\ud800c", "label": 1}'))
    assert row["text"] == "ab?c"


BROKEN: list[tuple[str, bytes, str]] = [
    ("a.csv", b"text,label\na,1\nb,1,c\n", "row 3 has 3 columns where the header has 2"),
    ("a.csv", b"text,label\na,1\nb\n", "row 3 has 1 columns"),
    ("a.csv", b'text,label\n"a,1\nb,1\n', "row 2 (line 2): the quotation marks of a cell do not close"),
    ("a.csv", b'text,label\na,1\n"b" c,1\n', "row 3 (line 3): the quotation marks of a cell do not close, or text"),
    ("a.csv", b"text,label,text\na,1,b\n", "row 1 (the header) has 2 columns 'text'"),
    ("a.tsv", b'"text"\t"label"\n"a\t"1"\n', "row 2 (line 2): the quotation marks of a cell do not close"),
    ("a.jsonl", b'{"text": "a", "label": 1, "text": "b"}', "the name 'text' stands twice"),
    ("a.csv", b"txt,label\na,1\n", "no column 'text'; did you mean 'txt'"),
    ("a.csv", b"text;label\na;1\n", "no column 'text'"),
    ("a.csv", b"text,label\na\0b,1\n", "line 2 holds a NUL"),
    ("a.csv", b"\0", "is not utf-16-be text"),
    ("a.csv", b"\xff\xfea", "is not utf-16 text"),
    ("a.tsv", b"text\tlabel\na\n", "row 2 has 1 columns"),
    ("a.jsonl", b'{"text": "a", "label": 1}\n{"text": "a"\n', "row 2 is not json"),
    ("a.jsonl", b'{"text": "a", "label": 1}\n{"text": "a"}\n', "row 2 has no column 'label'"),
    ("a.jsonl", b'{"text": ["a"], "label": 1}', "row 1: 'text' is a list"),
    ("a.jsonl", b"[1, 2]", "row 1 is a list; give an object"),
    ("a.jsonl", b'{"text": "a", "label": ' + b"9" * 5000 + b"}", "row 1 is not json"),
    ("a.json", b"[" * 100_000, "is not json"),
    ("a.json", b'{"data": []}', "holds one dict"),
    ("a.json", b'[{"text": "a", "label": 1}, 3]', "row 2 is a int"),
    ("a.csv.gz", b"text,label\n", "is not a whole gzip file"),
    ("a.csv.gz", gzip.compress(b"text,label\na,1\n" * 99)[:-12], "is not a whole gzip file"),
    ("a.parquet", b"PAR1", "'.parquet' files are not read"),
]


@pytest.mark.parametrize(("name", "content", "says"), BROKEN, ids=[f"{n}-{s[:30]}" for n, _, s in BROKEN])
def test_what_is_broken_is_one_line_with_file_and_row(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    with pytest.raises(UserError) as caught:
        read(write(tmp_path, name, content))
    message = str(caught.value)
    assert message.startswith(f"task.data_dir: {tmp_path / name}")
    assert says in message
    assert "\n" not in message
    assert len(message) < 500 + len(str(tmp_path))


@pytest.mark.parametrize("kind", ["csv", "tsv", "json", "jsonl"])
def test_an_empty_file_has_no_rows(tmp_path: Path, kind: str) -> None:
    for number, content in enumerate((b"", b"\n\n", b"\xef\xbb\xbf")):
        assert read(write(tmp_path, f"{number}.{kind}", content)) == []


SOUND = {
    "csv": b'text,label\n"a ""b""\n",1\nc,0\n',
    "tsv": b"text\tlabel\na 'b'\t1\nc\t0\n",
    "json": b'[{"text": "a, \\"b\\"", "label": 1}]',
    "jsonl": b'{"text": "a, \\"b\\"", "label": 1}\n{"text": "c", "label": 0}\n',
}


@pytest.mark.parametrize("kind", ["csv", "tsv", "json", "jsonl", "csv.gz"])
def test_no_bytes_at_all_make_it_crash(tmp_path: Path, kind: str) -> None:
    """Noise, and sound files with some bytes changed: rows or one `UserError`, never anything else."""
    rng = random.Random(0)
    sound = SOUND[kind.removesuffix(".gz")]
    outcomes = []
    for trial in range(300):
        data = bytearray(rng.randbytes(rng.randrange(60)) if trial % 3 == 0 else sound)
        for _ in range(rng.randrange(4)):
            if data:
                data[rng.randrange(len(data))] = rng.choice(b'\x00\xff\xfe"\n\r,\t[]{}\\\x80a')
        content = gzip.compress(data) if kind.endswith("gz") and trial % 3 else bytes(data)
        outcomes.append(outcome(write(tmp_path, f"file.{kind}", content)))
    refusals = [outcome for outcome in outcomes if isinstance(outcome, str)]
    assert not any("\n" in refusal or "\r" in refusal for refusal in refusals)
    assert 20 < len(refusals) < 280


def outcome(path: Path) -> str | int:
    try:
        list(rows(path))
        return len(read(path))
    except UserError as error:
        return str(error)


def test_a_corpus_is_found_by_its_place_or_its_name(tmp_path: Path) -> None:
    (tmp_path / "pair").mkdir()
    below, beside = tmp_path / "pair" / "a.csv", tmp_path / "a.csv"
    beside.touch()
    assert find(Source(str(tmp_path), "pair/a.csv"), "PAIR") == beside
    below.touch()
    assert find(Source(str(tmp_path), "pair/a.csv"), "PAIR") == below
    assert find(Source(str(tmp_path / "pair"), "pair/a.csv"), "PAIR") == below


@pytest.mark.parametrize(
    ("data_dir", "says"),
    [
        (None, "task.data_dir is not set"),
        ("absent", "there is no such directory"),
        (".", "has no x/a.csv and no a.csv in it"),
    ],
)
def test_a_missing_corpus_says_where_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_dir: str | None, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=says) as caught:
        find(Source(data_dir, "x/a.csv"), "the corpus is at example.org")
    assert "the corpus is at example.org" in str(caught.value)


def test_a_data_set_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory stands for the hub: `datasets` reads both alike."""
    datasets = pytest.importorskip("datasets", reason="needs the package datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "set").mkdir()
    write(tmp_path / "set", "train.jsonl", '{"text": "good<br />film", "label": 1}\n{"text": "bad", "label": 0}\n')
    source = Source(None, "unused", hub=str(tmp_path / "set"))
    assert imdb.load(source) == [imdb.Row("good film", 1, None), imdb.Row("bad", 0, None)]
    with pytest.raises(UserError, match="row 1 has no column 'question'"):
        gsm8k.load(source)
    with pytest.raises(UserError, match=r"task\.hub=.*absent: cannot be fetched"):
        imdb.load(Source(None, "unused", hub=str(tmp_path / "absent")))
