"""The ``processes`` launcher: jobs have a process each, one that dies costs one job, and none outlives its sweep."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import json, os, resource, signal, time
from pathlib import Path
import hydra
from emorl_bench.launch import job_process, plugins
from emorl_bench.config import schema
from emorl_bench.config.compose import conf_dir

job_process.PRELOAD.clear()  # nothing heavy: these jobs do not learn
schema.register()
plugins.register()


def task(config):
    note = Path(config.runs_dir) / f"{config.seed}.json"
    note.write_text(json.dumps({"pid": os.getpid()}))
    if config.reward == "log":
        time.sleep(60)
    if config.seed == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if config.seed == 2:
        raise ValueError("two is\\nnot liked")
    if config.seed == 3:
        bytearray(300 * 2**20)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    note.write_text(json.dumps({"pid": os.getpid(), "peak": peak}))
    return float(config.seed)


if __name__ == "__main__":
    hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(task)()
"""


def command(tmp_path: Path, *arguments: str) -> list[str]:
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "runs").mkdir()
    return [sys.executable, str(tmp_path / "program.py"), "-m", f"runs_dir={tmp_path / 'runs'}", *arguments]


def note(tmp_path: Path, seed: int) -> dict[str, Any]:
    value = json.loads((tmp_path / "runs" / f"{seed}.json").read_text())
    assert isinstance(value, dict)
    return value


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "zombie" not in Path(f"/proc/{pid}/status").read_text() if Path(f"/proc/{pid}/status").exists() else True


def within(seconds: float, holds: Any) -> bool:
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)
    return bool(holds())


def test_failed_jobs_are_listed_and_the_rest_goes_on(tmp_path: Path) -> None:
    arguments = command(tmp_path, "seed=0,1,2,3,4", "hydra.launcher.workers=1")
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "[5/5] done" in done.stdout
    assert "2 of 5 jobs failed:" in done.stderr
    assert "seed=1: killed by SIGKILL (out of memory?)" in done.stderr
    assert "seed=2: ValueError: two is not liked" in done.stderr
    assert "Traceback" not in done.stderr  # it is in the job's own log
    (log,) = (tmp_path / "runs" / ".sweeps").rglob("2.log")
    assert "Traceback" in log.read_text()
    assert len({note(tmp_path, seed)["pid"] for seed in range(5)}) == 5
    assert note(tmp_path, 3)["peak"] - note(tmp_path, 4)["peak"] > 200 * 1024  # a peak is the job's own
    assert sorted(path.name for path in tmp_path.iterdir()) == ["program.py", "runs"]


def test_a_sweep_that_succeeds_exits_with_zero(tmp_path: Path) -> None:
    done = subprocess.run(command(tmp_path, "seed=0,4"), cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert "about" in done.stdout.splitlines()[1]


def test_hydras_basic_launcher_runs_the_same_jobs(tmp_path: Path) -> None:
    arguments = command(tmp_path, "seed=0,4", "hydra/launcher=basic")
    subprocess.run(arguments, cwd=tmp_path, capture_output=True, timeout=120, check=True)
    assert note(tmp_path, 0)["pid"] == note(tmp_path, 4)["pid"]


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGKILL])
def test_no_job_outlives_its_sweep(tmp_path: Path, blow: signal.Signals) -> None:
    arguments = command(tmp_path, "seed=5", "reward=log")
    with subprocess.Popen(arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as sweep:
        assert within(60, (tmp_path / "runs" / "5.json").exists)
        assert within(5, lambda: (tmp_path / "runs" / "5.json").read_text())
        pid = note(tmp_path, 5)["pid"]
        assert alive(pid)
        sweep.send_signal(blow)
        sweep.communicate(timeout=120)
    assert within(10, lambda: not alive(pid))
