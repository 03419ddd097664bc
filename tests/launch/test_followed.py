"""A launcher that tells nothing: its sweep is told from the records that the jobs leave in their run directories."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf

from emorl_bench.launch import followed, sweep_progress
from emorl_bench.launch.hooks import Hooks, hooks
from emorl_bench.launch.run_value import RunValue
from emorl_bench.launch.sweep_job import place, sweep_jobs
from emorl_bench.launch.sweep_progress import SweepProgress

DIRNAME = {"kv_sep": "=", "item_sep": ",", "exclude_keys": []}


def config(tmp_path: Path, launcher: str = "basic", seed: int = 0) -> DictConfig:
    choices = {"task": "t", "model": "m", "method": "x", "hydra/launcher": launcher}
    job = {"config": {"override_dirname": DIRNAME}}
    hydra: dict[str, Any] = {"overrides": {"hydra": [], "task": []}, "runtime": {"choices": choices}, "job": job}
    hydra |= {"launcher": {"n_jobs": 2}, "sweep": {"dir": str(tmp_path / ".sweeps")}}
    return OmegaConf.create({"runs_dir": str(tmp_path), "seed": seed, "hydra": hydra})


@pytest.fixture
def composing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, DictConfig]:
    """A stand-in for Hydra's context, and the configuration of a sweep."""
    for name, nothing in vars(Hooks()).items():  # whatever programs that ran in this process have set
        monkeypatch.setattr(hooks, name, nothing)
    monkeypatch.setattr(followed, "TICK", 0.02)
    loader = SimpleNamespace(load_sweep_config=lambda master, lines: config(tmp_path))
    return SimpleNamespace(config_loader=loader), config(tmp_path)


def record(tmp_path: Path, seed: int, lines: Sequence[str], **changes: Any) -> Path:
    run = tmp_path / "t" / "m" / "x" / f"s{seed}-12345678"
    run.mkdir(parents=True, exist_ok=True)
    (run / "overrides.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(list(lines))))
    status = {"state": "running", "heartbeat": time.time(), "doing": "train [a]", "share": 0.5} | changes
    (run / "status.json").write_text(json.dumps(status))
    return run


class Silent:
    """A launcher whose jobs write records, and which returns when all have ended."""

    def __init__(self, work: Callable[[Sequence[str]], JobReturn]) -> None:
        self.work, self.given, self.first = work, [], -1

    def launch(self, overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        self.given, self.first = [list(own) for own in overrides], initial_job_idx
        return [self.work(own) for own in overrides]


def lines_of(seed: int) -> list[str]:
    return ["method=x", f"seed={seed}"]


def test_each_job_is_told_of_when_it_ends_and_not_when_all_have_ended(
    composing: tuple[Any, DictConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr(sweep_progress, "FIRST_LOOK", 0.0)
    told: list[str] = []
    monkeypatch.setattr(SweepProgress, "_end", _noting(told))
    done = RunValue.of(0.75, "earlier", skipped=True)
    monkeypatch.setattr(hooks, "done_before", lambda configs: [done if one.seed == 0 else None for one in configs])

    def work(own: Sequence[str]) -> JobReturn:
        seed = int(own[1].removeprefix("seed="))
        before = list(told)
        record(tmp_path, seed, own)
        time.sleep(0.2)
        if seed == 1:
            run = record(tmp_path, seed, own, state="done")
            (run / "summary.json").write_text('{"mean_reward": 0.25}')
            ended = JobReturn(own, status=JobStatus.COMPLETED, _return_value=RunValue.of(0.25, str(run)))
        else:
            record(tmp_path, seed, own, state="failed", error="ValueError: no")
            ended = JobReturn(own, status=JobStatus.FAILED, _return_value=ValueError("no"))
        time.sleep(0.3)
        assert len(told) == len(before) + 1  # told while the launcher still runs
        return ended

    launcher = Silent(work)
    context, master = composing
    returns = followed.launch(launcher, context, master, [lines_of(seed) for seed in range(3)], 4)
    assert launcher.given == [lines_of(1), lines_of(2)]
    assert [one.overrides for one in returns] == [lines_of(seed) for seed in range(3)]
    assert [one.status for one in returns] == [JobStatus.COMPLETED, JobStatus.COMPLETED, JobStatus.FAILED]
    shown = capsys.readouterr()
    first, *ends = shown.out.splitlines()
    assert first == "3 jobs, 1 at a time, all with method=x; their output: below"
    assert [line.split(" (")[0] for line in ends] == [
        "[1/3] skipped seed=0: reward 0.750",
        "[2/3] done seed=1",
        "[3/3] failed seed=2",
    ]
    assert "reward 0.250" in ends[1]
    assert "ValueError: no" in ends[2]
    assert "seed=1: train [a], 50% of budget" in shown.err


def _noting(told: list[str]) -> Any:
    end = SweepProgress._end

    def note(self: SweepProgress, job: Any, *rest: Any) -> None:
        told.append(job.label)
        end(self, job, *rest)

    return note


def test_records_of_others_are_left_alone_and_the_launcher_has_the_last_word(
    composing: tuple[Any, DictConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(tmp_path, 0, lines_of(0), state="failed", error="of yesterday", heartbeat=time.time() - 60)

    def work(own: Sequence[str]) -> JobReturn:
        record(tmp_path, 0, ["method=x", "seed=0", "lr=1"], state="failed", error="of another sweep")
        time.sleep(0.2)
        return JobReturn(own, status=JobStatus.FAILED, _return_value=RuntimeError("killed"))

    context, master = composing
    followed.launch(Silent(work), context, master, [lines_of(0), lines_of(1)], 0)
    ends = capsys.readouterr().out.splitlines()[1:]
    assert [line.split(" (")[0] for line in ends] == ["[1/2] failed seed=0", "[2/2] failed seed=1"]
    assert all(line.endswith(": RuntimeError: killed") for line in ends)


def test_a_finished_sweep_starts_no_launcher(
    composing: tuple[Any, DictConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "done_before", lambda configs: [RunValue.of(1.0, "p", skipped=True) for _ in configs])
    context, master = composing
    returns = followed.launch(None, context, master, [lines_of(0), lines_of(1)], 0)  # None: a call would be an error
    assert [one.return_value for one in returns] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("name", "keys", "jobs", "expected"),
    [
        ("basic", {"n_jobs": 4}, 9, 1),
        ("joblib", {"n_jobs": 3}, 9, 3),
        ("joblib", {"n_jobs": -2}, 99, 7),  # all but one of eight cores
        ("submitit_slurm", {"array_parallelism": 256}, 9, 9),
        ("submitit_local", {}, 9, 9),
    ],
)
def test_how_many_jobs_run_at_a_time(
    name: str, keys: dict[str, int], jobs: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followed.os, "cpu_count", lambda: 8)
    assert followed._at_once(name, keys, jobs) == expected


def test_jobs_of_one_place_are_told_apart_by_their_seed(composing: tuple[Any, DictConfig], tmp_path: Path) -> None:
    context, master = composing
    jobs = sweep_jobs(context, master, [lines_of(0), lines_of(1)], 0)
    assert [job.config.seed for job in jobs] == [0, 1]
    assert {place(job.config) for job in jobs} == {tmp_path / "t" / "m" / "x"}
