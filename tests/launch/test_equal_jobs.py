"""Sweeps whose jobs are the same, or that begin at the same time, or whose temporary directory has a long name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from support.composing import composed

from emorl_bench.core.errors import UserError
from emorl_bench.launch import sockets
from emorl_bench.launch.sweep_job import run_of

PROGRAM = """
import json, os, time
from pathlib import Path
import hydra
from emorl_bench.launch import job_process, plugins
from emorl_bench.config import schema
from emorl_bench.config.compose import conf_dir

job_process.PRELOAD.clear()  # nothing heavy: these jobs do not learn
schema.register()
plugins.register()


def task(config):
    began = time.monotonic()
    time.sleep(0.3)
    row = {"seed": config.seed, "threads": config.hardware.threads, "began": began, "ended": time.monotonic()}
    with (Path(config.runs_dir) / "rows").open("a") as rows:
        rows.write(json.dumps(row) + "\\n")
    return float(config.seed)


if __name__ == "__main__":
    hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(task)()
"""


def command(tmp_path: Path, *arguments: str) -> list[str]:
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "runs").mkdir(exist_ok=True)
    return [sys.executable, str(tmp_path / "program.py"), "-m", f"runs_dir={tmp_path / 'runs'}", *arguments]


def rows(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "runs" / "rows").read_text().splitlines()]


def sweep(tmp_path: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(tmp_path, *arguments), cwd=tmp_path, capture_output=True, text=True, timeout=240,
        env={**os.environ, **environment},
    )  # fmt: skip


def test_equal_values_are_run_once(tmp_path: Path) -> None:
    done = sweep(tmp_path, "seed=0,4,0")
    assert done.returncode == 0, done.stderr
    assert "seed=0,4,0: equal values are run once" in done.stdout
    assert sorted(row["seed"] for row in rows(tmp_path)) == [0, 4]


def test_jobs_of_one_run_directory_never_run_at_the_same_time(tmp_path: Path) -> None:
    done = sweep(tmp_path, "hardware.threads=1,2,3", "seed=0", "hydra.launcher.workers=3")
    assert done.returncode == 0
    found = sorted(rows(tmp_path), key=lambda row: row["began"])
    assert sorted(row["threads"] for row in found) == [1, 2, 3]
    assert all(before["ended"] <= after["began"] for before, after in pairwise(found))


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ("hardware.threads=2", True),
        ("force=true", True),
        ("tracker=local", True),
        ("seed=1", False),
        ("model=tiny_gpt2", False),
        ("model.path=elsewhere", False),  # another model, though paths are no part of a run's identity
        ("method=base", False),
        ("runs_dir=elsewhere", False),
    ],
)
def test_what_decides_the_run_directory_tells_jobs_apart(change: str, same: bool) -> None:
    assert (run_of(composed("tracker=wandb")) == run_of(composed("tracker=wandb", change))) is same


def test_sweeps_of_one_second_have_a_directory_each(tmp_path: Path) -> None:
    sweeps = [
        subprocess.Popen(command(tmp_path, f"seed={seed}"), cwd=tmp_path, stdout=-3, stderr=-3) for seed in (5, 6)
    ]
    assert [one.wait(240) for one in sweeps] == [0, 0]
    directories = list((tmp_path / "runs" / ".sweeps").iterdir())
    assert len(directories) == 2
    assert all((path / "multirun.yaml").is_file() and (path / "0.log").is_file() for path in directories)


def test_a_long_temporary_directory_is_no_obstacle(tmp_path: Path) -> None:
    long = tmp_path / ("scratch_of_a_cluster_job_" * 5)
    long.mkdir()
    assert len(str(long)) > sockets.LONGEST
    done = sweep(tmp_path, "seed=0,4", TMPDIR=str(long))
    assert done.returncode == 0, done.stderr
    assert len(rows(tmp_path)) == 2


def test_where_no_short_directory_can_be_written_the_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 100)))
    monkeypatch.setattr(sockets, "SHORT", (str(tmp_path / "absent"),))
    with pytest.raises(UserError, match=r"^TMPDIR=.*set TMPDIR"):
        sockets.choose_place()
