"""The PAIR loader: both layouts, header or not, and one clear line with the row number for what is wrong."""

from __future__ import annotations

import csv
import logging
from pathlib import Path

import pytest

from emorl_bench.core.errors import UserError
from emorl_bench.scorers.empathy import Empathy
from emorl_bench.scorers.fluency import Fluency
from emorl_bench.scorers.reflection import Reflection
from emorl_bench.tasks.pair import COLUMNS, Pair, read_prompts

REAL = Path(__file__).parents[2] / "shared" / "data" / "pair" / "topic_clean_umich.csv"


def rows(count: int = 40, width: int = 10) -> list[list[str]]:
    return [[f"I am prompt {i}, really.", *(f"answer {j}" for j in range(width - 1))] for i in range(count)]


def write(path: Path, content: list[list[str]], header: bool = False) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([list(COLUMNS[: len(content[0])])] * header + content)
    return str(path)


def pair(path: str | None, split_by: str = "prompt", split_seed: int = 0, share: float = 0.1) -> Pair:
    scorers = {scorer.name: scorer for scorer in (Reflection(), Empathy(), Fluency())}
    return Pair(path, scorers, split_by, split_seed, share, share)


@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize("width", [9, 10])
def test_every_layout_gives_the_same_prompts_and_splits(tmp_path: Path, width: int, header: bool) -> None:
    path = write(tmp_path / "pair.csv", rows(width=width), header)
    plain = write(tmp_path / "plain.csv", rows())
    assert read_prompts(path) == [row[0] for row in rows()]
    assert pair(path).splits() == pair(plain).splits()


def test_splits_share_no_prompt_and_keep_80_10_10(tmp_path: Path) -> None:
    splits = pair(write(tmp_path / "pair.csv", rows())).splits()
    parts = [{e.prompt for e in part} for part in (splits.train, splits.select, splits.report)]
    assert [len(part) for part in parts] == [32, 4, 4]
    assert set.union(*parts) == {row[0] for row in rows()}
    assert len({e.id for part in (splits.train, splits.select, splits.report) for e in part}) == 40


def test_the_shuffle_is_seeded_and_ignores_file_order_but_the_paper_option_does_not(tmp_path: Path) -> None:
    path = write(tmp_path / "pair.csv", rows())
    backwards = write(tmp_path / "backwards.csv", rows()[::-1])
    assert pair(path).splits() == pair(backwards).splits()
    assert pair(path).splits().fingerprint != pair(path, split_seed=1).splits().fingerprint
    paper = pair(path, "file_order").splits()
    assert [e.prompt for e in (*paper.train, *paper.select, *paper.report)] == [row[0] for row in rows()]
    assert paper.fingerprint != pair(backwards, "file_order").splits().fingerprint


def test_the_fingerprint_follows_the_prompts_and_the_split(tmp_path: Path) -> None:
    path, moved = write(tmp_path / "pair.csv", rows()), write(tmp_path / "moved.csv", rows())
    assert pair(path).splits().fingerprint == pair(moved).splits().fingerprint
    others = [pair(path, split_seed=1), pair(path, "file_order"), pair(write(tmp_path / "less.csv", rows(39)))]
    assert len({pair(path).splits().fingerprint, *(other.splits().fingerprint for other in others)}) == 4


def test_duplicates_are_removed_and_counted_with_their_rows(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = rows()
    content[7][0], content[30][0] = "  I am   prompt 3, really. ", "i am prompt 3, REALLY."
    with caplog.at_level(logging.WARNING):
        prompts = read_prompts(write(tmp_path / "pair.csv", content))
    assert len(prompts) == 38
    assert "2 duplicate prompts removed (rows 8, 31)" in caplog.text


def test_exact_duplicates_are_removed_too(tmp_path: Path) -> None:
    assert len(read_prompts(write(tmp_path / "pair.csv", rows() + rows()))) == 40


def test_a_missing_response_is_reported_and_its_prompt_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = rows()
    content[5][4] = " "
    with caplog.at_level(logging.WARNING):
        assert len(read_prompts(write(tmp_path / "pair.csv", content, header=True))) == 40
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
    assert str(caught.value).startswith("task.path=")
    assert "\n" not in str(caught.value)


def test_an_empty_missing_or_binary_file(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x81" * 50)
    for path, message in [
        (None, "task.path is not set"),
        (str(tmp_path / "absent.csv"), r"absent.csv cannot be read \(No such file"),
        (str(tmp_path), "cannot be read"),
        (str(tmp_path / "empty.csv"), "0 distinct prompts"),
        (str(tmp_path / "binary.csv"), "is not UTF-8"),
    ]:
        with pytest.raises(UserError, match=message):
            pair(path).splits()


@pytest.mark.parametrize(
    ("split_by", "share", "message"), [("promt", 0.1, "did you mean 'prompt'"), ("prompt", 0.5, "empty")]
)
def test_bad_split_options(tmp_path: Path, split_by: str, share: float, message: str) -> None:
    with pytest.raises(UserError, match=message):
        pair(write(tmp_path / "pair.csv", rows()), split_by, share=share).splits()


@pytest.mark.skipif(
    not REAL.exists(), reason="the PAIR csv is not shipped; it is read from ../shared/data where present"
)
def test_the_real_file(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        splits = pair(str(REAL)).splits()
    assert [len(part) for part in (splits.train, splits.select, splits.report)] == [254, 32, 32]
    assert "row 279 has an empty lq2 cell" in caplog.text
