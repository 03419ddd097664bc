"""The run directory: the same command finds what it did, whatever ended it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from support.composing import composed

from emorl_bench.core.errors import UserError
from emorl_bench.runner import job
from emorl_bench.runner.directory import RunDirectory, identity

NAMES = {"task": "reflections", "model": "tiny_t5", "method": "emorl"}


def settings(tmp_path: Path, *overrides: str) -> dict[str, Any]:
    config = job.plain(composed(f"runs_dir={tmp_path / 'runs'}", "tracker=local", "hardware=cpu", *overrides))
    return {**config, "names": NAMES}


def read(directory: RunDirectory, name: str) -> Any:
    return json.loads((directory.path / name).read_text())


def test_only_what_changes_the_numbers_changes_the_hash(tmp_path: Path) -> None:
    first = identity(settings(tmp_path), "f")
    logging = ("tracker=wandb", "force=true", "hardware.threads=2", f"runs_dir={tmp_path / 'elsewhere'}")
    assert all(identity(settings(tmp_path, change), "f") == first for change in logging)
    numbers = ("seed=1", "budget.prompts=7", "method.search.levels=2", "hardware.dtype=bfloat16", "reward=log")
    others = {identity(settings(tmp_path, change), "f") for change in numbers}
    assert len(others | {first, identity(settings(tmp_path), "other data")}) == len(numbers) + 2


def test_a_finished_run_is_found_and_force_starts_it_afresh(tmp_path: Path) -> None:
    with RunDirectory(settings(tmp_path), "f", ["seed=0"]) as first:
        assert (first.done, first.resumed) == (False, False)
        first.write_json("summary.json", {"mean_reward": 0.5})
        first.finish()
    assert first.path.parent == tmp_path / "runs" / "reflections" / "tiny_t5" / "emorl"
    assert first.path.name == f"s0-{first.hash}"
    with RunDirectory(settings(tmp_path), "f") as second:
        assert second.done
    assert OmegaConf.load(first.path / "overrides.yaml") == ["seed=0"]
    with RunDirectory(settings(tmp_path, "force=true"), "f") as third:
        assert third.path == first.path
        assert (third.done, third.resumed) == (False, False)
        assert not (third.path / "summary.json").exists()


def test_done_without_a_summary_is_not_done(tmp_path: Path) -> None:
    with RunDirectory(settings(tmp_path), "f") as first:
        first.finish()
    (first.path / "summary.json").write_text('{"half": ')
    with RunDirectory(settings(tmp_path), "f") as second:
        assert (second.done, second.resumed) == (False, True)


@pytest.mark.parametrize("ending", [KeyboardInterrupt(), RuntimeError("no more memory"), UserError("method.x=3: no")])
def test_whatever_ends_a_run_is_recorded_and_the_next_one_goes_on(tmp_path: Path, ending: BaseException) -> None:
    def run() -> None:
        with RunDirectory(settings(tmp_path), "f") as directory:
            directory.note(phase="train")
            raise ending

    with pytest.raises(type(ending)):
        run()
    with RunDirectory(settings(tmp_path), "f") as again:
        assert again.resumed
        assert len(read(again, "provenance.json")["sessions"]) == 2
    # leaving without `finish` leaves a run that goes on
    assert read(again, "status.json")["state"] == "running"


def test_the_status_says_what_went_wrong(tmp_path: Path) -> None:
    directory = RunDirectory(settings(tmp_path), "f").__enter__()
    directory.note(phase="search")
    error = RuntimeError("scorer empathy returned NaN")
    directory.__exit__(RuntimeError, error, None)
    status = read(directory, "status.json")
    assert (status["state"], status["phase"]) == ("failed", "search")
    assert status["error"] == "RuntimeError: scorer empathy returned NaN"
    assert status["heartbeat"] > 0


def test_a_killed_run_goes_on_and_a_live_one_is_left_alone(tmp_path: Path) -> None:
    config = settings(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    code = (
        "import json, sys, time; from emorl_bench.runner.directory import RunDirectory\n"
        "with RunDirectory(json.load(open(sys.argv[1])), 'f') as directory:\n"
        "    directory.note(phase='train'); print('open', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "config.json")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(UserError, match=f"in use by another run \\(process {other.pid} on"):
            RunDirectory(config, "f").__enter__()
        os.kill(other.pid, signal.SIGKILL)
    with RunDirectory(config, "f") as directory:
        assert directory.resumed


def test_a_directory_that_cannot_be_written_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(UserError, match="cannot write"):
        RunDirectory(settings(tmp_path), "f").__enter__()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., float | None]:
    """`job.run` with a bench that takes no time; ``execute`` is what it does."""
    monkeypatch.setattr(job.fingerprints, "fingerprint", lambda config: "f")

    def call(execute: Callable[..., dict[str, Any]], *overrides: str) -> float | None:
        monkeypatch.setattr(job.bench, "execute", execute)
        fixed = (f"runs_dir={tmp_path / 'runs'}", "tracker=local", "hardware=cpu")
        return job.run(composed(*fixed, *overrides), list(overrides), NAMES)

    return call


def test_a_job_runs_once_and_goes_on_after_a_failure(run: Callable[..., float | None], tmp_path: Path) -> None:
    seen: list[bool] = []

    def fails(config: Any, directory: RunDirectory, tracker: Any) -> dict[str, Any]:
        for step in (1, 2, 3):
            tracker.log({"train/e/loss": step}, step=step)
        raise RuntimeError("lost")

    def works(config: Any, directory: RunDirectory, tracker: Any) -> dict[str, Any]:
        seen.append(directory.resumed)
        for step in (2, 3, 4):
            tracker.log({"train/e/loss": step * 10}, step=step)
        return {"mean_reward": 0.75}

    with pytest.raises(RuntimeError, match="lost"):
        run(fails)
    assert run(works) == 0.75
    assert run(works) == 0.75  # skipped: `works` is not called again
    assert seen == [True]
    (path,) = (tmp_path / "runs").rglob("summary.json")
    assert json.loads(path.read_text()) == {"schema_version": 1, "mean_reward": 0.75}
    assert json.loads((path.parent / "status.json").read_text())["state"] == "done"
    rows = [json.loads(line) for line in (path.parent / "metrics.jsonl").read_text().splitlines()]
    # Steps 2 and 3 are repetitions: what was recorded first stays, and each step is recorded once.
    assert [(row["step"], row["learner/e/train/loss"]) for row in rows] == [(1, 1), (2, 2), (3, 3), (4, 40)]


def test_code_that_ends_the_program_fails_its_run(run: Callable[..., float | None], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"code of this run ended the program with sys.exit\(0\)"):
        run(lambda *_: sys.exit(0))
    (path,) = (tmp_path / "runs").rglob("status.json")
    status = json.loads(path.read_text())
    assert status["state"] == "failed"
    assert "sys.exit(0)" in status["error"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said_before_anything_is_opened(
    run: Callable[..., float | None], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"hardware\.device=cuda: no GPU"):
        run(lambda *_: {}, "hardware=cuda")
    assert not list((tmp_path / "runs").rglob("status.json"))


def test_device_auto_is_decided_before_the_hash(tmp_path: Path) -> None:
    auto = job.resolve(composed("hardware=auto", f"runs_dir={tmp_path}"), NAMES)
    named = job.resolve(composed(f"hardware.device={auto['hardware']['device']}", f"runs_dir={tmp_path}"), NAMES)
    assert identity(auto, "f") == identity(named, "f")
