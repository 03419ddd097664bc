"""``emorl-bench``: run one configuration, or a sweep of them, with Hydra.

Everything that can be checked in the configuration is checked before Hydra starts a job.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from emorl_bench.cli.harness import one_line, run_hydra
from emorl_bench.config import schema
from emorl_bench.core.signals import sigterm_interrupts
from emorl_bench.launch import plugins
from emorl_bench.launch.job_process import run_apart
from emorl_bench.runner.dry_run import dry_run

PROGRAM = "emorl-bench"


def task(config: DictConfig) -> float | None:
    """Run one job. Each job of a sweep has a process of its own, which is started here or by its launcher."""
    hydra_config = HydraConfig.get()
    work = partial(_run, config, list(hydra_config.overrides.task), dict(hydra_config.runtime.choices))
    if hydra_config.mode == RunMode.MULTIRUN:
        own = plugins.own_process(hydra_config.launcher["_target_"])
        value: float | None = work() if own else run_apart(work, hydra_config.job_logging)
        return value
    with one_line(PROGRAM, again="continues"):
        return work()


def _run(config: DictConfig, overrides: list[str], names: dict[str, Any]) -> float | None:
    from emorl_bench.runner.job import run

    return run(config, overrides, names)


def main() -> None:
    """Run the program."""
    schema.register()
    plugins.register()
    with sigterm_interrupts():
        run_hydra(PROGRAM, "config", task, again="continues", dry_run=dry_run)


if __name__ == "__main__":
    from emorl_bench.cli import bench  # other processes find `task` under this name only

    bench.main()
