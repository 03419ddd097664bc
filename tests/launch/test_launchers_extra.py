"""The other launchers, by the program a user runs: a process and a ledger a job, failures listed, experts shared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

from emorl_bench.config import launchers, schema
from emorl_bench.config.compose import precheck
from emorl_bench.core.errors import UserError
from emorl_bench.launch import plugins

PROGRAM = Path(sys.executable).parent / "emorl-bench"
SMALL = [
    "budget=smoke",
    "budget.prompts=32",
    "budget.select_prompts=2",
    "budget.report_prompts=2",
    "budget.training.batch_prompts=4",
    "preferences.divisions=1",
    "sampling.max_new_tokens=4",
    "decoding=[greedy]",
    "tracker=local",
    "hardware=cpu",
]
ONE_AT_A_TIME = {  # so that a worker which is used again would show
    "basic": [],
    "joblib": ["hydra.launcher.n_jobs=1"],
    "submitit_local": ["hydra.sweeper.max_batch_size=1"],
    "ray": ["hydra.launcher.local.num_cpus=2", "hydra.launcher.job.num_cpus=2"],
}


def needs(launcher: str) -> None:
    module = {"basic": "hydra", "submitit_slurm": "submitit", "submitit_local": "submitit"}.get(launcher, launcher)
    if find_spec(module) is None:
        pytest.skip(launchers.needs_extra(launcher))


@pytest.fixture
def ray_dir() -> Iterator[str]:
    with tempfile.TemporaryDirectory(
        prefix="r", dir="/tmp", ignore_cleanup_errors=True
    ) as path:  # sockets: 107 letters
        yield path


def sweep(tmp_path: Path, launcher: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(PROGRAM), "-m", f"hydra/launcher={launcher}", *arguments, *SMALL]  # runs_dir is the relative `runs`
    given = os.environ | {"OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"} | environment
    return subprocess.run(command, cwd=tmp_path, env=given, capture_output=True, text=True, timeout=300)


def record(tmp_path: Path, method: str, name: str) -> dict[str, Any]:
    (path,) = tmp_path.glob(f"runs/reflections/tiny_t5/{method}/s0-*/{name}")
    return dict(json.loads(path.read_text()))


@pytest.mark.parametrize("launcher", ONE_AT_A_TIME)
def test_every_job_has_its_process_and_no_failure_hides(launcher: str, tmp_path: Path, ray_dir: str) -> None:
    needs(launcher)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / ".experts").write_text("in the way of whoever needs experts")
    options = [*ONE_AT_A_TIME[launcher], *([f"hydra.launcher.local._temp_dir={ray_dir}"] * (launcher == "ray"))]
    done = sweep(tmp_path, launcher, "method=single_objective,base", *options)
    assert done.returncode == 1, done.stdout + done.stderr

    failed, ended = (record(tmp_path, method, "status.json") for method in ("single_objective", "base"))
    assert (failed["state"], ended["state"]) == ("failed", "done")
    assert failed["pid"] != ended["pid"]
    assert failed["error"]
    listing = done.stderr[done.stderr.index("1 of 2 jobs failed:") :].splitlines()
    assert len(listing) == 2
    assert listing[1].startswith("  method=single_objective: ")  # without the overrides that all jobs have
    assert failed["error"] in listing[1]
    assert record(tmp_path, "base", "cost.json")["evaluate"]["peak_bytes"] > 0


def test_jobs_that_run_at_once_share_their_experts_by_lock(tmp_path: Path) -> None:
    needs("joblib")
    methods = ("emorl", "param_merge")
    done = sweep(tmp_path, "joblib", f"method={','.join(methods)}", "hydra.launcher.n_jobs=2", "method.search.levels=1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len([path for path in (tmp_path / "runs" / ".experts").iterdir() if path.is_dir()]) == 3
    costs = [record(tmp_path, method, "cost.json") for method in methods]
    trained = [{name: cost for name, cost in phases.items() if name.startswith("train/")} for phases in costs]
    assert len(trained[0]) == 3
    assert all(cost["prompts"] == 4 and cost["optimiser_steps"] > 0 for cost in trained[0].values())
    shared = ("prompts", "generated_tokens", "optimiser_steps", "device_seconds", "flops")
    for name, cost in trained[0].items():  # seconds too: each expert was trained once, and both pay for it
        assert {key: cost[key] for key in shared} == {key: trained[1][name][key] for key in shared}


def test_slurm_is_asked_for_one_gpu_a_job(tmp_path: Path) -> None:
    """Stand-ins for Slurm's commands: ``sbatch`` keeps what it is given and refuses it."""
    needs("submitit_slurm")
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, script in {
        "srun": "exit 0",
        "sbatch": f'cp "$1" {tmp_path}/sbatch.sh; echo no queue >&2; exit 1',
    }.items():
        (commands / name).write_text(f"#!/bin/sh\n{script}\n")
        (commands / name).chmod(0o755)
    keys = {"partition": "gpu", "gpus_per_node": 1, "cpus_per_task": 4, "mem_gb": 32, "timeout_min": 90}
    arguments = [f"hydra.launcher.{key}={value}" for key, value in keys.items()]
    path = f"{commands}{os.pathsep}{os.environ['PATH']}"
    done = sweep(tmp_path, "submitit_slurm", "method=base", "seed=0,1,2", *arguments, PATH=path)
    assert done.returncode == 1
    assert "emorl-bench: SlurmLauncher: " in done.stderr
    assert "Traceback" not in done.stderr
    asked = (tmp_path / "sbatch.sh").read_text().splitlines()
    for line in ("partition=gpu", "gpus-per-node=1", "cpus-per-task=4", "mem=32GB", "time=90", "ntasks-per-node=1"):
        assert f"#SBATCH --{line}" in asked
    assert any(line.startswith("#SBATCH --array=0-2") for line in asked)
    assert any("submitit.core._submit" in line for line in asked)


@pytest.mark.parametrize("launcher", launchers.EXTRAS)
def test_a_launcher_that_is_not_installed_names_its_extra(launcher: str, monkeypatch: pytest.MonkeyPatch) -> None:
    schema.register()
    plugins.register()
    Plugins.instance()
    monkeypatch.delitem(ConfigStore.instance().repo["hydra"]["launcher"], f"{launcher}.yaml", raising=False)
    monkeypatch.setattr(launchers, "find_spec", lambda name: None)
    with pytest.raises(UserError) as caught:
        precheck(get_args_parser().parse_args(["-m", f"hydra/launcher={launcher}", "seed=0,1"]))
    extra = launcher.partition("_")[0]
    install = f'pip install -c constraints.txt -e ".[{extra}]"'
    assert str(caught.value) == f"hydra/launcher={launcher} needs the extra: {install}"
