"""What a view shows at the end of a run: the numbers of its summary, its front, some answers, and three pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from emorl_bench.tracking.view import View

Record = Mapping[str, Any]

SAMPLES = 200  # rows of the table of answers, about
SETS = ("objectives", "held_out", "gold")  # the sets of scores of a point


def show_end(view: View, summary: Record, phases: Mapping[str, Mapping[str, float]], directory: Path) -> None:
    """Show a finished run.

    Args:
        view: where to show it.
        summary: the content of ``summary.json``.
        phases: the content of ``cost.json``.
        directory: the run directory, with ``samples.jsonl`` and ``search.jsonl``.
    """
    from emorl_bench.tracking.pictures import pictures  # matplotlib takes a second to import

    view.table("front", front_rows(summary))
    view.table("samples", sample_rows(summary, _lines(directory / "samples.jsonl")))
    for name, png in pictures(summary, _lines(directory / "search.jsonl")).items():
        view.image(name, png)
    view.summarise(numbers(summary, phases))


def numbers(summary: Record, phases: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The numbers that a run ends with, each under one name.

    - ``final/<decoding>/...``: the uniform preference and the indicators of the front.
    - ``front/<decoding>/<preference>/...``: scores and utility of every other preference, where a method has more than
      one answer to preferences.
    - ``cost/...`` totals, ``ledger/<phase>/...`` counters that are not 0, ``change/...``, ``ladder/<share>/...``.
    """
    found: dict[str, float] = {}
    for decoding, graded in summary.get("decoding", {}).items():
        found |= flat({k: v for k, v in graded.items() if k not in ("points", "uniform")}, f"final/{decoding}")
        found |= flat({k: v for k, v in graded["uniform"].items() if k != "preference"}, f"final/{decoding}")
        for point in () if summary["single_point"] else graded["points"]:
            if point["preference"] != graded["uniform"]["preference"]:
                own = {**point["objectives"], "utility": point["utility"]}
                found |= flat(own, f"front/{decoding}/{named(point['preference'])}")
    for name in ("cost", "change", "prompts", "converged_at", "ceiling"):
        found |= flat(summary.get(name) or {}, name)
    for rung in summary.get("ladder", ())[:-1]:
        reward = next(iter(rung["decoding"].values()))["uniform"]["mean_reward"]
        found |= flat({"data_points": rung["data_points"], "mean_reward": reward}, f"ladder/{rung['share']:g}")
    spent = {phase: {k: v for k, v in counters.items() if v} for phase, counters in phases.items()}
    return found | flat(spent, "ledger")


def flat(record: Record, prefix: str) -> dict[str, float]:
    """The numbers of nested mappings, under names with slashes. Lists, texts and truth values are no numbers."""
    found: dict[str, float] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}/{key}")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{prefix}/{key}"] = float(value)
    return found


def front_rows(summary: Record) -> list[dict[str, Any]]:
    """A row for every decoding and preference, the uniform preference first: utilities, and scores by objective."""
    rows = []
    for decoding, graded in summary.get("decoding", {}).items():
        for point in _uniform_first(graded["points"], graded["uniform"]):
            row = {"preference": named(point["preference"]), "decoding": decoding}
            row |= {k: point.get(k) for k in ("utility", "held_out_utility", "gold_utility", "kl")}
            scores = {s: point[s] for s in SETS if s in point}
            row |= {name if s == "objectives" else f"{s}/{name}": v for s in scores for name, v in scores[s].items()}
            rows.append(row)
    return rows


def sample_rows(summary: Record, samples: Sequence[Record]) -> list[dict[str, Any]]:
    """Answers, the uniform preference first: as many for each preference and decoding, to the same prompts.

    A policy that answers several preferences was graded once, and its answers are recorded under the first of them. Of
    a method with one policy only the answers under the uniform preference are shown.
    """
    blocks = []
    for decoding, graded in summary.get("decoding", {}).items():
        points = _uniform_first(graded["points"], graded["uniform"])
        for order, point in enumerate(points[:1] if summary["single_point"] else points):
            holder = next(i for i, other in enumerate(graded["points"]) if other["objectives"] == point["objectives"])
            own = [row for row in samples if row["preference"] == holder and row["decoding"] == decoding]
            blocks.append((order, named(point["preference"]), own))
    if not blocks:
        return []
    each = min(max(1, SAMPLES // len(blocks)), *(len(own) for *_, own in blocks), SAMPLES)
    blocks.sort(key=lambda block: block[0])
    return [_sample(row, preference) for _, preference, own in blocks for row in own[:each]]


def named(preference: Sequence[float]) -> str:
    """A preference as text, such as ``0.33-0.33-0.33``."""
    return "-".join(f"{weight:.2f}" for weight in preference)


def _uniform_first(points: Sequence[Record], uniform: Record) -> list[Record]:
    others = [point for point in points if point["preference"] != uniform["preference"]]
    return [uniform, *others]


def _sample(row: Record, preference: str) -> dict[str, Any]:
    first = {
        "preference": preference,
        "decoding": row["decoding"],
        "prompt": row["prompt"],
        "response": row["response"],
    }
    return first | {key: value for key, value in row.items() if key not in (*first, "split")}


def _lines(path: Path) -> list[dict[str, Any]]:
    return list(_objects(path)) if path.exists() else []


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line:
            yield json.loads(line)
