"""Explained answers in report.html, without a browser: what arrives, what is left out, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.explained_answers import ASKED, HOSTILE, HOSTILE_WORD, WEIGHTS, write_explained
from support.synthetic_runs import OBJECTIVES, write_run

from emorl_bench.cli.report import main
from emorl_bench.core.errors import UserError
from emorl_bench.report.comparison import comparisons
from emorl_bench.report.html import explained
from emorl_bench.report.html.explained import explained_runs
from emorl_bench.report.html.explained_file import read_explained
from emorl_bench.report.read import read_runs


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    for method in ("emorl", "base"):
        write_run(tmp_path / "runs", method, 0, level=0.5)
    return tmp_path / "runs"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "explained.json"


def test_every_word_of_the_file_is_in_the_report(runs_dir: Path, file: Path, tmp_path: Path) -> None:
    content = write_explained(file)
    main([str(runs_dir), "--out", str(tmp_path / "out"), "--explained", str(file)])
    text = (tmp_path / "out" / "report.html").read_text()
    embedded = text[text.index('id="data">') + 10 :]
    embedded = embedded[: re.search("</script", embedded, re.IGNORECASE).start()]  # type: ignore[union-attr]
    assert not set("<>&") & set(embedded)
    (run,) = json.loads(embedded)["explained"]
    told = content["runs"][0]["explanation"]
    assert (run["run"], run["file"], run["asked"]) == ("emorl/s0-00000000", "explained.json", ASKED)
    assert run["title"] == "reflections · seq2seq"
    assert [expert["name"] for expert in run["experts"]] == list(OBJECTIVES)
    assert [expert["weight"] for expert in run["experts"]] == WEIGHTS
    assert [expert["asked"] for expert in run["experts"]] == list(ASKED.values())
    assert len({expert["colour"] for expert in run["experts"]}) == 3
    assert run["totals"]["tokens"] == 28
    assert run["totals"]["disputed"] == told["totals"]["disputed"]
    assert run["totals"]["parts"] == {name: told["totals"][name] for name in ("margin", "decided", "pivotal", "agrees")}
    assert [answer["prompt"] for answer in run["answers"]] == ["prompt 0", HOSTILE, "prompt 2", "prompt 3"]
    assert run["answers"][1]["words"][1][0] == HOSTILE_WORD
    for shown, answer in zip(run["answers"], told["answers"], strict=True):
        for word, token in zip(shown["words"], answer["tokens"], strict=True):
            wanted = [token[key] for key in ("text", "runner_up", "alone", "agrees", "pivotal")]
            assert [word[0], *word[4:]] == wanted
            assert word[1] == pytest.approx(token["margin"], abs=5e-5)
            assert word[2] == pytest.approx(token["shares"], abs=5e-5)
            assert word[3] == (None if token["decided"] is None else pytest.approx(token["decided"], abs=5e-5))


def test_what_does_not_fit_is_left_out_evenly_and_the_totals_stay(
    runs_dir: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_explained(file, answers=32)
    groups, told = comparisons(read_runs(runs_dir)[0]), read_explained(file)
    (whole,) = explained_runs(told, groups)
    assert [answer.place for answer in whole.answers] == list(range(32))
    monkeypatch.setattr(explained, "EXPLAINED_BYTES", len(json.dumps(whole.answers, default=vars)) // 4)
    (part,) = explained_runs(told, groups)
    places = [answer.place for answer in part.answers]
    assert 6 <= len(places) <= 8
    assert {place // 8 for place in places} == {0, 1, 2, 3}  # each quarter of the answers has some
    assert (part.totals, part.count) == (whole.totals, 32)
    monkeypatch.setattr(explained, "EXPLAINED_BYTES", 0)
    assert len(explained_runs(told, groups)[0].answers) == 1


def test_a_run_of_another_report_is_told_apart(runs_dir: Path, file: Path) -> None:
    write_explained(file, run="emorl/s0-12345678")
    (run,) = explained_runs(read_explained(file), comparisons(read_runs(runs_dir)[0]))
    assert run.title is None


def test_runs_that_are_not_explained_are_passed_over(file: Path) -> None:
    content = write_explained(file)
    file.write_text(json.dumps(content | {"runs": [{"run": "cory/s0-1", "answers": []}, *content["runs"]]}))
    assert [told.run for told in read_explained(file)] == ["emorl/s0-00000000"]


def spoiled(content: dict[str, Any], path: str, value: Any) -> str:
    """The file with one value changed; ``path`` has names and places, divided by spaces."""
    *way, last = [int(part) if part.isdigit() else part for part in path.split(" ")]
    place: Any = content
    for part in way:
        place = place[part]
    place[last] = value
    return json.dumps(content)


WORD = "runs 0 explanation answers 2 tokens 1"


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("runs", [], "no run in it is explained"),
        ("runs", "emorl", "runs='emorl' is not a list"),
        ("preference", [0.5, 0.5], "preference=[0.5, 0.5] is not an object"),
        ("preference fluency", "much", "preference.fluency='much' is not a finite number"),
        ("runs 0 explanation", None, "it has no runs[0].explanation.experts"),
        ("runs 0 explanation weights", [1.0], "runs[0].explanation.weights=[1.0] is not a list of 3, one for each"),
        ("runs 0 explanation totals", {"tokens": 3}, "it has no runs[0].explanation.totals.margin"),
        ("runs 0 explanation totals margin", [float("nan")] * 3, "totals.margin[0]=nan is not a finite number"),
        (f"{WORD} text", None, "runs[0].explanation.answers[2].tokens[1].text=None is not a text"),
        (f"{WORD} margin", 1e3, "is not a division of the margin 1000.0"),
        (f"{WORD} decided", [0.5, 0.5], "tokens[1].decided=[0.5, 0.5] is not a list of 3"),
        (f"{WORD} agrees", [1, 0, 0], "tokens[1].agrees[0]=1 is not true or false"),
        (f"{WORD} alone", ["a" * 99] * 2, f"tokens[1].alone=['{'a' * 38}… is not a list of 3"),
    ],
)
def test_a_damaged_file_is_one_line_with_key_value_and_fix(path: str, value: Any, says: str, file: Path) -> None:
    file.write_text(spoiled(write_explained(file), path, value))
    with pytest.raises(UserError) as error:
        read_explained(file)
    assert says in str(error.value)
    assert str(error.value).startswith(f"--explained {file}: ")
    assert str(error.value).endswith("write it again with emorl-generate RUN --explain --json FILE")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read (No such file"),
        (b"{", "is damaged or no JSON"),
        (b"\xff", "is damaged"),
        (b"[]", "it has"),
    ],
)
def test_a_foreign_file_ends_the_program_before_runs_are_read(
    content: bytes | None, says: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SystemExit) as exit:
        main([str(tmp_path / "no_runs"), "--explained", str(file)])
    shown = capsys.readouterr().err.splitlines()
    assert exit.value.code == 2
    assert len(shown) == 1
    assert says in shown[0]
