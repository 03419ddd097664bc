"""Synthetic runs with all that report.html shows: gold, shares of the budget, answers, settings, a failed run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from support.synthetic_runs import METHODS, OBJECTIVES, add_gold, rung, write_run

SEEDS = (0, 1, 2)
PROMPTS = 9
HOSTILE_METHOD = "base"  # whose answers try to become markup
HOSTILE = (
    "</script><script>window.broken = 1</script>",
    '<img src=x onerror="window.broken = 1">',
    "{{script}} {{data}} <!--<script>",
    "a\u2028b & c &amp; d \" ' ` \\u003c",
)
HOSTILE_PROMPT = "<b onmouseover='window.broken = 1'>prompt</b> </SCRIPT >"
FAILURE = "ScorerError: <i>NaN</i> from </script>"


def write_everything(root: Path, methods: dict[str, float] = METHODS, seeds: tuple[int, ...] = SEEDS) -> Path:
    """The runs; returns their directory."""
    for method, level in methods.items():
        for seed in seeds:
            noise = np.random.default_rng([7, seed, *method.encode()]).normal(0, 0.01)
            dir = write_run(root, method, seed, level=level + noise)
            summary = add_gold(dir, gap=0.02 + 0.05 * (method == "cory"), change=change(method), kl_coefficient=0.02)
            summary["ladder"] = [rung(summary, share, 0.1 * (1 - share)) for share in (0.25, 0.5, 1.0)]
            (dir / "summary.json").write_text(json.dumps(summary))
            write_answers(dir, summary, method, seed)
            config = {"method": {"_target_": f"baselines.{method}"}, "update": {"learning_rate": 1e-3}, "seed": seed}
            (dir / "config.yaml").write_text(yaml.safe_dump(config))
            session = {"command": ["emorl-bench", "-m", f"method={method}", "seed=0,1,2"], "commit": "c0ffee" * 6}
            session |= {"python": "3.11", "machine": {"processor": "a processor", "cores": 2}}
            (dir / "provenance.json").write_text(json.dumps({"sessions": [session]}))
    failed = root / "reflections" / "seq2seq" / "emorl" / "s9-00000000"
    failed.mkdir(parents=True)
    (failed / "status.json").write_text(json.dumps({"state": "failed", "error": FAILURE}))
    return root


def change(method: str) -> dict[str, Any]:
    """Methods with a weight to turn answer a further preference for nothing."""
    free = method in ("emorl", "param_merge")
    each = {"first_preference": 3600.0, "next_preference": 0.0 if free else 3600.0, "next_objective": 1200.0}
    return {what: {"prompts": prompts, "flops": prompts * 1e9} for what, prompts in each.items()}


def write_answers(
    dir: Path, summary: dict[str, Any], method: str, seed: int, objectives: tuple[str, ...] = OBJECTIVES
) -> None:
    """samples.jsonl as the runner writes it: a policy's answers lie under the first preference that it answers."""
    rng = np.random.default_rng([seed, *method.encode(), 5])
    points = summary["decoding"]["greedy"]["points"]
    first = [w for w, point in enumerate(points) if point["objectives"] not in [p["objectives"] for p in points[:w]]]
    with (dir / "samples.jsonl").open("w") as file:
        for w in first:
            for decoding in ("greedy", "sampled"):
                for sample in range(2 if decoding == "sampled" else 1):
                    for row in answered(method, w, decoding, sample, rng, objectives, "gold" in points[0]):
                        file.write(json.dumps(row | {"decoding": decoding, "preference": w}) + "\n")


def answered(
    method: str, w: int, decoding: str, sample: int, rng: np.random.Generator, objectives: tuple[str, ...], gold: bool
) -> Iterator[dict[str, Any]]:
    """One answer to each prompt."""
    for i in range(PROMPTS):
        prompt = HOSTILE_PROMPT if i == 1 else f"prompt number {i}: i feel tired."
        response = f"you feel tired, says {method} to prompt {i} for {w}, {decoding} {sample}."
        if method == HOSTILE_METHOD:
            response = f"{HOSTILE[i % len(HOSTILE)]} {i} {w} {decoding}"
        scores = dict(zip(objectives, rng.uniform(0.2, 1, len(objectives)).tolist(), strict=True))
        row = {"split": "report", "example_id": f"e{i}", "sample": sample, "prompt": prompt, "response": response}
        row |= scores | {f"held_out/{name}": 0.9 * score for name, score in scores.items()}
        yield row | ({f"gold/{name}": float(rng.uniform(0, 1)) for name in scores} if gold else {})
