"""Several GPUs: a sweep of two jobs for each of them, one run in several processes, and a base that they share.

What is run is the embedded task at ``budget=smoke``: it shows that every GPU is used and that answers agree. A job is
short, so starting its process is a large part of it, and the speedup is that of a sweep of short jobs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.gpu.checks import PATIENCE, ROOT
from benchmarks.gpu.kit import Kit, Number
from benchmarks.gpu.study import mean_reward
from emorl_bench.launch.slots import VISIBLE, visible_gpus
from emorl_bench.report.read import Run, read_runs

JOBS_EACH = 2
RUN = ("method=weighted_scst", "budget=smoke", "tracker=local")
OCCUPIED_MIB = 200  # a process that computes on a GPU takes more than this for its libraries alone
SMI = ("nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits")
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Done:
    """What a command took.

    Attributes:
        seconds: its wall time.
        runs: the runs that it has finished.
        gpus: the GPUs whose memory it used; None where nvidia-smi does not say.
    """

    seconds: float
    runs: Sequence[Run]
    gpus: int | None


def measure_several(kit: Kit) -> None:
    """Measure what several GPUs are good for; one GPU, or none, is a reason to leave all of it out."""
    gpus = visible_gpus() if kit.device.type == "cuda" else []
    if len(gpus) < 2:
        kit.skip("a sweep over all GPUs, one run in several processes, a shared base", f"torch sees {len(gpus)} GPU(s)")
        return
    if kit.wants("a sweep over all GPUs", "several/sweep"):
        with kit.attempt("a sweep over all GPUs", "several/sweep"):
            sweep(kit, gpus)
    if kit.wants("one run in several processes", "several/processes"):
        with kit.attempt("one run in several processes", "several/processes"):
            processes(kit, gpus)


def sweep(kit: Kit, gpus: Sequence[str]) -> None:
    """Time a sweep of two jobs for each GPU on all of them, then one of two jobs on one GPU.

    What the first sweep does for the second, such as filling caches, can only lessen the speedup.
    """
    jobs = JOBS_EACH * len(gpus)
    whole = run(kit, sweep_command(kit, jobs), gpus, "sweep_all", jobs)
    alone = run(kit, sweep_command(kit, JOBS_EACH), gpus[:1], "sweep_one", JOBS_EACH)
    facts: dict[str, float] = {"gpus": len(gpus), "jobs": jobs, "one_gpu_two_jobs_s": alone.seconds}
    if whole.gpus is not None:
        facts |= {"gpus_used": whole.gpus, "jobs_per_gpu": jobs / max(1, whole.gpus)}
        if whole.gpus < len(gpus):
            kit.fail("a sweep over all GPUs", f"it used {whole.gpus} of {len(gpus)}")
    speedup = len(gpus) * alone.seconds / whole.seconds
    what = f"a sweep of {jobs} jobs on {len(gpus)} GPUs"
    over = "jobs a second over those of one GPU"
    kit.number("several/sweep", Number("several", what, whole.seconds, "s", speedup, over, facts))


def processes(kit: Kit, gpus: Sequence[str]) -> None:
    """The same run in one process, in one for each GPU, and there with the base divided among them."""
    ways = {
        "one_process": (one_command(kit), gpus[:1]),
        "data_parallel": (torchrun_command(kit, len(gpus)), gpus),
        "shared_base": ([*torchrun_command(kit, len(gpus)), "hardware.shard_base=true"], gpus),
    }
    found = {name: run(kit, [*command, rows(gpus)], own, name, 1) for name, (command, own) in ways.items()}
    first = found["one_process"]
    for name, done in found.items():
        gap = mean_reward(done.runs[0]) - mean_reward(first.runs[0])
        facts = {"reward_less_one_process": gap}
        what = f"one run, {name.replace('_', ' ')}, {len(ways[name][1])} GPU(s)"
        ratio = done.seconds / first.seconds
        kit.number(
            f"several/{name}", Number("several", what, done.seconds, "s", ratio, "over one process, time", facts)
        )


def rows(gpus: Sequence[str]) -> str:
    """The override that makes the rows of an update a multiple of the processes."""
    return f"budget.training.batch_prompts={4 * len(gpus)}"


def one_command(kit: Kit) -> list[str]:
    """One run in one process."""
    return [sys.executable, "-m", "emorl_bench.cli", *RUN, f"hardware={kit.device.type}"]


def sweep_command(kit: Kit, jobs: int) -> list[str]:
    """A sweep under the process launcher, which gives out the GPUs by itself."""
    program = [sys.executable, "-m", "emorl_bench.cli", "-m"]
    return [*program, *RUN, f"hardware={kit.device.type}", f"seed={','.join(map(str, range(jobs)))}"]


def torchrun_command(kit: Kit, count: int) -> list[str]:
    """One run in so many processes."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count)]
    return [*launcher, "-m", "emorl_bench.cli", *RUN, f"hardware={kit.device.type}"]


def run(kit: Kit, command: Sequence[str], gpus: Sequence[str], name: str, jobs: int) -> Done:
    """Run a command that sees these GPUs alone, in a runs_dir of its own.

    Raises:
        AssertionError: it ended with an error, was stopped, or has not finished all its jobs.
    """
    directory, output = kit.settings.out / "several" / name, kit.settings.out / f"several_{name}.txt"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    before, used, began = memory_used(), set[int](), time.monotonic()
    with output.open("w") as file:
        process = subprocess.Popen(
            [*command, f"runs_dir={directory}"], stdout=file, stderr=subprocess.STDOUT, cwd=kit.settings.out,
            env=environment(gpus),
        )  # fmt: skip
        while process.poll() is None and kit.left > 2 * PATIENCE:
            time.sleep(POLL_SECONDS)
            used |= {i for i, mib in memory_used().items() if mib - before.get(i, 0) > OCCUPIED_MIB}
        stopped = process.poll() is None
        if stopped:
            process.terminate()
            process.wait(PATIENCE)
    seconds, found = time.monotonic() - began, list(read_runs(directory)[0])
    if stopped or process.returncode or len(found) < jobs:
        kit.log(output.read_text()[-4000:])
        how = "was stopped" if stopped else f"ended with {process.returncode}"
        raise AssertionError(f"{name}: {how}, {len(found)} of {jobs} runs are done; see {output.name}")
    return Done(seconds, found, len(used) if before else None)


def environment(gpus: Sequence[str]) -> Mapping[str, str]:
    """The environment of a command that sees these GPUs."""
    paths = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    return os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", VISIBLE: ",".join(gpus)}


def memory_used() -> dict[int, int]:
    """MiB that are taken of every GPU of the machine; empty where nvidia-smi does not say."""
    if shutil.which(SMI[0]) is None:
        return {}
    try:
        said = subprocess.run(SMI, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
        return {i: int(line) for i, line in enumerate(said.split())}
    except (OSError, subprocess.SubprocessError, ValueError):
        return {}
