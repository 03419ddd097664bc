"""Tables that are committed say which code and assets they are of, and are refused where these are others."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from support.committed_results import ROOT, refusals
from support.synthetic_runs import add_gold, write_run

from emorl_bench.cli.report import report
from emorl_bench.runner.provenance import embedded_assets

SIGNED = sorted(path.parent for path in (ROOT / "results").rglob("provenance.json"))
WHO = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.com"]


def written(tmp_path: Path, commit: str | None, assets: str | None = "a55e75") -> Path:
    """A report of two methods whose runs were of this commit and these assets."""
    for method in ("emorl", "base"):
        dir = write_run(tmp_path / "runs", method, 0)
        add_gold(dir, 0.1, assets=assets)
        machine = {"processor": "one", "cores": 2, "device": "cpu", "system": "Linux"}
        session = {"commit": commit, "python": "3.11", "versions": {"torch": "2"}, "machine": machine}
        (dir / "provenance.json").write_text(json.dumps({"sessions": [{"commit": "earlier"}, session]}))
    report(tmp_path / "runs", tmp_path / "out", "emorl")
    return tmp_path / "out"


@pytest.fixture
def checkout(tmp_path: Path) -> tuple[Path, str]:
    """A history of one commit."""
    place = tmp_path / "checkout"
    for command in (["init", "-q", str(place)], ["-C", str(place), *WHO, "commit", "-q", "--allow-empty", "-m", "one"]):
        subprocess.run(["git", *command], check=True)
    head = subprocess.run(["git", "-C", str(place), "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return place, head.stdout.strip()


def test_the_report_says_where_it_comes_from(tmp_path: Path) -> None:
    out = written(tmp_path, "c0ffee")
    (record,) = json.loads((out / "provenance.json").read_text())["comparisons"]
    assert record["seeds"] == {"base": [0], "emorl": [0]}
    assert (record["commits"], record["assets"], record["versions"]) == (["c0ffee"], ["a55e75"], [{"torch": "2"}])
    assert record["machines"][0]["processor"] == "one"
    assert "system" not in record["machines"][0]
    assert "Commit `c0ffee`. Embedded assets `a55e75`." in (out / "report.md").read_text()


def test_a_table_of_this_history_and_these_assets_stands(tmp_path: Path, checkout: tuple[Path, str]) -> None:
    place, commit = checkout
    assert refusals(written(tmp_path, commit), "a55e75", place) == []


def test_a_table_of_other_assets_or_another_history_is_refused(tmp_path: Path, checkout: tuple[Path, str]) -> None:
    place, commit = checkout
    (assets,) = refusals(written(tmp_path / "a", commit), "0ther", place)
    assert "ran on embedded assets a55e75, and these are 0ther" in assets
    (strange,) = refusals(written(tmp_path / "b", "c0ffee" * 6), "a55e75", place)
    assert "is not in this history" in strange
    assert "names no commit" in refusals(written(tmp_path / "c", None), "a55e75", place)[0]
    out = written(tmp_path / "d", commit)
    (out / "table.csv").write_text((out / "table.csv").read_text().replace("f1f1", "0b0b"))
    assert refusals(out, "a55e75", place) == ["out: table.csv and provenance.json are of different runs"]
    (out / "provenance.json").unlink()
    assert refusals(out, "a55e75", place) == ["out: no provenance.json; write the report again"]


def test_a_table_that_used_no_embedded_asset_follows_none(tmp_path: Path, checkout: tuple[Path, str]) -> None:
    place, commit = checkout
    assert refusals(written(tmp_path, commit, assets=None), "0ther", place) == []


@pytest.mark.parametrize("directory", SIGNED, ids=[path.name for path in SIGNED])
def test_what_is_committed_stands(directory: Path) -> None:
    assert refusals(directory, embedded_assets()) == []
