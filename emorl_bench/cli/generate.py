"""``emorl-generate RUN... --preference 0.6,0.3,0.1 [--text …] [--explain]``: answer texts with what runs have produced.

A method is fitted again in its own run directory with a frozen bench: everything trained is loaded and nothing is
trained. A preference that the run never asked for is searched now. So this works for every method, without code of its
own.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emorl_bench.cli.harness import arguments_of, one_line
from emorl_bench.config.trust import check_is_data
from emorl_bench.core.damage import reading
from emorl_bench.core.errors import UserError
from emorl_bench.runner.finding import find_run
from emorl_bench.runner.identity import read_json
from emorl_bench.runner.recorded import FILE, REMEDY, recorded_config


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program."""
    arguments = arguments_of(parser(), argv)
    with one_line("emorl-generate", traceback=arguments.traceback):
        generate(arguments)


def parser() -> argparse.ArgumentParser:
    """The command line of the program."""
    made = argparse.ArgumentParser(prog="emorl-generate", description="Answer a text with what runs have produced.")
    run = "a finished run, or a directory above it (a method, a task): the run that ended last; several: side by side"
    made.add_argument("runs", type=Path, nargs="*", metavar="RUN", help=run)
    made.add_argument("--last", action="store_true", help="the run that ended last below RUN (default: runs)")
    made.add_argument("--preference", help="one weight for each objective, such as 0.6,0.3,0.1; uniform by default")
    made.add_argument("--text", help="what to answer; '-' reads lines from standard input; report prompts by default")
    made.add_argument("--temperature", type=float, default=0.0, help="0 is greedy")
    made.add_argument("--samples", type=int, default=1, help="answers to each text")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--explain", action="store_true", help="which expert decided each word (emorl, mod)")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the answers, and with --explain their decisions")
    trust = "let a run name classes and functions that emorl-bench does not bring: your own scorer, code of a model"
    made.add_argument("--trust", action="store_true", help=trust)
    made.add_argument("--traceback", action="store_true", help="show where an error came from")
    return made


def generate(arguments: argparse.Namespace) -> None:
    """Answer the texts with each run, and score each answer with the run's own scorers.

    Raises:
        UserError: there is no finished run, or the preference does not fit its objectives.
    """
    runs = chosen_runs(arguments)
    configs = [read_config(run, trusted=arguments.trust) for run in runs]
    if arguments.samples < 1 or arguments.temperature < 0:
        raise UserError(f"--samples {arguments.samples} --temperature {arguments.temperature}: need at least 1 and 0")
    objectives = [objectives_of(run) for run in runs]
    for run, names in zip(runs, objectives, strict=True):
        if names != objectives[0]:
            raise UserError(f"RUN='{run}': its objectives are {', '.join(names)}; side by side all need the same")
    preference = parse_preference(arguments.preference, objectives[0])
    if arguments.json is not None and not arguments.json.resolve().parent.is_dir():
        raise UserError(f"--json {arguments.json}: there is no such directory")
    os.environ.setdefault("OMP_NUM_THREADS", str(configs[0]["hardware"]["threads"]))
    from emorl_bench.cli.talking import talk  # imports torch, after all checks that need no model

    talk(arguments, dict(zip(runs, configs, strict=True)), preference)


def chosen_runs(arguments: argparse.Namespace) -> list[Path]:
    """The run directories that the command line names, each once.

    Raises:
        UserError: it names none, or one of them is none.
    """
    if not arguments.runs and not arguments.last:
        raise UserError("RUN is missing: give a finished run, a directory above several, or --last")
    return list(dict.fromkeys(find_run(run) for run in arguments.runs or [Path("runs")]))


def objectives_of(run: Path) -> tuple[str, ...]:
    """The names of a run's objectives.

    Raises:
        UserError: its summary is damaged.
    """
    names = (read_json(run / "summary.json") or {}).get("objectives")
    if not isinstance(names, list) or not names:
        raise UserError(f"RUN='{run}': its summary.json is damaged; repeat its emorl-bench command with force=true")
    return tuple(names)


def read_config(run: Path, *, trusted: bool = False) -> dict[str, Any]:
    """The resolved configuration of a finished run.

    Args:
        run: the run directory.
        trusted: whether it may name classes and functions that ``conf`` does not name.

    Raises:
        UserError: the file is damaged, or names such code and is not trusted.
    """
    config = recorded_config(run)
    with reading(run / FILE, REMEDY):
        if not isinstance(config["hardware"]["threads"], int):
            raise ValueError("it is not the configuration of a run")
    if not trusted:
        check_is_data(config, run)
    # Runs may have been moved, so the experts are looked for beside this run.
    return config | {"runs_dir": str(run.resolve().parents[3])}


def parse_preference(text: str | None, objectives: Sequence[str]) -> list[float]:
    """Weights from text such as ``0.6,0.3,0.1``; uniform weights for ``None``.

    Raises:
        UserError: the text is not one number of 0 or more for each objective, or the sum is not 1.
    """
    if text is None:
        return [1 / len(objectives)] * len(objectives)
    try:
        weights = [float(part) for part in text.split(",")]
    except ValueError:
        weights = []
    if len(weights) != len(objectives) or min(weights) < 0 or abs(sum(weights) - 1) > 1e-6:
        raise UserError(
            f"--preference {text}: needs {len(objectives)} non-negative numbers that sum to 1, separated by commas, "
            f"one each for {', '.join(objectives)}"
        )
    return weights
