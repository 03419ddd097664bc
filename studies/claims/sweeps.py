"""The sweeps of the study: each is one file in ``sweeps/`` and the commands that run it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.timing import say
from emorl_bench.core.errors import UserError, did_you_mean
from emorl_bench.report.comparison import comparisons
from emorl_bench.report.packed import SUFFIX, pack
from emorl_bench.report.read import read_runs

FILES = Path(__file__).resolve().parents[2] / "sweeps"
DIVERSITY = "+scorer@task.scorers.diversity_2=diversity_2"
SWEEPS: Mapping[str, Sequence[Sequence[str]]] = {
    "main": ((),),
    "change": ((),),
    "objectives": (
        ("~task.scorers.fluency",),
        (),
        (DIVERSITY,),
        (DIVERSITY, "+scorer@task.scorers.length_band=length_band"),
    ),
    "kl": ((),),
    "dynamic": ((),),
    "offpolicy": ((), ("method=agro_offline", "update=rloo")),
}
"""Sweep -> the overrides of each of its commands, in the order of docs/study.md."""
DETAILED = 1  # seeds of each row whose answers are packed


def run_sweep(name: str, runs: Path, out: Path, overrides: Sequence[str] = ()) -> None:
    """Run what is left of a sweep, then pack its finished runs into ``out``.

    Jobs that fail do not keep the others from being packed; the report of a later command lists them.

    Raises:
        UserError: there is no sweep of this name, or no run has finished.
    """
    if name not in SWEEPS:
        raise UserError(f"--sweeps {name}: unknown{did_you_mean(name, SWEEPS)}; give some of {', '.join(SWEEPS)}")
    for own in SWEEPS[name]:
        command = [*_program(name), *own, *overrides, f"runs_dir={runs / name}"]
        say(" ".join(command))
        if (status := subprocess.run(command, check=False).returncode) != 0:
            say(f"study_{name}: ended with exit status {status}; the same command goes on")
    pack_sweep(name, runs, out)


def pack_sweep(name: str, runs: Path, out: Path) -> None:
    """Pack the finished runs of a sweep.

    Raises:
        UserError: no run has finished.
    """
    root = runs / name
    finished, unfinished = read_runs(root)
    if not finished:
        raise UserError(f"--runs {root}: none of {len(unfinished)} runs has finished; look at their status.json")
    pack(comparisons(finished), [root], out / f"{name}{SUFFIX}", DETAILED)
    say(f"study_{name}: {len(finished)} runs packed, {len(unfinished)} not finished")


def _program(name: str) -> list[str]:
    return [sys.executable, "-m", "emorl_bench.cli", "--config-dir", str(FILES), "--config-name", f"study_{name}"]
