"""``emorl-assets build`` makes the embedded models and scorers; ``emorl-assets check`` says whether they are fit for
use.
"""

from __future__ import annotations

import argparse
import sys
import time

from rich.console import Console
from rich.table import Table

from emorl_bench.core.errors import UserError


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="emorl-assets", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="build what is missing or damaged in the cache")
    commands.add_parser("check", help="measure scorers and base models against the task's requirements")
    command = parser.parse_args(argv).command
    try:
        return build() if command == "build" else check()
    except UserError as error:
        print(f"emorl-assets: {error}", file=sys.stderr)
        return 2


def build() -> int:
    from emorl_bench.assets.cache import asset_cache

    started, cache = time.perf_counter(), asset_cache()
    cache.ensure(cache.names)
    print(f"assets ready in {cache.root} ({time.perf_counter() - started:.1f} s)")
    return 0


def check() -> int:
    from emorl_bench.assets.diagnostics import all_checks

    table = Table("requirement", "measured", "wanted", "")
    checks = all_checks()
    for row in checks:
        table.add_row(row.name, f"{row.value:.3f}", row.wanted, "ok" if row.met else "FAILED")
    Console().print(table)
    return 0 if all(row.met for row in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
