"""The runs behind ``emorl-assets check``: default settings, each task and embedded model, resumable in one runs_dir."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from emorl_bench.core.errors import UserError

COMMON = ("budget=short", "budget.ladder=[1.0]", "decoding=[greedy]", "tracker=local")
UNSEEN = {  # task -> prompts that no choice in its design has looked at
    "reflections": "task.graded_on=audit",
    "sums": "task.split_seed=977",
}
EVERY_MODEL: Mapping[str, Sequence[str]] = dict.fromkeys(UNSEEN, ("tiny_t5", "tiny_gpt2"))  # task -> models
MAIN_CELLS: Mapping[str, Sequence[str]] = {"reflections": ("tiny_t5",), "sums": ("tiny_gpt2",)}
Sweep = tuple[str, ...]  # overrides of one multirun
BASES: Sweep = ("method=base", "seed=0")
FULL: tuple[Sweep, ...] = (
    BASES,
    ("method=weighted_scst,rloo", "seed=range(0,10)"),
    ("method=cory,emorl,weighted_ppo,grpo", "seed=range(0,5)"),
    ("method=morlhf", "method.each=true", "seed=0"),
)
QUICK: tuple[Sweep, ...] = (("method=weighted_scst,emorl", "seed=0"), BASES)


def run(runs: Path, sweeps: Sequence[Sweep], *, models: Mapping[str, Sequence[str]] = EVERY_MODEL) -> None:
    """Complete every run of some sweeps, on the models of each task. Finished runs are skipped.

    Raises:
        UserError: a sweep failed.
    """
    for task, prompts in UNSEEN.items():
        for sweep in sweeps:
            overrides = [
                *COMMON,
                f"task={task}",
                prompts,
                f"model={','.join(models[task])}",
                *sweep,
                f"runs_dir={runs}",
            ]
            command = [sys.executable, "-m", "emorl_bench.cli", "-m", *overrides]
            if subprocess.run(command, check=False).returncode != 0:
                raise UserError(f"the check's runs failed: {' '.join(command)}; the same command goes on")
