"""The PAIR corpus and task: both layouts, header or not, and one clear line with the row number for what is wrong."""

from __future__ import annotations

import csv
import logging
from pathlib import Path

import pytest

from emorl_bench.core.errors import UserError
from emorl_bench.core.types import Example
from emorl_bench.data.pair import COLUMNS, Row, load, parts
from emorl_bench.data.sources import Source
from emorl_bench.tasks.pair import Pair

REAL = Path(__file__).parents[3] / "shared" / "data" / "pair" / "topic_clean_umich.csv"


def rows(count: int = 40, width: int = 10) -> list[list[str]]:
    return [[f"I am prompt {i}, really a{i} b{i}.", *(f"answer {j}" for j in range(width - 1))] for i in range(count)]


def write(path: Path, content: list[list[str]], header: bool = False) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([list(COLUMNS[: len(content[0])])] * header + content)
    return str(path)


def source(path: str) -> Source:
    return Source(str(Path(path).parent), Path(path).name)


def pair(path: str, split_by: str = "prompt") -> Pair:
    return Pair(scorers={}, data_dir=str(Path(path).parent), file=Path(path).name, split_by=split_by)


@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize("width", [9, 10])
def test_every_layout_gives_the_same_prompts_and_splits(tmp_path: Path, width: int, header: bool) -> None:
    path = write(tmp_path / "pair.csv", rows(width=width), header)
    plain = write(tmp_path / "plain.csv", rows())
    found = load(source(path))
    assert [row.prompt for row in found] == [row[0] for row in rows()]
    topic = "answer 8" if width == 10 else ""
    assert found[3] == Row(
        rows()[3][0], ("answer 0", "answer 1"), ("answer 2",), tuple(f"answer {i}" for i in range(3, 8)), topic
    )
    assert pair(path).splits() == pair(plain).splits()


def test_the_partition_is_by_prompt_and_scorers_get_none_of_the_reported(tmp_path: Path) -> None:
    path = write(tmp_path / "pair.csv", rows())
    splits, division = pair(path).splits(), parts(load(source(path)))
    split = [{e.prompt for e in part} for part in (splits.train, splits.select, splits.report)]
    assert [len(part) for part in split] == [28, 4, 8]
    assert set.union(*split) == {row[0] for row in rows()}
    assert len({e.id for part in (splits.train, splits.select, splits.report) for e in part}) == 40
    scorers = {row.prompt for name in ("scorer", "held_out") for row in division.parts[name]}
    assert scorers == split[0]


def test_the_order_of_the_file_decides_nothing_but_the_paper_option_keeps_it(tmp_path: Path) -> None:
    path = write(tmp_path / "pair.csv", rows())
    backwards = write(tmp_path / "backwards.csv", rows()[::-1])
    assert pair(path).splits() == pair(backwards).splits()
    paper = pair(path, "file_order").splits()
    assert [len(part) for part in (paper.train, paper.select, paper.report)] == [32, 4, 4]
    assert [e.prompt for e in (*paper.train, *paper.select, *paper.report)] == [row[0] for row in rows()]
    assert paper.fingerprint != pair(backwards, "file_order").splits().fingerprint


def test_the_fingerprint_follows_the_prompts_and_the_split(tmp_path: Path) -> None:
    path, moved = write(tmp_path / "pair.csv", rows()), write(tmp_path / "moved.csv", rows())
    assert pair(path).splits().fingerprint == pair(moved).splits().fingerprint
    others = [pair(path, "file_order"), pair(write(tmp_path / "less.csv", rows(39)))]
    assert len({pair(path).splits().fingerprint, *(other.splits().fingerprint for other in others)}) == 3


def test_duplicates_are_removed_and_counted_with_their_rows(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = rows()
    content[7][0], content[30][0] = f"  {content[3][0].replace(' ', '   ')} ", content[3][0].upper()
    with caplog.at_level(logging.WARNING):
        found = load(source(write(tmp_path / "pair.csv", content)))
    assert len(found) == 38
    assert "2 duplicate prompts removed (rows 8, 31)" in caplog.text
    assert len(load(source(write(tmp_path / "twice.csv", rows() + rows())))) == 40


def test_near_duplicates_across_splits_are_removed_and_counted(tmp_path: Path) -> None:
    content = [[f"{' '.join(f'w{i}x{j}' for j in range(20))} {end}", *"abcdefghi"] for i in range(40) for end in "ab"]
    splits = pair(write(tmp_path / "pair.csv", content)).splits()
    stems = [{e.prompt[:-1] for e in part} for part in (splits.train, splits.select, splits.report)]
    assert not stems[0] & stems[1] | stems[0] & stems[2] | stems[1] & stems[2]
    assert splits.removed == 80 - sum(map(len, (splits.train, splits.select, splits.report))) > 0
    assert len(splits.report) == 16


def test_a_missing_response_is_reported_and_its_prompt_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = rows()
    content[5][4] = " "
    with caplog.at_level(logging.WARNING):
        found = load(source(write(tmp_path / "pair.csv", content, header=True)))
    assert len(found) == 40
    assert len(found[5].lq) == 4
    assert "row 7 has an empty lq1 cell" in caplog.text


def spoiled(row: int, value: list[str]) -> list[list[str]]:
    content = rows()
    content[row] = value
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (spoiled(4, ["", *"abcdefghi"]), "row 5 has an empty prompt"),
        (spoiled(11, list("abcdefgh")), "row 12 has 8 columns where the first row has 10"),
        (spoiled(0, ["only", "two"]), "row 1 has 2 columns, not 9 or 10"),
        (rows(9), "9 distinct prompts; at least 10"),
    ],
)
def test_bad_content_is_one_line_with_key_and_row(tmp_path: Path, content: list[list[str]], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        pair(write(tmp_path / "pair.csv", content)).splits()
    assert str(caught.value).startswith("task.data_dir: ")
    assert "\n" not in str(caught.value)


def test_an_empty_a_missing_and_a_binary_file(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "binary.csv").write_bytes(b"\x89PNG\x00\x81" * 50)
    for name, message in [
        ("absent.csv", "has no absent.csv in it; PAIR"),
        ("empty.csv", "0 distinct prompts"),
        ("binary.csv", "holds a NUL character"),
    ]:
        with pytest.raises(UserError, match=message):
            pair(str(tmp_path / name)).splits()


def test_bad_settings(tmp_path: Path) -> None:
    path = write(tmp_path / "pair.csv", rows())
    with pytest.raises(UserError, match=r"task\.split_by=promt: unknown; did you mean 'prompt'"):
        pair(path, "promt").splits()


@pytest.mark.skipif(
    not REAL.exists(), reason="the PAIR csv is not shipped; it is read from ../shared/data where present"
)
def test_the_real_file(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        splits = pair(str(REAL)).splits()
    assert splits.sizes() == {"train": 223, "select": 31, "report": 64, "removed": 0}
    assert isinstance(splits.train[0], Example)
    assert "row 279 has an empty lq2 cell" in caplog.text
