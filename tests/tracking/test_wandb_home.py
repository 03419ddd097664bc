"""W&B where the home directory cannot be written: its tables wait in the directory of the runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from emorl_bench.tracking.view import RunIdentity
from emorl_bench.tracking.wandb import Wandb

VARIABLES = ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "XDG_DATA_HOME", "XDG_CACHE_HOME")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunIdentity:
    for variable in VARIABLES:  # set first, so that what the code sets is undone as well
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    directory = tmp_path / "runs" / "t" / "m" / "emorl" / "s3-ab12cd34"
    directory.mkdir(parents=True)
    return RunIdentity(
        id="ab12cd34", method="emorl", task="t", model="m", seed=3, sweep="5eed5eed", directory=directory,
        runs_dir=tmp_path / "runs", config={"seed": 3},
    )  # fmt: skip


def log_a_table(run: RunIdentity) -> None:
    view = Wandb("emorl-bench", None, "offline").open(run, [])
    view.log({"train/reward": 0.5, "data_points": 1.0}, row=1)
    view.table("samples", [{"prompt": "p", "response": "r"}])
    view.close("done")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a directory that nobody can write")
def test_a_home_that_cannot_be_written_does_not_end_the_tracker(
    run: RunIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/proc")
    log_a_table(run)
    assert list(run.runs_dir.glob("wandb/offline-run-*/files/media/table/tables/samples*.json"))
    assert Path(os.environ["WANDB_DATA_DIR"]).is_relative_to(run.runs_dir.resolve())


def test_elsewhere_wandb_keeps_its_own_places(
    run: RunIdentity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    log_a_table(run)
    assert "WANDB_DATA_DIR" not in os.environ
    monkeypatch.setenv("HOME", "/proc")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "chosen"))  # what the user says counts
    log_a_table(run)
    assert os.environ["WANDB_DATA_DIR"] == str(tmp_path / "chosen")
