"""Every method runs on the device from its configuration to its summary, through the program that a user runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from on_device import DEVICE, ON_GPU, QUICK, needs_device

from emorl_bench.config.compose import conf_dir

pytestmark = [pytest.mark.gpu, needs_device]

ROOT = Path(__file__).parents[2]
CORE = ("cory", "weighted_ppo", "weighted_scst", "emorl", "param_merge", "single_objective", "base")  # in both types
KNOWN = sorted(path.stem for path in (conf_dir() / "method").glob("*.yaml"))
METHODS = ("weighted_scst",) if QUICK else (*CORE, *(name for name in KNOWN if name not in CORE))
CASES = {"bfloat16": METHODS, "float32": () if QUICK else CORE}
SMALL = [
    "budget=smoke",
    "budget.prompts=24",
    "budget.training.batch_prompts=4",
    "budget.select_prompts=4",
    "budget.report_prompts=4",
    "preferences.divisions=1",
    "tracker=local",
    f"hardware.device={DEVICE.type}",
    f"hydra.launcher.workers={8 if ON_GPU else 2}",
]
MISSING = "needs the extra"  # what a method says whose package is not installed


def sweep(directory: Path, methods: tuple[str, ...], dtype: str) -> Path:
    """One sweep; a job that fails does not end it, and leaves its error in its status."""
    asked = [f"method={','.join(methods)}", f"hardware.dtype={dtype}", f"runs_dir={directory}"]
    command = [sys.executable, "-m", "emorl_bench.cli", "-m", *asked, *SMALL]
    paths = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": paths}
    done = subprocess.run(command, capture_output=True, text=True, cwd=directory, env=environment, check=False)
    (directory / "sweep.txt").write_text(done.stdout + done.stderr)
    return directory


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The sweep of one type, made when it is first asked for."""
    return cache(lambda dtype: sweep(tmp_path_factory.mktemp(dtype), CASES[dtype], dtype))


def check(runs: Path, method: str) -> None:
    said = (runs / "sweep.txt").read_text()
    lines = [line for line in said.splitlines() if f" method={method} " in f"{line} "]
    if any(MISSING in line for line in lines) or any(MISSING in text for text in logs(runs, method)):
        pytest.skip(f"{method} needs a package that is not installed")
    found = list(runs.glob(f"reflections/*/{method}/s0-*/summary.json"))
    assert len(found) == 1, "\n".join([*lines, said[-2000:]])
    points = json.loads(found[0].read_text())["decoding"]["greedy"]["points"]
    assert all(0 <= value <= 1 for point in points for value in point["objectives"].values())


def logs(runs: Path, method: str) -> list[str]:
    statuses = runs.glob(f"reflections/*/{method}/s0-*/status.json")
    return [str(json.loads(path.read_text()).get("error")) for path in statuses]


@pytest.mark.parametrize(("dtype", "method"), [(dtype, method) for dtype in CASES for method in CASES[dtype]])
def test_a_method_runs(runs: Callable[[str], Path], dtype: str, method: str) -> None:
    check(runs(dtype), method)
