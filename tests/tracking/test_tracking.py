"""Trackers: the local record is complete and never doubled; a view can do no harm."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from emorl_bench.tracking.fanout import Fanout
from emorl_bench.tracking.jsonl import Jsonl, read_rows


def test_a_resumed_learner_records_a_step_once(tmp_path: Path) -> None:
    first = Fanout(Jsonl(tmp_path))
    for learner in ("a", "b"):
        for step in (1, 2, 3):
            first.log({f"train/{learner}/loss": 0.0}, step=step)
            first.log({f"train/{learner}/kl": 0.0}, step=step)  # a second row of the same step is not a repetition
    before = (tmp_path / "metrics.jsonl").read_text()
    second = Fanout(Jsonl(tmp_path))
    for step in (3, 4):
        second.log({"train/b/loss": 0.0}, step=step)
        second.log({"train/b/kl": 0.0}, step=step)
    assert (tmp_path / "metrics.jsonl").read_text().startswith(before), "what is recorded never changes"
    assert [row["step"] for row in read_rows(tmp_path / "metrics.jsonl")[12:]] == [4, 4]


def test_a_line_cut_short_by_a_kill_is_dropped(tmp_path: Path) -> None:
    Fanout(Jsonl(tmp_path)).log({"train/a/loss": 0.5}, step=1)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "train/a/lo')
    Fanout(Jsonl(tmp_path)).log({"train/a/loss": 0.25}, step=2)
    assert [row["train/loss"] for row in read_rows(tmp_path / "metrics.jsonl")] == [0.5, 0.25]


def test_rows_are_on_disk_as_soon_as_they_are_logged(tmp_path: Path) -> None:
    record = Jsonl(tmp_path)
    record.append({"step": 1, "train/loss": 0.5})
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 1, "train/loss": 0.5}


def test_tables_are_parquet_and_samples_are_text(tmp_path: Path) -> None:
    record = Jsonl(tmp_path)
    record.table("scores", [{"split": "report", "reflection": 0.5}, {"split": "report", "reflection": 0.25}])
    record.table("samples", [{"prompt": "I can't", "response": "Töne"}])
    assert pq.read_table(tmp_path / "scores.parquet").to_pydict()["reflection"] == [0.5, 0.25]
    assert json.loads((tmp_path / "samples.jsonl").read_text()) == {"prompt": "I can't", "response": "Töne"}


class Broken:
    """A view whose network went away after one row."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def log(self, metrics: Mapping[str, float], *, row: int) -> None:
        self.rows.append(row)
        if len(self.rows) > 1:
            raise ConnectionError("no route\nto host")

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        raise AssertionError("a view that failed is left alone")

    summarise = close = image = table  # type: ignore[assignment]


def test_a_view_that_fails_is_named_once_and_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[str] = []
    view = Broken()
    tracker = Fanout(Jsonl(tmp_path), lambda rows: view, heard.append)
    for step in range(4):
        tracker.log({"train/a/loss": 0.0}, step=step)
    tracker.table("scores", [{"x": 1.0}])
    tracker.summarise({"cost": {"x": 1.0}}, {})
    tracker.close("done")
    assert heard == ["ok", "failed: ConnectionError: no route to host"]
    assert len(caplog.records) == 1
    assert len(read_rows(tmp_path / "metrics.jsonl")) == 4
    assert view.rows == [1, 2]


def test_a_view_that_cannot_be_opened_does_not_stop_the_run(tmp_path: Path) -> None:
    def missing(rows: Any) -> Any:
        raise ModuleNotFoundError("No module named 'wandb'")

    heard: list[str] = []
    tracker = Fanout(Jsonl(tmp_path), missing, heard.append)
    tracker.log({"train/a/loss": 0.0}, step=1)
    assert heard == ["failed: ModuleNotFoundError: No module named 'wandb'"]


def test_a_record_that_fails_does_stop_the_run(tmp_path: Path) -> None:
    tracker = Fanout(Jsonl(tmp_path))
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(IsADirectoryError):
        tracker.log({"train/a/loss": 0.0}, step=1)
