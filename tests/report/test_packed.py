"""Runs in one file: a report of it says what a report of the directories says, and it names no path of the machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.html_runs import SEEDS, write_everything
from support.synthetic_runs import METHODS

from emorl_bench.cli.report import main

KINDS = ("table.csv", "table.md", "report.md", "provenance.json")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return write_everything(tmp_path / "runs", {method: METHODS[method] for method in ("emorl", "cory", "base")})


def texts(out: Path, runs: Path) -> dict[str, str]:
    """What a report says, without where its runs lay."""
    return {name: (out / name).read_text().replace(str(runs), "RUNS") for name in KINDS}


def packed(runs: Path, *more: str) -> tuple[Path, Path]:
    file, out = runs.parent / "packed" / "runs.parquet", runs.parent / "out"
    main([str(runs), "--out", str(out), "--pack", str(file), *more])
    return file, out


def test_a_report_of_the_file_says_what_a_report_of_the_directories_says(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = packed(runs)
    main([str(file), "--out", str(tmp_path / "again")])
    found, expected = texts(tmp_path / "again", file), texts(out, runs)
    assert len(expected["table.csv"].splitlines()) > 3
    read, failed = expected["report.md"].split("## Not in the tables")  # only finished runs are packed
    assert "emorl" in read
    assert "1 run failed" in failed
    assert found == expected | {"report.md": read.rstrip() + "\n"}
    answers = [
        (directory / "report.html").read_text().count("prompt number 3") for directory in (out, tmp_path / "again")
    ]
    assert answers[0] == answers[1] > 0


def test_details_are_kept_of_the_seeds_that_were_asked_for(runs: Path) -> None:
    file, _ = packed(runs, "--pack-details", "1")
    table = pq.read_table(file).to_pydict()
    kept = {run for run, samples in zip(table["run"], table["samples.jsonl"], strict=True) if samples is not None}
    assert kept == {run for run in table["run"] if run.rsplit("/", 1)[1].startswith(f"s{SEEDS[0]}-")}
    assert len(table["run"]) == 3 * len(SEEDS)
    assert all(table["summary.json"])


def test_no_path_of_the_machine_is_packed_and_rungs_keep_their_indicators(runs: Path) -> None:
    for dir in runs.glob("*/*/*/s[0-2]*"):
        (dir / "config.yaml").write_text(f"runs_dir: {runs}\n")
        command = [f"{runs.parent}/bin/emorl-bench", "-m", f"runs_dir={runs}"]
        (dir / "provenance.json").write_text(json.dumps({"sessions": [{"command": command, "commit": "c0ffee"}]}))
    file, _ = packed(runs)
    for row in pq.read_table(file).to_pylist():
        assert not [name for name, text in row.items() if name != "run" and str(runs).encode() in (text or b"")]
        session = json.loads(row["provenance.json"])["sessions"][0]
        assert session["command"] == ["emorl-bench", "-m", "runs_dir=runs"]
        for rung in json.loads(row["summary.json"])["ladder"]:
            assert rung["decoding"]["greedy"].keys() >= {"gold_deployed_utility", "uniform"}
            assert "points" not in rung["decoding"]["greedy"]


def outside(file: Path) -> None:
    table = pq.read_table(file)
    names = pa.array(["../elsewhere"] * table.num_rows)
    pq.write_table(table.set_column(0, "run", names), file)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (outside, "lies outside its directory"),
        (lambda file: file.write_bytes(b"PAR1 no parquet"), "is damaged"),
        (lambda file: file.write_bytes(file.read_bytes()[:-200]), "is damaged"),
        (lambda file: pq.write_table(pa.table({"other": [1]}), file), "is damaged"),
    ],
)
def test_a_damaged_file_is_one_line(
    runs: Path, damage: Callable[[Path], None], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = packed(runs)
    damage(file)
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main([str(file), "--out", str(out / "again")])
    line = capsys.readouterr().err.strip()
    assert stopped.value.code == 2
    assert said in line
    assert str(file) in line
    assert "\n" not in line
    assert not (runs.parent / "elsewhere").exists()


@pytest.mark.parametrize("options", [["--pack", "runs.zip"], ["--pack", "runs"]])
def test_another_ending_is_refused_before_anything_is_written(
    runs: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = runs.parent / "out"
    with pytest.raises(SystemExit) as stopped:
        main([str(runs), "--out", str(out), *options])
    assert stopped.value.code == 2
    assert "ends in .parquet" in capsys.readouterr().err
    assert not out.exists()
