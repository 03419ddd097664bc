"""Run directories as the runner writes them, with made-up numbers: what the report is tested on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from emorl_bench.indicators.fronts import deployed_utility, hypervolume, simplex_grid
from emorl_bench.report.read import Run, read_runs

OBJECTIVES = ("reflection", "empathy", "fluency")
METHODS = {"emorl": 0.72, "weighted_ppo": 0.75, "param_merge": 0.68, "cory": 0.66, "base": 0.35}
WITH_A_KNOB = ("emorl", "param_merge")
PROMPTS = 12


def point(scores_K: np.ndarray, preference_K: np.ndarray, names: tuple[str, ...]) -> dict[str, Any]:
    return {
        "preference": preference_K.tolist(),
        "objectives": dict(zip(names, scores_K.tolist(), strict=True)),
        "held_out": {name: float(score) - 0.06 for name, score in zip(names, scores_K, strict=True)},
        "mean_reward": float(scores_K.mean()),
        "utility": float(scores_K @ preference_K),
        "worst": float(scores_K.min()),
        "diversity_2": 0.91,
        "edit_rate": 0.83,
        "length": 17.2,
        "kl": 4.5,
        "not_applicable": 0.0,
    }


def write_run(root: Path, method: str, seed: int, level: float | None = None, **changes: Any) -> Path:
    """One finished run in the agreed format; ``changes`` replace keys of its summary."""
    names = changes.get("objectives", OBJECTIVES)
    rng = np.random.default_rng([seed, *method.encode()])
    grid = simplex_grid(len(names), 4)
    knob = (0.3 if method in WITH_A_KNOB else 0.0) * (grid - 1 / len(names))
    level = METHODS[method] + rng.normal(0, 0.015) if level is None else level
    scores_WK = np.clip(level + knob + rng.normal(0, 0.004, grid.shape) + np.linspace(-0.08, 0.08, len(names)), 0, 1)
    if method not in WITH_A_KNOB:
        scores_WK[:] = scores_WK[-1]
    points = [point(scores, preference, names) for scores, preference in zip(scores_WK, grid, strict=True)]
    (uniform,) = np.flatnonzero(np.isclose(grid, 1 / len(names)).all(1))
    graded = {
        "points": points,
        "uniform": points[uniform],
        "hypervolume": hypervolume(scores_WK),
        "deployed_utility": deployed_utility(scores_WK, grid),
        "held_out_hypervolume": hypervolume(scores_WK - 0.06),
        "held_out_deployed_utility": deployed_utility(scores_WK - 0.06, grid),
    }
    trained = method != "base"
    summary = {
        "schema_version": 1,
        "fingerprint": "f1" * 16,
        "names": {"task": "reflections", "model": "seq2seq", "method": method},
        "seed": seed,
        "objectives": list(names),
        "preferences": grid.tolist(),
        "decoding": {"greedy": graded, "sampled": graded},
        "single_point": method not in WITH_A_KNOB,
        "cost": {
            "data_points_max": 1200 * trained + seed,
            "data_points_sum": 3600 * trained,
            "seconds_max": 20.0,
            "seconds_sum": 60.0 * trained + 0.1 * seed,
            "search_evaluations": 57 if method in WITH_A_KNOB else 0,
            "peak_bytes": 700 * 2**20,
        },
    } | changes
    dir = root / "reflections" / "seq2seq" / method / f"s{seed}-00000000"
    dir.mkdir(parents=True)
    (dir / "status.json").write_text(json.dumps({"state": "done"}))
    (dir / "summary.json").write_text(json.dumps(summary))
    write_scores(dir, scores_WK if method in WITH_A_KNOB else scores_WK[:1], names, rng)
    if trained:
        write_curves(dir, method, level, rng)
    if method in WITH_A_KNOB:
        write_search(dir, names, level, rng)
    return dir


def add_gold(dir: Path, gap: float, best: float = 0.9, **changes: Any) -> dict[str, Any]:
    """Gold for a run that is written: ``gap`` below its scorers, ``best`` for the best legal answers in everything.

    ``changes`` replace keys of the summary, which is returned.
    """
    summary = json.loads((dir / "summary.json").read_text())
    names, grid = summary["objectives"], np.array(summary["preferences"])
    for graded in summary["decoding"].values():
        for found in [*graded["points"], graded["uniform"]]:
            gold = {name: score - gap for name, score in found["objectives"].items()}
            found |= {"gold": gold, "gold_mean_reward": found["mean_reward"] - gap}
            found |= {"gold_utility": found["utility"] - gap, "distinct": 0.75, "truncated": 0.125}
            found |= {"held_out_utility": found["utility"] - 0.06}
        gold_WK = np.array([[found["gold"][name] for name in names] for found in graded["points"]])
        graded["gold_deployed_utility"] = deployed_utility(gold_WK, grid)
        graded["gold_hypervolume"] = hypervolume(gold_WK)
        cost = {"passes_per_answer": 51.6, "decoded_tokens_per_answer": 17.2, "scorer_calls_per_answer": 0.0}
        graded["uniform"] |= cost
    utility = [best] * len(grid)
    ceiling = {"utility": utility, "objectives": [[best] * len(names)] * len(grid)}
    summary |= {"ceiling": ceiling | {"mean_utility": best, "uniform": best}, "assets": "a55e75"}
    phases = {"train": 3000.0, "search": 600.0, "validate": 960.0}
    summary["cost"] |= {f"data_points_{phase}": n for phase, n in phases.items()}
    summary["cost"] |= {f"flops_{phase}": n * 1e9 for phase, n in phases.items()}
    summary |= changes
    (dir / "summary.json").write_text(json.dumps(summary))
    return dict(summary)


def rung(summary: dict[str, Any], share: float, lost: float) -> dict[str, Any]:
    """What a run would have been graded as after a share of its budget: ``lost`` less in everything."""
    decoding = json.loads(json.dumps(summary["decoding"]))
    for graded in decoding.values():
        for key in ("gold_deployed_utility", "deployed_utility", "held_out_deployed_utility"):
            if key in graded:
                graded[key] -= lost
    spent = share * summary["cost"]["data_points_sum"]
    return {"share": share, "data_points": spent, "flops": 1e12 * share, "seconds": 60 * share, "decoding": decoding}


def write_scores(dir: Path, scores_WK: np.ndarray, names: tuple[str, ...], rng: np.random.Generator) -> None:
    rows = [
        {"split": split, "decoding": decoding, "preference": w, "example_id": f"e{i}", "sample": sample}
        | dict(zip(names, np.clip(scores_K + rng.normal(0, 0.1, len(names)), 0, 1), strict=True))
        for split, decoding, samples in (("report", "greedy", 1), ("report", "sampled", 2), ("select", "greedy", 1))
        for w, scores_K in enumerate(scores_WK)
        for i in range(PROMPTS)
        for sample in range(samples)
    ]
    pq.write_table(pa.Table.from_pylist(rows), dir / "scores.parquet")


def write_curves(dir: Path, method: str, level: float, rng: np.random.Generator) -> None:
    learners = OBJECTIVES if method in WITH_A_KNOB else ("pioneer", "observer") if method == "cory" else ("policy",)
    with (dir / "metrics.jsonl").open("w") as file:
        for offset, learner in zip((0.0, -0.07, -0.12), learners, strict=False):
            steps = 75 - int(rng.integers(0, 20))
            for step in range(1, steps + 1):
                record = {"step": step, "data_points": 16 * step, f"train/{learner}/loss": 1.0}
                if step % 8 == 0:
                    reward = level + offset - (level - 0.32) * np.exp(-step / 18) + rng.normal(0, 0.008)
                    record[f"eval/{learner}/mean_reward"] = float(reward)
                file.write(json.dumps(record) + "\n")


def write_search(dir: Path, names: tuple[str, ...], level: float, rng: np.random.Generator) -> None:
    peak = np.array([0.5, 0.3, 0.2] + [0.0] * len(names))[: len(names)]
    shift = rng.normal(0, 0.01)
    with (dir / "search.jsonl").open("w") as file:
        for preference in (np.eye(len(names))[0], np.full(len(names), 1 / len(names))):
            for weights in np.stack(np.meshgrid(*[[0, 0.5, 1.0]] * len(names)), -1).reshape(-1, len(names)):
                share = weights / max(weights.sum(), 1e-9)
                utility = level + shift - 0.5 * float(((share - peak) ** 2).sum())
                record = {"preference": preference.tolist(), "weights": weights.tolist(), "utility": utility}
                file.write(json.dumps(record | {"scores": [utility] * len(names)}) + "\n")


def finished(root: Path) -> list[Run]:
    """The runs of a directory, none of which may be unfinished."""
    runs, unfinished = read_runs(root)
    assert not unfinished
    return runs
