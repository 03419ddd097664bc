"""A study that goes on over several visits. Its runs_dir travels, and finished runs are not run again.

If the weights of ``offline_pair`` are on the machine, the study is that experiment. Otherwise it is the embedded
comparison: every method and seed once in bfloat16 and once in float32, and the difference between the two.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.gpu.checks import PATIENCE, ROOT, ended
from benchmarks.gpu.kit import Kit, Number
from emorl_bench.core.errors import UserError
from emorl_bench.indicators.intervals import t_interval
from emorl_bench.offline import directory
from emorl_bench.report.read import Run, read_runs
from emorl_bench.runner.recorded import recorded_config

WEIGHTS = ("smollm2_135m", "minilm_l6")  # the weights that experiment=offline_pair needs
DATA = "EMORL_BENCH_PAIR_DATA"  # environment variable: the directory with the data of task=pair
METHODS = ("weighted_scst", "emorl", "param_merge", "weighted_ppo", "cory", "base")
SEEDS = (0, 1, 2, 3, 4)
TYPES = ("bfloat16", "float32")
WORKERS = 8
MICRO = [
    "budget=smoke", "budget.prompts=8", "budget.training.batch_prompts=4", "budget.select_prompts=2",
    "budget.report_prompts=4", "preferences.divisions=1", "decoding=[greedy]",
]  # fmt: skip


def go_on(kit: Kit) -> None:
    """Run what is left of the study until the time is over, and read the runs of this visit and of earlier ones."""
    kit.settings.runs.mkdir(parents=True, exist_ok=True)
    asked, what = study(kit)
    kit.say(f"study: {what}, in {kit.settings.runs}")
    command = [sys.executable, "-m", "emorl_bench.cli", "-m", *asked, f"runs_dir={kit.settings.runs}"]
    output = kit.settings.out / "study.txt"
    paths = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    with output.open("w") as file:
        process = subprocess.Popen(
            [*command, *here(kit)], stdout=file, stderr=subprocess.STDOUT, cwd=kit.settings.out,
            env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        whole = ended(process, kit.left - 2 * PATIENCE)
    runs, unfinished = read_runs(kit.settings.runs)
    if not whole:
        kit.short_of(
            "the rest of the study", f"{len(unfinished)} runs are under way; the same --runs goes on with them"
        )
    elif process.returncode:
        kit.fail("the study", f"ended with {process.returncode}; see {output.name}", output.read_text()[-4000:])
    kit.number("study/runs", Number("study", f"{what}: runs that are done", len(runs), "runs"))
    compare_types(kit, runs)


def study(kit: Kit) -> tuple[list[str], str]:
    """The overrides of the sweep, with the seeds outermost, and the name of the study."""
    seeds = f"seed={','.join(map(str, SEEDS[:1] if kit.settings.quick else SEEDS))}"
    data = os.environ.get(DATA)
    if not kit.settings.quick and data and weights_are_here():
        asked = ["experiment=offline_pair", f"task.data_dir={data}", "hardware.dtype=bfloat16"]
        return [seeds, f"method={','.join(METHODS)}", *asked], "offline_pair"
    methods = METHODS[:1] if kit.settings.quick else METHODS
    size = MICRO if kit.settings.quick else ["budget=short"]
    asked = [seeds, f"method={','.join(methods)}", f"hardware.dtype={','.join(TYPES)}"]
    return [*asked, *size], "embedded comparison, bfloat16 against float32"


def here(kit: Kit) -> list[str]:
    """The overrides that belong to this machine."""
    gpu = kit.device.type == "cuda"
    return ["tracker=local", f"hardware.device={kit.device.type}", f"hydra.launcher.workers={WORKERS if gpu else 2}"]


def weights_are_here() -> bool:
    """Whether all weights of ``offline_pair`` are on the machine."""
    try:
        return all(directory(name).is_dir() for name in WEIGHTS)
    except UserError:
        return False


def compare_types(kit: Kit, runs: Sequence[Run]) -> None:
    """Record bfloat16 less float32 of the same method and seed: the mean over seeds and its 95 % interval."""
    scores: dict[tuple[str, int], dict[str, Run]] = defaultdict(dict)
    for run in runs:
        scores[run.method, run.seed][type_of(run.dir)] = run
    pairs: dict[str, list[float]] = defaultdict(list)
    for (method, _), by_type in scores.items():
        if set(by_type) >= set(TYPES):
            half, whole = (mean_reward(by_type[name]) for name in TYPES)
            pairs[method].append(half - whole)
    everything = {"all methods": [gap for gaps in pairs.values() for gap in gaps]} if len(pairs) > 1 else {}
    for method, gaps in (pairs | everything).items():
        interval = t_interval(gaps)
        facts: dict[str, float] = {"pairs": len(gaps)}
        if np.isfinite(interval.low):
            facts |= {"low_95": interval.low, "high_95": interval.high}
        what = f"mean reward of {method}, greedy, bfloat16 less float32"
        key = f"study/bfloat16_less_float32/{method.replace(' ', '_')}"
        kit.number(key, Number("study", what, interval.mean, "reward", facts=facts, raw=tuple(gaps)))


def type_of(run: Path) -> str:
    """The dtype of a run's base model."""
    return str(recorded_config(run)["hardware"]["dtype"])


def mean_reward(run: Run) -> float:
    """The mean reward of the greedy answers at the uniform preference."""
    return float(run.decoding["greedy"]["uniform"]["mean_reward"])
