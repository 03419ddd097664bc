"""Run directories as the report reads them: which runs finished, and which did not.

Runs are found by their ``status.json`` at any depth. No method is known by name.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from emorl_bench.core.damage import read_text, reading
from emorl_bench.core.errors import UserError
from emorl_bench.report.keys import read_keys
from emorl_bench.runner.provenance import SUMMARY_VERSION
from emorl_bench.runner.recorded import irregular

Floats = NDArray[np.float64]
Labels = tuple[tuple[str, str], ...]

AGAIN = "repeat its command with force=true"


@dataclass(frozen=True)
class Run:
    """One finished run: one method, one seed. ``method`` is its row in tables, ``family`` the method's own name."""

    dir: Path
    task: str
    model: str
    method: str
    family: str
    seed: int
    fingerprint: str
    objectives: tuple[str, ...]
    preferences_WK: Floats
    single_point: bool
    """Whether one policy answers every preference."""
    decoding: Mapping[str, Mapping[str, Any]]
    cost: Mapping[str, float]
    kl_coefficient: float | None = None
    members: Mapping[str, Any] = field(default_factory=dict)
    """Name -> record of a policy that was graded alone."""
    ceiling: Mapping[str, Any] | None = None
    """Gold scores of the best possible answers."""
    chooses: bool = False
    """Whether the method chooses among its answers with the scorers."""
    ladder: Sequence[Mapping[str, Any]] = ()
    """The same run, graded at shares of its budget."""
    change: Mapping[str, Any] = field(default_factory=dict)
    """The cost of one more preference or objective."""
    best_step: Mapping[str, int] = field(default_factory=dict)
    """Learner -> the step of the checkpoint that it ended with; 0: none was better than the untrained one."""
    assets: str | None = None
    """Hash of the embedded assets that it used."""
    keys: Mapping[str, Any] = field(default_factory=dict)
    """The settings as flat keys (`report.keys`)."""
    labels: Labels = ()
    """What the row's name says in brackets: the keys in which runs of the method differ, and this run's values."""
    pair_key: Labels = ()
    """Keys that vary within a row, beside the seed (``--group-by``)."""

    @property
    def pair(self) -> tuple[int, Labels]:
        """Two runs of different rows are a pair where they have the same one: the seed, and what varies beside it."""
        return self.seed, self.pair_key

    def points_WK(self, decoding: str, scores: str = "objectives") -> Floats:
        """Mean scores by preference; NaN for an objective that applied to no response or has no gold."""
        found = [point.get(scores, {}) for point in self.decoding[decoding]["points"]]
        return np.array([[one.get(name) for name in self.objectives] for one in found], dtype=np.float64)

    def reward_by_prompt(self, decoding: str, prefix: str = "") -> dict[str, float]:
        """Mean reward of each report prompt at the uniform preference, averaged over its samples.

        A policy that answers several preferences is graded once, and its rows are recorded under the first of them.
        ``prefix`` is that of the scores' columns, such as ``gold/``. The result is empty where a run has no such
        column.
        """
        path, uniform = self.dir / "scores.parquet", self.decoding[decoding]["uniform"]["objectives"]
        known = pq.read_schema(path).names if path.exists() else ()
        columns = [column for name in self.objectives if (column := f"{prefix}{name}") in known]
        if not columns:
            return {}
        points = self.decoding[decoding]["points"]
        index = next(i for i, point in enumerate(points) if point["objectives"] == uniform)
        wanted = [("split", "=", "report"), ("decoding", "=", decoding), ("preference", "=", index)]
        table = pq.read_table(path, columns=["example_id", *columns], filters=wanted)
        scores_BK = np.column_stack([np.array(table[name].to_pylist(), dtype=np.float64) for name in columns])
        rewards = defaultdict(list)
        for example, scores_K in zip(table["example_id"].to_pylist(), scores_BK, strict=True):
            if len(applicable_K := scores_K[~np.isnan(scores_K)]):
                rewards[str(example)].append(float(applicable_K.mean()))
        return {example: sum(values) / len(values) for example, values in rewards.items()}

    def provenance(self) -> dict[str, Any]:
        """The session that finished the run: commit, versions, machine. Empty where that was not recorded."""
        path = self.dir / "provenance.json"
        record = _object(path.read_text(encoding="utf-8", errors="replace")) if path.is_file() else None
        sessions = (record or {}).get("sessions")
        last = sessions[-1] if isinstance(sessions, list) and sessions else {}
        return dict(last) if isinstance(last, dict) else {}

    def lines(self, name: str) -> Iterator[dict[str, Any]]:
        """The objects of a ``.jsonl`` file, in order; none where the run has no such file. Other lines are left out."""
        path = self.dir / name
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
            if (record := _object(line)) is not None:
                yield record


@dataclass(frozen=True)
class Unfinished:
    """A run directory that has no row in the table, and the reason."""

    dir: Path
    state: str
    reason: str
    root: Path = Path()
    """The RUNS that it was found under."""

    @property
    def name(self) -> str:
        """Its path below RUNS."""
        return str(self.dir.relative_to(self.root))


def read_runs(
    *roots: Path, shown: Callable[[Sequence[Path]], Iterable[Path]] = iter
) -> tuple[list[Run], list[Unfinished]]:
    """Every run directory under the ``roots``, once. ``shown`` wraps the paths, to show progress.

    Raises:
        UserError: a root is not a directory.
    """
    found: dict[Path, tuple[Path, Path]] = {}
    for root in roots:
        if not root.is_dir():
            raise UserError(f"RUNS={root} is not a directory; give the runs_dir of emorl-bench")
        for path in sorted(root.rglob("status.json")):
            found.setdefault(path.resolve(), (path.parent, root))
    runs: list[Run] = []
    unfinished: list[Unfinished] = []
    for path in shown(list(found)):
        dir, root = found[path]
        try:
            outcome = _read_run(dir)
        except UserError as error:  # one damaged run must not cost the report of all others
            outcome = Unfinished(dir, "damaged", str(error).replace(f"{dir}/", ""))
        if isinstance(outcome, Run):
            runs.append(outcome)
        else:
            unfinished.append(replace(outcome, root=root))
    return runs, unfinished


def _read_run(dir: Path) -> Run | Unfinished:
    if (odd := irregular(dir)) is not None:
        return Unfinished(dir, "damaged", f"{odd.relative_to(dir)} is no regular file; delete it")
    with reading(dir / "status.json", AGAIN):
        status = _object(read_text(dir / "status.json")) or {}
    state = str(status.get("state", "unreadable"))
    if state != "done":
        error = str(status.get("error") or "")
        return Unfinished(
            dir, state, error.strip().splitlines()[-1] if error.strip() else str(status.get("phase") or "")
        )
    path = dir / "summary.json"
    with reading(path, AGAIN):
        summary = _object(read_text(path)) if path.exists() else None
    if summary is None:
        return Unfinished(dir, state, "summary.json is missing or damaged; run it again with force=true")
    if summary.get("schema_version") != SUMMARY_VERSION:
        version = summary.get("schema_version")
        return Unfinished(dir, state, f"summary.json has schema version {version}, this report reads {SUMMARY_VERSION}")
    with reading(dir / "config.yaml", AGAIN):
        keys = read_keys(dir, summary)
    with reading(path, AGAIN):
        run = _run(dir, summary, keys)
        _check(run)
    scores = dir / "scores.parquet"
    with reading(scores, AGAIN):
        if scores.exists():
            pq.read_table(scores)
    return run


def _check(run: Run) -> None:
    """Raise an error (of any kind) for a summary that lacks what every table needs."""
    texts = (run.task, run.model, run.method, run.fingerprint, *run.objectives)
    if not all(isinstance(text, str) for text in texts) or not run.objectives:
        raise ValueError("names, objectives or fingerprint are no texts")
    if run.preferences_WK.ndim != 2 or run.preferences_WK.shape[1] != len(run.objectives):
        raise ValueError("preferences do not fit the objectives")
    if not run.decoding:
        raise ValueError("no decoding")
    for name, graded in run.decoding.items():
        if run.points_WK(name).shape != run.preferences_WK.shape:
            raise ValueError(f"points of {name} decoding do not fit the preferences")
        graded["uniform"]["objectives"].items()
    for record in (run.members, run.change, run.ceiling or {}, run.best_step):
        record.items()


def _run(dir: Path, summary: Mapping[str, Any], keys: Mapping[str, Any]) -> Run:
    names = summary["names"]
    return Run(
        dir=dir,
        task=names["task"],
        model=names["model"],
        method=names["method"],
        family=names["method"],
        seed=int(summary["seed"]),
        fingerprint=summary["fingerprint"],
        objectives=tuple(summary["objectives"]),
        preferences_WK=np.array(summary["preferences"], dtype=np.float64),
        single_point=bool(summary["single_point"]),
        decoding=summary["decoding"],
        cost={key: float(value) for key, value in summary["cost"].items() if _is_number(value)},
        kl_coefficient=summary.get("kl_coefficient"),
        members=summary.get("members") or {},
        ceiling=summary.get("ceiling"),
        chooses=bool(summary.get("chooses_with_scorers")),
        ladder=summary.get("ladder") or (),
        change=summary.get("change") or {},
        assets=summary.get("assets"),
        best_step=summary.get("best_step") or {},
        keys=keys,
    )


def _object(text: str) -> dict[str, Any] | None:
    """A JSON object, or None for a line or file that a killed process has left incomplete."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
