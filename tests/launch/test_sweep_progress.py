"""What a sweep tells: lines as jobs end, the running jobs now and then, and how long the rest takes."""

from __future__ import annotations

import io
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from emorl_bench.launch import sweep_progress
from emorl_bench.launch.run_value import RunValue
from emorl_bench.launch.sweep_job import SweepJob
from emorl_bench.launch.sweep_progress import SweepProgress
from emorl_bench.launch.time_left import Clock


def config(runs_dir: Path) -> DictConfig:
    choices = {"task": "t", "model": "m", "method": "x"}
    return OmegaConf.create({"runs_dir": str(runs_dir), "hydra": {"runtime": {"choices": choices}}})


def job(number: int, kind: str, runs_dir: Path = Path("runs"), expected: float | None = None) -> SweepJob:
    return SweepJob(number, [], config(runs_dir), f"{kind} seed={number}", kind, expected)


def status(runs_dir: Path, **changes: Any) -> None:
    place = runs_dir / "t" / "m" / "x" / "s0-12345678"
    place.mkdir(parents=True)
    record = {"pid": os.getpid(), "heartbeat": time.time() + 1, "phase": "fit", "doing": "train [a]"} | changes
    (place / "status.json").write_text(json.dumps(record))


def test_each_kind_of_job_has_its_own_time() -> None:
    clock = Clock(workers=2)
    assert clock.left([], {1: clock.whole("long", None)}) is None  # nothing is known
    clock.took("long", 100.0)
    clock.took("short", 10.0)
    clock.took("short", 20.0)
    assert (clock.whole("long", 7.0), clock.whole("short", None)) == (100.0, 15.0)
    assert (clock.whole("other", 7.0), clock.whole("other", None)) == (7.0, pytest.approx(130 / 3))
    waiting = {n: clock.whole("short", None) for n in range(4)}
    assert clock.left([], waiting) == pytest.approx(4 * 15 / 2)  # and not 4 * 43 / 2, which the mean of all would give
    assert clock.left([90.0], waiting) == 90.0  # no sweep ends before its longest job


@pytest.mark.parametrize(("share", "elapsed", "rest"), [(0.25, 30.0, 90.0), (None, 30.0, 20.0), (0.01, 80.0, 0.0)])
def test_a_running_job_is_extrapolated_from_its_share(share: float | None, elapsed: float, rest: float) -> None:
    assert Clock(1).rest("any", 50.0, elapsed, share) == pytest.approx(rest)


def test_a_line_for_each_job_says_how_it_ended(capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [job(n, "slow" if n < 2 else "fast", expected=40.0) for n in range(4)]
    progress = SweepProgress(jobs, workers=1)
    with progress:
        progress.ended(jobs[0], ("done", RunValue.of(0.5, "p", skipped=True)))
        progress.started(jobs[1])
        progress.ended(jobs[1], ("done", RunValue.of(0.25, "p")), 60.0)
        progress.ended(jobs[2], ("failed", "ValueError: no"), 1.0)
        progress.ended(jobs[3], ("done", 3.0), 2.0)
    assert capsys.readouterr().out.splitlines() == [
        "[1/4] skipped slow seed=0: reward 0.500",
        "[2/4] done slow seed=1 (60 s, about 80 s left): reward 0.250",
        "[3/4] failed fast seed=2 (1 s, about 40 s left): ValueError: no",
        "[4/4] done fast seed=3 (2 s)",
    ]


def test_running_jobs_are_told_from_their_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_progress, "FIRST_LOOK", 0.0)
    status(tmp_path, share=0.5, reward=0.4321, tokens_per_second=1234.5)
    jobs = [job(0, "x", tmp_path), job(1, "y", tmp_path, expected=30.0)]
    with SweepProgress(jobs, workers=2) as progress:
        progress.started(jobs[0], os.getpid())
        progress.running[0].started -= 100.0
        progress.tick()
        progress.tick()
    (line,) = capsys.readouterr().err.splitlines()  # the second look comes a minute later
    assert "x seed=0: train [a], 50% of budget, reward 0.432, 1,234 tokens/s, 2 min, about 2 min left" in line
    assert line.endswith("1 running, 1 waiting; about 2 min left")
    shown = io.StringIO()
    Console(file=shown, width=120).print(progress.table())
    assert "train [a]" in shown.getvalue()  # brackets are no markup
    assert "50%" in shown.getvalue()


def test_a_job_whose_process_has_no_record_yet_is_starting(tmp_path: Path) -> None:
    status(tmp_path)
    one = job(0, "x", tmp_path)
    progress = SweepProgress([one], workers=1)
    progress.started(one, os.getpid() + 1)
    progress.tick()
    assert "x seed=0: starting" in progress.line()
