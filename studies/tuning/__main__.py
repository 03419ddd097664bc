"""Tune every method alike: the same number of trials, on seeds that no report uses, chosen on the select split.

``tuning.yaml`` says what is drawn, and ``sweeps/tune.yaml`` which methods, budget and settings. Each trial is one
configuration file of a multirun of ``emorl-bench``. A command that is repeated skips what is done. Trials of all
methods have the same draws of a key that they share. Nothing is chosen by the report split, by held-out scores or by
gold.

    python -m studies.tuning                                    # all methods, both tasks; hours
    python -m studies.tuning --methods grpo,cory --trials 4 --jobs 2
    python -m studies.tuning --methods grpo --trials 2 --seeds 100 budget=smoke budget.prompts=96   # does it run?
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from benchmarks.timing import say
from emorl_bench.config import schema
from emorl_bench.config.compose import VERSION_BASE, conf_dir, plain
from emorl_bench.core.errors import UserError
from emorl_bench.runner.recorded import recorded_config
from studies.tuning.space import Knob, Settings, drawn, knobs
from studies.tuning.tables import Trial, write_tables
from studies.tuning.utility import select_utility

SPACE = Path(__file__).with_name("tuning.yaml")
SWEEP = Path(__file__).resolve().parents[2] / "sweeps" / "tune.yaml"


@dataclass(frozen=True)
class Plan:
    """The command line.

    Attributes:
        methods: names of methods.
        cells: task/model.
        trials: configurations of each method.
        seeds: seeds of every trial.
        jobs: runs at a time.
        runs: where runs are kept, to be resumed.
        out: where the tables go.
        space: what is drawn, by key.
        overrides: overrides of every trial.
    """

    methods: Sequence[str]
    cells: Sequence[str]
    trials: int
    seeds: Sequence[int]
    jobs: int
    runs: Path
    out: Path
    space: Mapping[str, Knob]
    overrides: Sequence[str]


def main(argv: Sequence[str] | None = None) -> int:
    """Run all trials that are not done, and write the tables after each method.

    Returns:
        the exit status: 1 if a job failed.
    """
    plan = parsed(argv)
    started, trials, failed = time.monotonic(), [], 0
    for done, method in enumerate(plan.methods):
        total, spent = len(plan.methods), time.monotonic() - started
        left = f", about {spent * (total - done) / done / 60:.0f} min left" if done else ""
        say(f"{method}: {done} of {total} methods are done{left}")
        failed += run_method(plan, method)
        trials += read_method(plan, method)
        write_tables(trials, plan.out, plan.seeds, plan.cells)
    say(f"wrote {plan.out}/trials.csv and trials.md" + (f"; {failed} methods had jobs that failed" if failed else ""))
    return int(failed > 0)


def parsed(argv: Sequence[str] | None) -> Plan:
    """Parse the command line.

    Raises:
        UserError: a cell or a method is unknown, or a count is below 1.
    """
    told, sweep = OmegaConf.load(SPACE), OmegaConf.load(SWEEP)
    parser = argparse.ArgumentParser(prog="python -m studies.tuning", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--methods", default=str(sweep.hydra.sweeper.params.method), help="names, with commas")
    parser.add_argument("--cells", default=",".join(told.cells), help="task/model, with commas")
    parser.add_argument("--trials", type=int, default=told.trials, help="configurations of each method")
    parser.add_argument("--seeds", default=",".join(map(str, told.seeds)), help="with commas")
    parser.add_argument("--jobs", type=int, default=2, help="at a time")
    parser.add_argument("--runs", type=Path, default=Path("runs/tuning"), help="where runs are kept, to be resumed")
    parser.add_argument("--out", type=Path, default=Path("results/tuning"), help="where the tables go")
    parser.add_argument("overrides", nargs="*", help="of every trial, such as budget=smoke")
    given = parser.parse_args(argv)
    cells = given.cells.split(",")
    if wrong := [cell for cell in cells if cell.count("/") != 1]:
        raise UserError(f"--cells {wrong[0]}: give task/model, such as reflections/tiny_t5")
    if given.trials < 1 or given.jobs < 1:
        raise UserError(f"--trials {given.trials} --jobs {given.jobs}: give 1 or more")
    methods = [name.strip() for name in given.methods.split(",")]
    known = {path.stem for path in (conf_dir() / "method").glob("*.yaml")}
    if unknown := [name for name in methods if name not in known]:
        raise UserError(f"--methods {unknown[0]}: there is no such method")
    seeds = [int(seed) for seed in given.seeds.split(",")]
    space = knobs(OmegaConf.to_container(told.space))
    return Plan(methods, cells, given.trials, seeds, given.jobs, given.runs, given.out, space, given.overrides)


def run_method(plan: Plan, method: str) -> bool:
    """Run all trials of one method as one multirun.

    Returns:
        whether one of its jobs failed.
    """
    directory = write_trials(plan, method)
    names = [name(cell, method, trial) for cell in plan.cells for trial in range(plan.trials)]
    command = [sys.executable, "-m", "emorl_bench.cli", "-m", "--config-dir", str(directory), "--config-name", "tune"]
    command += [f"experiment={','.join(names)}", f"seed={','.join(map(str, plan.seeds))}"]
    command += [f"runs_dir={plan.runs}", f"hydra.launcher.workers={plan.jobs}", *plan.overrides]
    environment = {"OMP_NUM_THREADS": "1"} | os.environ
    return subprocess.run(command, env=environment, check=False).returncode != 0


def write_trials(plan: Plan, method: str) -> Path:
    """Write the configurations of a method's trials into a directory.

    They are ``tune`` without its own sweep, and one experiment for each trial and cell.
    """
    directory = plan.runs / ".tuning" / method
    (directory / "experiment").mkdir(parents=True, exist_ok=True)
    base = OmegaConf.load(SWEEP)
    del base.hydra.sweeper
    OmegaConf.save(base, directory / "tune.yaml")
    for cell in plan.cells:
        task, model = cell.split("/")
        groups = [{"override /task": task}, {"override /model": model}, {"override /method": method}]
        for trial, settings in enumerate(settings_of(plan, method)):
            changes = OmegaConf.create({})
            for key, value in settings.items():
                OmegaConf.update(changes, key, value)
            body = OmegaConf.to_yaml(OmegaConf.create({"defaults": groups})) + OmegaConf.to_yaml(changes) * bool(
                settings
            )
            path = directory / "experiment" / f"{name(cell, method, trial)}.yaml"
            path.write_text(f"# @package _global_\n{body}")
    return directory


def settings_of(plan: Plan, method: str) -> list[Settings]:
    """The settings of every trial of a method; the first has none, and is the method as its YAML has it."""
    config = composed(method)
    mine = {key: knob for key, knob in plan.space.items() if OmegaConf.select(config, key) is not None}
    return [{}, *drawn(mine, plan.trials - 1)]


def composed(method: str) -> Any:
    """The configuration of a method as it is shipped."""
    schema.register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base=VERSION_BASE):
        return OmegaConf.create(plain(compose("config", overrides=[f"method={method}"])))


def name(cell: str, method: str, trial: int) -> str:
    """The name of a trial's experiment."""
    return f"tune_{cell.replace('/', '_')}_{method}_{trial}"


def read_method(plan: Plan, method: str) -> list[Trial]:
    """The utility of each trial on the select split, by seed; a seed that failed is missing."""
    found: dict[tuple[str, int], float] = {}
    for path in plan.runs.glob(f"*/*/{method}/s*/summary.json"):
        recorded = recorded_config(path.parent)
        experiment, seed = recorded["names"].get("experiment"), int(recorded["seed"])
        if experiment is not None:
            found[str(experiment), seed] = select_utility(path.parent, json.loads(path.read_text()))
    trials, config = [], composed(method)
    settings = settings_of(plan, method)
    for cell in plan.cells:
        for trial, changes in enumerate(settings):
            own = name(cell, method, trial)
            values = {seed: found[own, seed] for seed in plan.seeds if (own, seed) in found}
            said = changes or {key: OmegaConf.select(config, key) for key in next(iter(settings[1:]), {})}
            trials.append(Trial(cell, method, trial, said, values))
    return trials


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"studies.tuning: {error}")
