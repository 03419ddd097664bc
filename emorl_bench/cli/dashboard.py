"""``emorl-dashboard RUNS``: a W&B workspace and a W&B report for the project that the runs were logged to."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from emorl_bench.cli.harness import arguments_of, one_line
from emorl_bench.core.errors import UserError

if TYPE_CHECKING:
    from emorl_bench.tracking.dashboard.panels import Contents

PROGRAM = "emorl-dashboard"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program."""
    args = arguments_of(_parser(), argv)
    with one_line(PROGRAM, traceback=args.traceback):
        dashboard(Path(args.runs), Path(args.out), args.entity, args.project, publish=args.publish)


def dashboard(runs: Path, out: Path, entity: str, project: str, *, publish: bool = False) -> list[Path]:
    """Write the specification, and save it in the project where ``publish`` says so.

    Raises:
        UserError: a package or the login is missing, there is no finished run, or the runs are of several tasks.
    """
    if find_spec("wandb_workspaces") is None:
        raise UserError("the package wandb_workspaces is missing; pip install 'emorl-bench[dashboard]'")
    if publish and not entity:
        raise UserError("--publish: say --entity USER_OR_TEAM as well, whose project it is")
    contents = _contents(runs)
    from emorl_bench.tracking.dashboard import spec  # pydantic models take seconds to import

    paths = spec.write(out, entity, project, contents)
    for path in paths:
        print(f"specification: {path.resolve()}")
    if publish:
        for url in spec.publish(entity, project, contents):
            print(f"saved: {url}")
    return paths


def _contents(root: Path) -> Contents:
    from emorl_bench.report.read import read_runs
    from emorl_bench.tracking.dashboard.panels import Contents

    runs, unfinished = read_runs(root)
    if not runs:
        raise UserError(f"RUNS={root} has no finished run ({len(unfinished)} unfinished); run emorl-bench first")
    objectives = {run.objectives for run in runs}
    if len(objectives) > 1:
        named = "; ".join(", ".join(own) for own in sorted(objectives))
        raise UserError(f"RUNS={root} has runs with different objectives ({named}); give the directory of one task")
    shared = [name for name in runs[0].decoding if all(name in run.decoding for run in runs)]
    if not shared:
        raise UserError(f"RUNS={root}: its runs have no decoding in common; give the directory of one sweep")
    gold = all("gold_mean_reward" in run.decoding[shared[0]]["uniform"] for run in runs)
    return Contents(objectives.pop(), shared[0], gold)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="A W&B workspace and report for emorl-bench runs.")
    parser.add_argument("runs", metavar="RUNS", help="the runs_dir of emorl-bench, or a directory in it")
    parser.add_argument("--project", default="emorl-bench", help="W&B project of the runs (default: emorl-bench)")
    parser.add_argument("--entity", default="", help="W&B user or team; needed with --publish")
    parser.add_argument("--out", default="dashboard", metavar="DIR", help="where to write (default: dashboard)")
    parser.add_argument("--publish", action="store_true", help="save both in the project; needs wandb login")
    parser.add_argument("--traceback", action="store_true", help="show the traceback of an error")
    return parser


if __name__ == "__main__":
    main()
