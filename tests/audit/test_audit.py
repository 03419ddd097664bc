"""The check of the embedded tasks: rows recomputed on summaries of known truth, and the committed record."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emorl_bench.assets.shipped import content_key
from emorl_bench.assets.world.best import answers_and_grades
from emorl_bench.assets.world.statements import sample_statements
from emorl_bench.audit import bases, policies, record, sweeps
from emorl_bench.audit.policies import Summary
from emorl_bench.audit.requirements import Requirement
from emorl_bench.building.reflections.probe import LEAST, MOST_WORDS

ARENA = Path(__file__).parents[2] / "results" / "arena"
NAMES = ("reflection", "empathy", "fluency")
CORNERS = ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1 / 3] * 3)


def point(score: float, gold: list[float], preference: list[float], distinct: float = 0.9) -> dict[str, Any]:
    mean = sum(gold) / len(gold)
    grades = dict(zip(NAMES, gold, strict=True))
    return {
        "preference": preference,
        "mean_reward": score,
        "gold_mean_reward": mean,
        "gold": grades,
        "objectives": grades,
        "held_out": grades,
        "distinct": distinct,
    }


def summary(method: str, seed: int, points: list[dict[str, Any]]) -> Summary:
    content = {"decoding": {"greedy": {"uniform": points[-1], "points": points}}, "ceiling": {"uniform": 0.7}}
    return Summary("reflections", "tiny_t5", method, seed, content)


def one(method: str, seed: int, gold: float, score: float | None = None, distinct: float = 0.9) -> Summary:
    own = gold if score is None else score
    return summary(method, seed, [point(own, [gold] * 3, [1 / 3] * 3, distinct)])


def sound() -> list[Summary]:
    """Six single policies whose scores say the truth, a base, and one policy for each preference."""
    fronts = [[0.8, 0.1, 0.3], [0.1, 0.9, 0.6], [0.2, 0.2, 1.0], [0.6, 0.6, 0.6]]
    morlhf = [point(float(np.mean(g)), g, w) for g, w in zip(fronts, CORNERS, strict=True)]
    pairs = [(0.52, 0.50), (0.50, 0.55), (0.6, 0.6)]
    runs = [one(m, s, g) for s, golds in enumerate(pairs) for m, g in zip(policies.PAIR, golds, strict=True)]
    return [*runs, one("base", 0, 0.4), summary("morlhf", 0, morlhf)]


def row(runs: list[Summary], begins: str) -> Requirement:
    (found,) = [r for r in policies.requirements(runs) if r.name.startswith(begins)]
    return found


def test_a_sound_task_has_known_rows() -> None:
    runs = sound()
    assert row(runs, "Spearman").value == pytest.approx(1.0)
    assert row(runs, "policies with").value == 0
    assert row(runs, "median").value == pytest.approx(0.0)
    assert row(runs, "distinct gold points").value == 4
    assert not row(runs, "distinct gold points").met
    assert row(runs, "largest fall").value == pytest.approx(0.1 - 0.4)
    assert row(runs, "best gold").value == pytest.approx((0.6 - 0.4) / (0.7 - 0.4))
    assert row(runs, "probability").value == pytest.approx((1 + 0 + 0.5) / 3)


def test_a_fooled_scorer_is_found() -> None:
    runs = [*sound(), one("weighted_ppo", 0, 0.1, score=0.9)]
    fooled = row(runs, "policies with")
    assert fooled.value == 1
    assert not fooled.met
    assert row(runs, "Spearman").value < 1


def test_one_answer_for_all_prompts_is_found() -> None:
    runs = [*sound(), one("grpo", 0, 0.5, distinct=1 / 64)]
    assert row(runs, "least distinct").value == pytest.approx(1 / 64)
    assert not row(runs, "least distinct").met


def test_what_was_not_measured_fails() -> None:
    missing = Requirement("", "", "", math.nan, 0.0)
    assert not missing.met
    assert (missing.wanted, Requirement("", "", "", 0, 0.1, 0.2).wanted) == ("at least 0", "0.1 to 0.2")


def test_every_best_answer_has_the_qualities_that_bases_are_asked_for() -> None:
    for statement in sample_statements("audit", 40, seed=5):
        answers, grades_NK = answers_and_grades(statement.text, MOST_WORDS)
        best = int(grades_NK.mean(1).argmax())
        assert (grades_NK[best, :2] >= LEAST).all(), answers[best]


def test_the_untrained_rows_hold() -> None:
    unmet = [f"{r.model}: {r.name}: {r.value:.3f}, wanted {r.wanted}" for r in bases.of_reflections() if not r.met]
    assert unmet == []


@pytest.mark.parametrize("file", [record.FILE, record.BASES])
def test_the_committed_record_is_of_the_shipped_assets(file: str) -> None:
    committed = json.loads((ARENA / file).read_text())
    assert committed["assets"] == content_key(), "run: emorl-assets check --out results/arena"


def test_a_record_says_what_was_measured(tmp_path: Path) -> None:
    runs = sound()
    record.write(tmp_path, policies.requirements(runs), runs, {"commit": "abc"})
    written = json.loads((tmp_path / record.FILE).read_text())
    assert written["commit"] == "abc"
    assert {r["name"] for r in written["requirements"]} == {r.name for r in policies.requirements(runs)}
    bases_of = json.loads((tmp_path / record.BASES).read_text())["rows"]
    assert bases_of["reflections/tiny_t5"]["gold"]["empathy"] == 0.4
    assert "| **no** |" in (tmp_path / "check.md").read_text()


def test_untrained_models_score_what_the_committed_table_says(tmp_path: Path) -> None:
    """To three digits, on any machine: assets, decoding, scorers and gold are the same everywhere."""
    sweeps.run(tmp_path, (sweeps.BASES,))
    committed = json.loads((ARENA / record.BASES).read_text())["rows"]
    found = {f"{run.task}/{run.model}": record.base_row(run) for run in policies.read_summaries(tmp_path)}
    assert found.keys() == committed.keys()
    for cell, sets in committed.items():
        for name, scores in sets.items():
            assert found[cell][name] == pytest.approx(scores, abs=1e-3), (cell, name)  # both are rounded
