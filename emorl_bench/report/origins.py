"""provenance.json beside table.csv: from which code, assets and machine the numbers of each comparison are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from emorl_bench.report.comparison import Comparison

FILE = "provenance.json"
MACHINE = ("processor", "cores", "device", "accelerator", "threads")


def origins(comparison: Comparison) -> dict[str, Any]:
    """The origins of one comparison. Where runs differ, all values are listed: several commits are several entries."""
    sessions = [run.provenance() for run in comparison.runs]
    return {
        "task": comparison.task,
        "model": comparison.model,
        "fingerprint": comparison.fingerprint,
        "seeds": {
            method: sorted({run.seed for run in comparison.runs if run.method == method})
            for method in sorted({run.method for run in comparison.runs})
        },
        "assets": _distinct(run.assets for run in comparison.runs),
        "commits": _distinct(session.get("commit") for session in sessions),
        "python": _distinct(session.get("python") for session in sessions),
        "versions": _distinct(session.get("versions") for session in sessions),
        "machines": _distinct(
            {key: machine.get(key) for key in MACHINE} for s in sessions if (machine := s.get("machine"))
        ),
    }


def write_origins(path: Path, comparisons: Sequence[Comparison]) -> None:
    """Write the origins of all comparisons."""
    records = {"comparisons": [origins(comparison) for comparison in comparisons]}
    path.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")


def origins_sentence(comparison: Comparison) -> str:
    """Code and assets, as one line of the report."""
    found = origins(comparison)
    commits = _listed("Commit", [str(commit)[:12] for commit in found["commits"]])
    assets = _listed("Embedded assets", found["assets"]) if found["assets"] else ""
    return " ".join(part for part in (commits, assets, f"Machine and versions: `{FILE}`.") if part)


def _listed(noun: str, values: Sequence[str]) -> str:
    return f"{noun} {', '.join(f'`{value}`' for value in values)}." if values else f"{noun} not recorded."


def _distinct(values: Iterable[Any]) -> list[Any]:
    """The different values, in order of first appearance; what was not recorded is left out."""
    found: list[Any] = []
    for value in values:
        if value is not None and value not in found:
            found.append(value)
    return found
