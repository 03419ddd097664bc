"""Does a table under results/ belong to the code and the embedded assets that are checked out?"""

from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path

from emorl_bench.report.origins import FILE

ROOT = Path(__file__).parents[2]


def refusals(directory: Path, assets: str, checkout: Path = ROOT) -> list[str]:
    """Why the table in ``directory`` is refused, a line for each reason; empty where it may stand.

    ``assets``: the hash of the embedded assets now. A commit must be in the history of ``checkout``, if it has one.
    """
    path = directory / FILE
    if not path.exists():
        return [f"{directory.name}: no {FILE}; write the report again"]
    found = []
    recorded = json.loads(path.read_text())["comparisons"]
    for record in recorded:
        name = f"{directory.name}: {record['task']} · {record['model']}"
        if record["assets"] and record["assets"] != [assets]:
            found.append(f"{name} ran on embedded assets {', '.join(record['assets'])}, and these are {assets}")
        if not record["commits"]:
            found.append(f"{name} names no commit")
        found += [
            f"{name}: commit {commit} is not in this history"
            for commit in record["commits"]
            if _strange(commit, checkout)
        ]
    with (directory / "table.csv").open() as file:
        shown = {(row["task"], row["model"], row["fingerprint"]) for row in csv.DictReader(file)}
    if shown != {(record["task"], record["model"], record["fingerprint"]) for record in recorded}:
        found.append(f"{directory.name}: table.csv and {FILE} are of different runs")
    return found


def _strange(commit: str, checkout: Path) -> bool:
    """Whether git knows the history and the commit is no part of it."""

    def git(*arguments: str) -> int:
        return subprocess.run(["git", "-C", str(checkout), *arguments], capture_output=True, check=False).returncode

    return git("rev-parse", "HEAD") == 0 and git("merge-base", "--is-ancestor", commit, "HEAD") != 0
