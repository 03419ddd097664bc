"""Places for the jobs of a sweep, with device lists that are made up: no GPU is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from emorl_bench.config import hardware
from emorl_bench.launch import slots as places
from emorl_bench.launch.ray_launcher import at_once, resources_of
from emorl_bench.launch.slots import gpus_to_ask, slots, visible_gpus

JOB = {"device": "auto", "threads": 1, "scorer_device": None}
ON_CPU = {**JOB, "device": "cpu"}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """A machine of so many GPUs and cores."""

    def of(gpus: int, cores: int, visible: str | None = None) -> None:
        monkeypatch.setattr(places, "may_have_gpu", lambda: gpus > 0)
        monkeypatch.setattr(places, "_count", lambda: gpus)
        monkeypatch.setattr(places, "cores", lambda: cores)
        monkeypatch.delenv(places.VISIBLE, raising=False)
        if visible is not None:
            monkeypatch.setenv(places.VISIBLE, visible)

    return of


def test_sixteen_jobs_use_all_of_eight_gpus(machine) -> None:
    machine(8, 64)
    found = slots(None, 1, [JOB] * 16)
    assert [slot.environment(JOB)[places.VISIBLE] for slot in found] == [str(i) for i in range(8)]
    assert {slot.environment(JOB)[hardware.CORES] for slot in found} == {"8"}


@pytest.mark.parametrize(
    ("workers", "per_gpu", "jobs", "shares"),
    [(None, 2, 16, [2] * 8), (None, 1, 3, [1] * 3), (12, 1, 16, [2] * 4 + [1] * 4), (4, 3, 16, [1] * 4)],
)
def test_workers_are_spread_evenly(machine, workers, per_gpu, jobs, shares) -> None:
    machine(8, 64)
    assert sorted(Counter(s.gpu for s in slots(workers, per_gpu, [JOB] * jobs)).values(), reverse=True) == shares


def test_the_users_own_list_of_gpus_is_kept(machine) -> None:
    machine(2, 8, "5,GPU-7f")
    assert [slot.gpu for slot in slots(None, 1, [JOB] * 4)] == ["5", "GPU-7f"]
    machine(1, 8, "5,99")  # torch counts the entries up to the first one that is not there
    assert visible_gpus() == ["5"]
    machine(8, 8, "")  # what hides all GPUs
    assert visible_gpus() == []


def test_jobs_on_the_cpu_and_jobs_that_name_gpus_by_number_are_not_pinned(machine) -> None:
    machine(4, 8)
    (first, *_) = slots(None, 1, [JOB, ON_CPU])
    assert places.VISIBLE not in first.environment(ON_CPU)
    for key in ("device", "scorer_device"):
        assert places.VISIBLE not in first.environment({**JOB, key: "cuda:1"})
    assert [slot.gpu for slot in slots(None, 1, [ON_CPU] * 4)] == [None] * 2


@pytest.mark.parametrize(
    ("cores", "workers", "threads", "count", "each"),
    [(16, None, 1, 2, 8), (16, 4, 1, 4, 4), (16, 8, 4, 4, 4), (2, 8, 1, 2, 1), (16, 4, None, 4, 4), (1, None, 8, 1, 1)],
)
def test_cores_are_divided_where_there_is_no_gpu(machine, cores, workers, threads, count, each) -> None:
    machine(0, cores)
    found = slots(workers, 1, [{**JOB, "threads": threads}] * 20)
    assert (len(found), {slot.cores for slot in found}) == (count, {each})


def test_threads_null_is_the_share_that_the_launcher_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "cores", lambda: 12)
    monkeypatch.delenv(hardware.CORES, raising=False)
    assert hardware.threads({"threads": None}) == 12
    monkeypatch.setenv(hardware.CORES, "3")
    assert hardware.threads({"threads": None}) == 3
    assert hardware.threads({"threads": 2}) == 2


def test_ray_gives_a_job_one_gpu_where_the_cluster_has_any() -> None:
    open_job = {"num_cpus": 2, "num_gpus": None}
    assert resources_of(open_job, {"CPU": 16, "GPU": 8}, [JOB])["num_gpus"] == 1
    assert resources_of(open_job, {"CPU": 16}, [JOB])["num_gpus"] == 0
    assert resources_of(open_job, {"CPU": 16, "GPU": 8}, [ON_CPU])["num_gpus"] == 0
    assert resources_of({"num_cpus": 2, "num_gpus": 0.5}, {"CPU": 16, "GPU": 8}, [JOB])["num_gpus"] == 0.5
    assert at_once({"num_cpus": 1, "num_gpus": 1}, {"CPU": 16, "GPU": 3}) == 3
    assert at_once({"num_cpus": 4, "num_gpus": 0}, {"CPU": 16, "GPU": 3}) == 4


def test_submitit_is_asked_for_one_gpu_where_there_are_any(machine, tmp_path, monkeypatch) -> None:
    local, slurm = {"_target_": "x.LocalLauncher"}, {"_target_": "x.SlurmLauncher", "partition": "big"}
    machine(2, 8)
    assert gpus_to_ask(local, JOB) == 1
    assert gpus_to_ask(local, ON_CPU) is None
    assert gpus_to_ask({**local, "gpus_per_node": 2}, JOB) is None
    machine(0, 8)
    assert gpus_to_ask(local, JOB) is None
    sinfo = tmp_path / "sinfo"
    for resources, asked in (("gpu:a100:4(S:0-1),nvme:1", 1), ("(null)", None)):
        sinfo.write_text(f'#!/bin/sh\ncase "$*" in *--partition=big*) echo "{resources}";; esac\n')
        sinfo.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        assert gpus_to_ask(slurm, JOB) == asked
    assert gpus_to_ask({**slurm, "gres": "gpu:2"}, JOB) is None


PROGRAM = """
import json, os
from pathlib import Path
import hydra
from emorl_bench.launch import job_process, plugins, slots
from emorl_bench.config import schema
from emorl_bench.config.compose import conf_dir

job_process.PRELOAD.clear()
slots.may_have_gpu, slots._count = lambda: True, lambda: 3
schema.register()
plugins.register()


def task(config):
    seen = {name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "EMORL_BENCH_CORES")}
    Path(config.runs_dir, f"{config.seed}.json").write_text(json.dumps(seen))
    return 0.0


if __name__ == "__main__":
    hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(task)()
"""


def test_a_sweep_tells_every_job_which_gpu_is_its_own(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "runs").mkdir()
    given = {k: v for k, v in os.environ.items() if k != places.VISIBLE}
    done = subprocess.run(
        [sys.executable, str(tmp_path / "program.py"), "-m", f"runs_dir={tmp_path / 'runs'}", "seed=0,1,2,3,4,5"],
        cwd=tmp_path, env=given, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 jobs, 3 at a time on 3 GPUs" in done.stdout
    seen = [json.loads((tmp_path / "runs" / f"{seed}.json").read_text())[places.VISIBLE] for seed in range(6)]
    assert seen[:3] == ["0", "1", "2"]
    assert set(seen[3:]) <= {"0", "1", "2"}
