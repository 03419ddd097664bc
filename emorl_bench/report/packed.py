"""Runs as one file: what a report reads of each run directory, as a parquet file that can be sent, committed and kept.

A row is a run. Its columns are the run's path below RUNS and the texts of its files. ``emorl-report RUNS --pack FILE``
writes one, and every command that takes RUNS of a report takes such a file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from emorl_bench.core.damage import reading
from emorl_bench.core.errors import UserError
from emorl_bench.report.comparison import Comparison
from emorl_bench.report.read import Run

SUFFIX = ".parquet"
RUN = "run"
SUMMARIES = ("status.json", "summary.json", "config.yaml", "provenance.json")
DETAILS = ("scores.parquet", "samples.jsonl", "metrics.jsonl", "search.jsonl")
PROGRAM = "emorl-bench"
LEVEL = 19  # of zstd: a file is packed once and read often
AGAIN = "pack the runs again"


def check_name(file: Path) -> None:
    """Check the name of a file that runs are to be packed into.

    Raises:
        UserError: it does not end in ``.parquet``.
    """
    if file.suffix != SUFFIX:
        raise UserError(f"--pack {file}: give a name that ends in {SUFFIX}")


def pack(comparisons: Sequence[Comparison], roots: Sequence[Path], file: Path, detailed: int | None = None) -> None:
    """Write finished runs into one file.

    Paths of the machine are left out: ``runs_dir`` and the program's place in recorded commands. So are the points of
    the rungs of a ladder, of which the indicators stay.

    Args:
        comparisons: the runs, by rows.
        roots: the RUNS that they were found under.
        file: where to write; its directory is made.
        detailed: keep scores of single answers, answers, curves and searches of this many seeds of each row only, the
            lowest ones; None keeps all.
    """
    runs = [run for comparison in comparisons for run in comparison.runs]
    whole = {dir for comparison in comparisons for dir in _lowest(comparison, detailed)}
    rows = [_row(run, roots, whole=run.dir in whole) for run in sorted(runs, key=lambda run: run.dir)]
    columns = {name: pa.array([row.get(name) for row in rows], pa.binary()) for name in (*SUMMARIES, *DETAILS)}
    table = pa.table({RUN: pa.array([row[RUN].decode() for row in rows]), **columns})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file, compression="zstd", compression_level=LEVEL, use_dictionary=False)


@contextmanager
def unpacked(roots: Sequence[Path]) -> Iterator[list[Path]]:
    """The ``roots``, with a directory of its runs in the place of each packed file while the block runs.

    Raises:
        UserError: a packed file is damaged, or names a run outside its directory.
    """
    with TemporaryDirectory(prefix="emorl-runs-") as place:
        yield [_unpack(root, Path(place, str(i))) if root.is_file() else root for i, root in enumerate(roots)]


def _unpack(file: Path, place: Path) -> Path:
    with reading(file, AGAIN):
        if file.suffix != SUFFIX:
            raise UserError(f"RUNS={file} is a file, but no packed runs; give the runs_dir of emorl-bench")
        for row in pq.read_table(file).to_pylist():
            path = PurePosixPath(row.pop(RUN))
            if path.is_absolute() or ".." in path.parts:
                raise UserError(f"RUNS={file}: run {path} lies outside its directory; {AGAIN}")
            dir = place / path
            dir.mkdir(parents=True)
            for name in {*SUMMARIES, *DETAILS} & row.keys():
                if row[name] is not None:
                    (dir / name).write_bytes(row[name])
    return place


def _lowest(comparison: Comparison, detailed: int | None) -> Iterator[Path]:
    """The directories of the runs with the ``detailed`` lowest seeds of each row."""
    seeds: dict[str, list[int]] = {}
    for run in comparison.runs:
        seeds.setdefault(run.method, []).append(run.seed)
    kept = {method: set(sorted(found)[:detailed]) for method, found in seeds.items()}
    return (run.dir for run in comparison.runs if run.seed in kept[run.method])


def _row(run: Run, roots: Sequence[Path], *, whole: bool) -> dict[str, bytes]:
    root = next(root for root in roots if run.dir.is_relative_to(root))
    names = (*SUMMARIES, *DETAILS) if whole else SUMMARIES
    found = {name: (run.dir / name).read_bytes() for name in names if (run.dir / name).is_file()}
    found["summary.json"] = _dense(_without_points(json.loads(found["summary.json"])))
    if "provenance.json" in found:
        found["provenance.json"] = _dense(_without_program(json.loads(found["provenance.json"])))
    for name in set(found) & {"config.yaml", "provenance.json"}:
        found[name] = found[name].replace(str(root).encode(), b"runs").replace(str(root.resolve()).encode(), b"runs")
    return {RUN: run.dir.relative_to(root).as_posix().encode(), **found}


def _dense(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode()


def _without_points(summary: dict[str, Any]) -> dict[str, Any]:
    for rung in summary.get("ladder") or ():
        for graded in rung["decoding"].values():
            graded.pop("points", None)
    return summary


def _without_program(provenance: dict[str, Any]) -> dict[str, Any]:
    for session in provenance["sessions"]:
        session["command"] = [PROGRAM, *session["command"][1:]]
    return provenance
