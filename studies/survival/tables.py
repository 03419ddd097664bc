"""The tables of the study: what was tried, by kind and method, and every trial."""

from __future__ import annotations

import csv
import io
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emorl_bench.core.atomic import write_text
from emorl_bench.runner.provenance import provenance
from studies.survival.exempt import EXEMPT, LOGS, SESSIONS
from studies.survival.trials import KINDS

COLUMNS = ("trials", "kills", "continued", "lost", "different")
Row = Mapping[str, Any]  # what is recorded of a trial


def write_tables(rows: Sequence[Row], out: Path, overrides: Sequence[str]) -> None:
    """Write ``survival.csv``, with a line for each trial, and ``survival.md``."""
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "survival.csv", as_csv(rows))
    write_text(out / "survival.md", as_markdown(rows, overrides))


def counted(rows: Sequence[Row]) -> dict[str, int]:
    """The numbers of a group of trials. ``continued``: done, with the artefacts of the reference."""
    return {
        "trials": len(rows),
        "kills": sum(row["kills"] for row in rows),
        "continued": sum(not row["lost"] and not row["different"] for row in rows),
        "lost": sum(bool(row["lost"]) for row in rows),
        "different": sum(bool(row["different"]) for row in rows),
    }


def as_csv(rows: Sequence[Row]) -> str:
    """One line for each trial."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["kind", "method", "number", "how", "kills", "sessions", "lost", "different", "seconds"])
    for row in ordered(rows):
        told = [row[key] for key in ("kind", "method", "number", "how", "kills", "sessions")]
        writer.writerow([*told, " / ".join(row["lost"]), " / ".join(row["different"]), f"{row['seconds']:.1f}"])
    return text.getvalue()


def as_markdown(rows: Sequence[Row], overrides: Sequence[str]) -> str:
    """The page: numbers by kind and by method, what went wrong, and what was not compared."""
    origin = provenance(threads=1, device="cpu")
    total, machine = counted(rows), origin["machine"]
    sums = f"{total['kills']} kills in {total['trials']} trials: {total['lost']} lost, {total['different']} different."
    lines = [
        "# Runs that were killed, against runs that were not",
        "",
        f"Written by `python -m studies.survival {shlex.join(sys.argv[1:])}`, commit {origin['commit']}, "
        f"{machine['processor']}, {machine['cores']} cores, Python {origin['python']}, torch "
        f"{origin['versions']['torch']}. Every run: `{' '.join(overrides)}`.",
        "",
        f"**{sums}** "
        "After the kills the same command is given until the run is done; then every file of the runs directory is "
        "compared with that of a run that was left alone, bit by bit. Lost: the run did not go on, hung, or showed a "
        "traceback. A full disk counts as a kill where the run has met it.",
        "",
    ]
    lines += _table("kind", [(kind, [row for row in rows if row["kind"] == kind]) for kind in KINDS])
    methods = list(dict.fromkeys(row["method"] for row in ordered(rows)))
    lines += _table("method", [(method, [row for row in rows if row["method"] == method]) for method in methods])
    pairs = [(kind, method) for kind in KINDS for method in methods]
    both = [
        (f"{kind} | {method}", [row for row in rows if (row["kind"], row["method"]) == (kind, method)])
        for kind, method in pairs
    ]
    lines += _table("kind | method", both)
    lines += ["## Writes that were interrupted", "", "| file: point | method | kills |", "|:--|:--|--:|"]
    lines += [
        f"| {row['how']} | {row['method']} | {row['kills']} |" for row in ordered(rows) if row.get("death") is not None
    ]
    wrong = [row for row in ordered(rows) if row["lost"] or row["different"]]
    lines += ["", "## What went wrong", "", *(_said(row) for row in wrong)] if wrong else []
    lines += ["", "## What is not compared", "", "| files | keys | reason |", "|:--|:--|:--|"]
    lines += [f"| `{_cell(one.files)}` | `{_cell(one.keys)}` | {one.reason} |" for one in EXEMPT]
    lines += [f"| `{SESSIONS}` | all sessions but the last | one for every time that the run was taken up |"]
    lines += [f"| `{_cell(LOGS)}` | | output of a sweep's jobs, in a directory that is named by the date |", ""]
    return "\n".join(lines)


def ordered(rows: Sequence[Row]) -> list[Row]:
    """By kind, method and number."""
    return sorted(rows, key=lambda row: (KINDS.index(row["kind"]), row["method"], row["number"]))


def _table(head: str, groups: Sequence[tuple[str, Sequence[Row]]]) -> list[str]:
    lines = [f"| {head} | {' | '.join(COLUMNS)} |", f"|{':--|' * (1 + head.count('|'))}{'--:|' * len(COLUMNS)}"]
    for name, rows in groups:
        if rows:
            lines.append(f"| {name} | {' | '.join(str(value) for value in counted(rows).values())} |")
    return [*lines, ""]


def _said(row: Row) -> str:
    told = "; ".join([*row["lost"], *row["different"]])
    return f"- {row['kind']}, {row['method']} {row['number']} {row['how']}: {_cell(told)}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
