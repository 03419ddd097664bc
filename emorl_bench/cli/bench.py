"""``emorl-bench``: run one configuration, or a sweep of them, with Hydra.

Everything that can be checked in the configuration is checked before Hydra starts a job. ``emorl-bench status RUNS``
shows the runs of a directory, and ``emorl-bench list methods`` what there is to choose from.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from emorl_bench.cli.harness import one_line, run_hydra
from emorl_bench.cli.looking import COMMANDS
from emorl_bench.config import schema
from emorl_bench.config.compose import chosen, plain
from emorl_bench.core.signals import signals_interrupt
from emorl_bench.core.terminal import tolerate
from emorl_bench.launch import plugins
from emorl_bench.launch.job_process import run_apart
from emorl_bench.launch.run_value import RunValue
from emorl_bench.runner import finished, sweep
from emorl_bench.runner.dry_run import dry_run

PROGRAM = "emorl-bench"


def task(config: DictConfig) -> float | None:
    """Run one job, unless it was done before.

    Each job of a sweep has a process of its own, which is started here or by its launcher.
    """
    hydra_config = HydraConfig.get()
    choices = dict(hydra_config.runtime.choices)
    work = partial(_run, config, list(hydra_config.overrides.task), choices)
    if hydra_config.mode != RunMode.MULTIRUN:
        with one_line(PROGRAM, again="continues"):
            return _one(finished.recall({**plain(config), "names": chosen(choices)}), work)
    if plugins.own_process(hydra_config.launcher["_target_"]):
        return work()
    before = finished.recall({**plain(config), "names": chosen(choices)})
    value: float | None = run_apart(work, hydra_config.job_logging) if before is None else before
    return value


def _one(before: RunValue | None, work: Callable[[], float | None]) -> float | None:
    """A run that is no part of a sweep ends with its scores."""
    if before is not None:
        print(f"done before: {before.path} (force=true runs it again)", flush=True)
    value = work() if before is None else before
    if isinstance(value, RunValue) and os.environ.get("RANK", "0") == "0":
        print("\n".join(["", *sweep.scores(Path(value.path))]), flush=True)
    return value


def _run(config: DictConfig, overrides: list[str], names: dict[str, Any]) -> float | None:
    from emorl_bench.runner.job import run

    return run(config, overrides, names)


def main() -> None:
    """Run the program."""
    if len(sys.argv) > 1 and sys.argv[1] in COMMANDS:
        tolerate()
        with one_line(PROGRAM):
            COMMANDS[sys.argv[1]](sys.argv[2:])
        return
    schema.register()
    plugins.register()
    sweep.register()
    with signals_interrupt():
        run_hydra(PROGRAM, "config", task, again="continues", dry_run=dry_run)


if __name__ == "__main__":
    from emorl_bench.cli import bench  # other processes find `task` under this name only

    bench.main()
