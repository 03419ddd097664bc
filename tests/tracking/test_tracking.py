"""Trackers: the local record is complete and never doubled; W&B shows the same numbers and can do no harm."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from emorl_bench.tracking.fanout import Fanout
from emorl_bench.tracking.jsonl import Jsonl, read_rows


def steps(directory: Path) -> list[tuple[float, str]]:
    rows = read_rows(directory / "metrics.jsonl")
    return [(row["step"], next(key for key in row if "/" in key)) for row in rows]


def test_a_resumed_learner_replaces_what_came_after_its_checkpoint_and_nothing_else(tmp_path: Path) -> None:
    first = Jsonl(tmp_path)
    for learner in ("a", "b"):
        for step in (1, 2, 3):
            first.log({f"train/{learner}/loss": 0.0}, step=step)
            first.log({f"train/{learner}/kl": 0.0}, step=step)  # a second row of the same step is not a repetition
    second = Jsonl(tmp_path)
    second.log({"train/b/loss": 1.0}, step=3)
    second.log({"train/b/loss": 1.0}, step=4)
    kept = [(s, f"train/{learner}/{m}") for learner in "ab" for s in (1, 2, 3) for m in ("loss", "kl")][:-2]
    assert steps(tmp_path) == [*kept, (3, "train/b/loss"), (4, "train/b/loss")]
    assert second.rows == len(kept) + 2


def test_a_line_cut_short_by_a_kill_is_dropped(tmp_path: Path) -> None:
    Jsonl(tmp_path).log({"train/a/loss": 0.5}, step=1)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "train/a/lo')
    Jsonl(tmp_path).log({"train/a/loss": 0.25}, step=2)
    assert [row["train/a/loss"] for row in read_rows(tmp_path / "metrics.jsonl")] == [0.5, 0.25]


def test_rows_are_on_disk_as_soon_as_they_are_logged(tmp_path: Path) -> None:
    record = Jsonl(tmp_path)
    record.log({"train/a/loss": 0.5}, step=1)
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 1, "train/a/loss": 0.5}


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

    def log(self, metrics: Mapping[str, float], *, step: int, row: int) -> None:
        self.rows.append(row)
        if len(self.rows) > 1:
            raise ConnectionError("no route\nto host")

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        raise AssertionError("a view that failed is left alone")

    summarise = close = table  # type: ignore[assignment]


def test_a_view_that_fails_is_named_once_and_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[str] = []
    view = Broken()
    tracker = Fanout(Jsonl(tmp_path), lambda: view, heard.append)
    for step in range(4):
        tracker.log({"train/a/loss": 0.0}, step=step)
    tracker.table("scores", [{"x": 1.0}])
    tracker.summarise({"x": 1.0})
    tracker.close("done")
    assert heard == ["ok", "failed: ConnectionError: no route to host"]
    assert len(caplog.records) == 1
    assert len(read_rows(tmp_path / "metrics.jsonl")) == 4
    assert view.rows == [1, 2]


def test_a_view_that_cannot_be_opened_does_not_stop_the_run(tmp_path: Path) -> None:
    def missing() -> Any:
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


def inspect(run: Path) -> list[dict[str, Any]]:
    """The records of an offline run, read by wandb's own reader."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(run)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_wandb_shows_the_numbers_of_the_local_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from emorl_bench.tracking.wandb import Identity, Wandb

    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))  # nobody is logged in
    identity = Identity("ab12cd34", "reflections/tiny_t5/emorl", "emorl", "s3")
    tracker = Fanout(
        Jsonl(tmp_path),
        lambda: Wandb(tmp_path, {"seed": 3, "method": {"levels": 2}}, identity, project="emorl-bench"),
    )
    for learner in ("a", "b"):  # the second learner starts again at step 0: nothing may be dropped
        for step in range(3):
            row = {f"train/{learner}/loss": 1 / (step + 3), "data_points": 16.0 * step, "tokens": 100.0 * step}
            tracker.log(row, step=step)
    tracker.table("samples", [{"prompt": "p", "response": "r"}])
    tracker.summarise({"final/mean_reward": 0.625})
    tracker.close("done")

    (log,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    records = inspect(log)
    history = [r["history"]["item"] for r in records if r["type"] == "history"]
    shown = [{k: v for k, v in row.items() if k[0] != "_" and not k.startswith("tables/")} for row in history]
    assert shown == read_rows(tmp_path / "metrics.jsonl")
    assert len(shown) == 6
    (run,) = [r["run"] for r in records if r["type"] == "run"]
    assert (run["run_id"], run["run_group"], run["job_type"], run["display_name"]) == (
        "ab12cd34",
        "reflections/tiny_t5/emorl",
        "emorl",
        "s3",
    )
    axes = {
        r["metric"].get("glob_name") or r["metric"].get("name"): r["metric"] for r in records if r["type"] == "metric"
    }
    assert all(axes[name]["step_metric"] == "data_points" for name in ("train/*", "eval/*", "tokens"))
    summary = [r["summary"]["update"] for r in records if r["type"] == "summary"]
    assert any(update.get("final/mean_reward") == 0.625 for update in summary)
    assert [r["exit"]["exit_code"] for r in records if r["type"] == "exit"] == [0]


def test_out_of_reach_is_recorded_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    from emorl_bench.tracking.wandb import Identity, Wandb

    tried: list[str] = []
    init = wandb.init

    def out_of_reach(*, mode: str, **options: Any) -> Any:
        tried.append(mode)
        if mode == "online":
            raise wandb.errors.CommError("no such host")
        return init(mode="offline", **options)

    monkeypatch.setattr(wandb, "init", out_of_reach)
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)  # somebody is logged in
    monkeypatch.delenv("WANDB_MODE", raising=False)
    view = Wandb(tmp_path, {}, Identity("ef56ab78", "g", "m", "s0"), project="emorl-bench")
    view.log({"train/a/loss": 0.5}, step=1, row=1)
    view.close("failed")
    assert tried == ["online", "offline"]
    (log,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    assert [r["exit"]["exit_code"] for r in inspect(log) if r["type"] == "exit"] == [1]
    with pytest.raises(wandb.errors.CommError):  # who says online means online
        Wandb(tmp_path, {}, Identity("ef56ab79", "g", "m", "s0"), project="emorl-bench", mode="online")
