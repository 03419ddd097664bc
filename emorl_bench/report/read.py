"""Run directories as the report sees them: what finished, what did not, and what may stand in one table.

Runs are discovered by their ``status.json`` at any depth; no method is known by name. Two runs may share a table only
where their fingerprints (data, scorers, model, budget) are equal.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from emorl_bench.core.errors import UserError

SCHEMA_VERSION = 1

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Run:
    """One finished run: one method, one seed."""

    dir: Path
    task: str
    model: str
    method: str
    seed: int
    fingerprint: str
    objectives: tuple[str, ...]
    preferences_WK: Floats
    single_point: bool  # one policy answers every preference
    decoding: Mapping[str, Mapping[str, Any]]
    cost: Mapping[str, float]

    def points_WK(self, decoding: str) -> Floats:
        """Mean scores by preference, NaN for an objective that applied to no response."""
        points = self.decoding[decoding]["points"]
        return np.array([[point["objectives"][name] for name in self.objectives] for point in points], dtype=np.float64)

    def reward_by_prompt(self, decoding: str) -> dict[str, float]:
        """Mean reward of each report prompt at the uniform preference, averaged over its samples.

        A policy that answers several preferences is graded once, and its rows are filed under the first of them.
        """
        path, uniform = self.dir / "scores.parquet", self.decoding[decoding]["uniform"]["objectives"]
        if not path.exists():
            return {}
        points = self.decoding[decoding]["points"]
        index = next(i for i, point in enumerate(points) if point["objectives"] == uniform)
        wanted = [("split", "=", "report"), ("decoding", "=", decoding), ("preference", "=", index)]
        table = pq.read_table(path, columns=["example_id", *self.objectives], filters=wanted)
        scores_BK = np.column_stack([np.array(table[name].to_pylist(), dtype=np.float64) for name in self.objectives])
        rewards = defaultdict(list)
        for example, scores_K in zip(table["example_id"].to_pylist(), scores_BK, strict=True):
            if len(applicable_K := scores_K[~np.isnan(scores_K)]):
                rewards[str(example)].append(float(applicable_K.mean()))
        return {example: sum(values) / len(values) for example, values in rewards.items()}

    def lines(self, name: str) -> Iterator[dict[str, Any]]:
        """The objects of a ``.jsonl`` file, in order; nothing where the run has no such file."""
        path = self.dir / name
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            if (record := _object(line)) is not None:
                yield record


@dataclass(frozen=True)
class Unfinished:
    """A run directory that has no row in the table, and why."""

    dir: Path
    state: str
    reason: str


@dataclass(frozen=True)
class Comparison:
    """The runs of one task and one model under one fingerprint: what may stand in one table."""

    task: str
    model: str
    runs: tuple[Run, ...]

    @property
    def title(self) -> str:
        return f"{self.task} · {self.model}"

    @property
    def stem(self) -> str:
        """The beginning of its files' names."""
        return "".join(c if c.isalnum() or c in "-_" else "-" for c in f"{self.task}_{self.model}")

    @property
    def objectives(self) -> tuple[str, ...]:
        return self.runs[0].objectives

    def whole(self, run: Run, decoding: str) -> tuple[Floats, Floats]:
        """Preferences and mean scores (N, K') of a run's points, for indicators of fronts.

        An objective that applied to nothing in any run is left out, and so is a point that lacks one of the others.
        """
        everywhere = np.vstack([r.points_WK(decoding) for r in self.runs if decoding in r.decoding])
        kept_K = ~np.isnan(everywhere).all(axis=0)
        points_WK = run.points_WK(decoding)[:, kept_K]
        whole_W = ~np.isnan(points_WK).any(axis=1)
        return run.preferences_WK[:, kept_K][whole_W], points_WK[whole_W]

    def decodings(self) -> tuple[str, ...]:
        return tuple(name for name in ("greedy", "sampled") if any(name in run.decoding for run in self.runs))

    def methods(self, decoding: str) -> dict[str, list[Run]]:
        """Runs by method, seeds in order."""
        by_method: dict[str, list[Run]] = defaultdict(list)
        for run in sorted(self.runs, key=lambda run: run.seed):
            if decoding in run.decoding:
                by_method[run.method].append(run)
        return dict(by_method)


def read_runs(root: Path) -> tuple[list[Run], list[Unfinished]]:
    """Every run directory under ``root``."""
    if not root.is_dir():
        raise UserError(f"RUNS={root} is not a directory; give the runs_dir of emorl-bench")
    runs: list[Run] = []
    unfinished: list[Unfinished] = []
    for status_path in sorted(root.rglob("status.json")):
        outcome = _read_run(status_path.parent)
        (runs if isinstance(outcome, Run) else unfinished).append(outcome)  # type: ignore[arg-type]
    return runs, unfinished


def comparisons(runs: Sequence[Run], fingerprint: str | None = None) -> list[Comparison]:
    """One comparison for each task and model; refuses to mix fingerprints, or two runs of one method and seed."""
    chosen = [run for run in runs if run.fingerprint.startswith(fingerprint or "")]
    if runs and not chosen:
        known = ", ".join(sorted({run.fingerprint[:12] for run in runs}))
        raise UserError(f"--fingerprint {fingerprint} matches no finished run; known: {known}")
    groups: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in chosen:
        groups[run.task, run.model].append(run)
    for (task, model), members in groups.items():
        _refuse_mixture(f"{task}/{model}", members)
        _refuse_twins(members)
    return [Comparison(task, model, tuple(members)) for (task, model), members in sorted(groups.items())]


def _refuse_mixture(name: str, runs: Sequence[Run]) -> None:
    by_fingerprint: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_fingerprint[run.fingerprint].append(run)
    if len(by_fingerprint) > 1:
        listed = "; ".join(f"{key[:12]} ({len(same)} runs, {same[0].dir})" for key, same in by_fingerprint.items())
        raise UserError(
            f"RUNS mixes {len(by_fingerprint)} fingerprints of {name}, which differ in data, scorers, model or budget: "
            f"{listed}; choose one with --fingerprint"
        )


def _refuse_twins(runs: Sequence[Run]) -> None:
    """Two settings of one method are not two seeds of it."""
    seen: dict[tuple[str, int], Run] = {}
    for run in runs:
        twin = seen.setdefault((run.method, run.seed), run)
        if twin is not run:
            raise UserError(
                f"RUNS has two runs of method={run.method} seed={run.seed}: {twin.dir} and {run.dir}; "
                "report differently configured runs apart, each from its own runs_dir"
            )


def _read_run(dir: Path) -> Run | Unfinished:
    status = _object((dir / "status.json").read_text(encoding="utf-8")) or {}
    state = str(status.get("state", "unreadable"))
    if state != "done":
        error = str(status.get("error") or "")
        return Unfinished(
            dir, state, error.strip().splitlines()[-1] if error.strip() else str(status.get("phase") or "")
        )
    path = dir / "summary.json"
    summary = _object(path.read_text(encoding="utf-8")) if path.exists() else None
    if summary is None:
        return Unfinished(dir, state, "summary.json is missing or damaged; run it again with force=true")
    if summary.get("schema_version") != SCHEMA_VERSION:
        version = summary.get("schema_version")
        return Unfinished(dir, state, f"summary.json has schema version {version}, this report reads {SCHEMA_VERSION}")
    names = summary["names"]
    return Run(
        dir=dir,
        task=names["task"],
        model=names["model"],
        method=names["method"],
        seed=int(summary["seed"]),
        fingerprint=summary["fingerprint"],
        objectives=tuple(summary["objectives"]),
        preferences_WK=np.array(summary["preferences"], dtype=np.float64),
        single_point=bool(summary["single_point"]),
        decoding=summary["decoding"],
        cost={key: float(value) for key, value in summary["cost"].items() if _is_number(value)},
    )


def _object(text: str) -> dict[str, Any] | None:
    """A JSON object, or None for what a killed process left half written."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
