"""What each row was run with: settings that differ between rows, settings that all share, commands and machines."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emorl_bench.report.comparison import Comparison
from emorl_bench.report.origins import origins
from emorl_bench.report.read import Run
from emorl_bench.runner.recorded import load_yaml

FILE = "config.yaml"
OF_ONE_RUN = ("seed", "runs_dir", "force", "names")  # keys that say which run it is, not how it was run


@dataclass(frozen=True)
class Settings:
    """Key -> value as text; the keys are written as on the command line, such as ``update.learning_rate``."""

    shared: Mapping[str, str]
    by_method: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Origin:
    """Where the numbers are from. ``commands`` are those of the runs' last sessions, with the number of their runs."""

    record: Mapping[str, Any]
    commands: Sequence[tuple[str, int]]


def settings(comparison: Comparison) -> Settings:
    """The settings of every row, as its first seed recorded them. Seeds of one row have the same ones."""
    rows: dict[str, dict[str, str]] = {}
    for run in comparison.runs:
        if run.method not in rows and (found := dict(_flat(_config(run)))):
            rows[run.method] = found
    everywhere = set.intersection(*(set(row.items()) for row in rows.values())) if rows else set()
    shared = dict(sorted(everywhere)) if len(rows) > 1 else {}
    own = {
        method: {key: value for key, value in sorted(row.items()) if key not in shared} for method, row in rows.items()
    }
    return Settings(shared, own)


def origin(comparison: Comparison) -> Origin:
    """Commits, versions and machines as in provenance.json, and the commands."""
    commands = Counter(shlex.join(command) for run in comparison.runs if (command := run.provenance().get("command")))
    return Origin(origins(comparison), commands.most_common())


def _config(run: Run) -> dict[str, Any]:
    path = run.dir / FILE
    loaded = load_yaml(path) if path.exists() else None
    return {key: value for key, value in (loaded or {}).items() if key not in OF_ONE_RUN}


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, below in value.items():
        if isinstance(below, Mapping) and below:
            yield from _flat(below, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", below if isinstance(below, str) else json.dumps(below)
