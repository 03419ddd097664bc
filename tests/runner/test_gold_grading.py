"""A task with gold, run as a user runs it: gold grades, and neither trains, chooses nor moves an expert's address."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from support.composing import composed

from emorl_bench.core.types import Example
from emorl_bench.report.read import read_runs
from emorl_bench.runner import job
from emorl_bench.runner.bench import Workbench
from emorl_bench.runner.evaluate import Grader
from emorl_bench.runner.fingerprints import comparison_fingerprint, fingerprint
from emorl_bench.runner.provenance import assets_hash, embedded_assets
from emorl_bench.scorers.rule import Rule
from emorl_bench.tasks.reflections import Reflections
from emorl_bench.tracking.silent import Silent

NAMES = {"task": "reflections", "model": "tiny_t5", "method": "weighted_scst"}
SMALL = ("budget=smoke", "budget.prompts=32", "preferences.divisions=1", "tracker=local", "hardware=cpu")
GOLD = ("reflection", "empathy", "fluency")


@dataclass(frozen=True)
class Share(Rule):
    """Characters of ``letter``, of 20; may be asked while grading alone."""

    name: str
    letter: str
    grading = False

    def score(self, examples: Sequence[Example], responses: Sequence[str]) -> list[float]:
        assert Share.grading, "a method asked gold"
        return [min(20, response.count(self.letter)) / 20 for response in responses]


@pytest.fixture
def with_gold(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded task under gold that whoever is not the grader may not ask."""
    grade = Grader.grade

    def watched(self: Grader, *arguments: Any) -> Any:
        monkeypatch.setattr(Share, "grading", True)
        found = grade(self, *arguments)
        monkeypatch.setattr(Share, "grading", False)
        return found

    monkeypatch.setattr(Grader, "grade", watched)
    monkeypatch.setattr(Reflections, "gold_scorers", lambda self: {n: Share(n, n[0]) for n in GOLD})
    monkeypatch.setattr(Reflections, "ceiling", lambda self, examples, w_WK: torch.ones_like(w_WK))


def settings(tmp_path: Path, *overrides: str) -> dict[str, Any]:
    return job.resolve(composed(*SMALL, f"runs_dir={tmp_path}", "method=weighted_scst", *overrides), NAMES)


def test_gold_is_recorded_and_no_method_sees_it(with_gold: None, tmp_path: Path) -> None:
    config = composed(*SMALL, f"runs_dir={tmp_path}", "method=weighted_scst")
    job.run(config, [], NAMES)
    (run,), _ = read_runs(tmp_path)
    rows = list(map(json.loads, (run.dir / "samples.jsonl").read_text().splitlines()))
    greedy = [row for row in rows if row["decoding"] == "greedy"]
    expected = {n: sum(min(20, r["response"].count(n[0])) / 20 for r in greedy) / len(greedy) for n in GOLD}
    front = run.decoding["greedy"]
    assert front["uniform"]["gold"] == pytest.approx(expected)
    assert front["gold_deployed_utility"] == pytest.approx(sum(expected.values()) / 3)
    assert {f"gold/{name}" for name in GOLD} < set(pq.read_schema(run.dir / "scores.parquet").names)
    assert run.ceiling is not None
    assert run.ceiling["mean_utility"] == 1
    assert run.assets == embedded_assets()
    assert front["uniform"]["passes_per_answer"] == pytest.approx(front["uniform"]["length"])


def test_a_gold_setting_parts_tables_and_not_experts(
    with_gold: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, found = settings(tmp_path), []
    for letters in ("abc", "abd"):
        gold = {name: Share(name, letter) for name, letter in zip(GOLD, letters, strict=True)}
        monkeypatch.setattr(Reflections, "gold_scorers", lambda self, gold=gold: gold)
        built = Workbench.build(config, tmp_path, Silent())
        assert built.grader.gold is not None
        assert built.grader.gold.objectives == built.bench.objectives
        found.append((comparison_fingerprint(config), fingerprint(config), built.bench.runtime.fingerprint))
    (table, run, expert), (other_table, other_run, other_expert) = found
    assert table != other_table
    assert run != other_run
    assert expert == other_expert


def test_an_objective_that_only_gold_has_is_left_out(with_gold: None, tmp_path: Path) -> None:
    built = Workbench.build(settings(tmp_path, "~task.scorers.empathy"), tmp_path, Silent())
    assert built.grader.gold is not None
    assert built.grader.gold.objectives == built.bench.objectives == ("reflection", "fluency")


def test_a_run_says_on_which_assets_it_stood_and_only_if_it_did(tmp_path: Path) -> None:
    config = settings(tmp_path)
    assert assets_hash(config) == embedded_assets()
    elsewhere = {**config, "model": {**config["model"], "path": "/some/model"}}
    assert assets_hash(elsewhere) == embedded_assets(), "its scorers are embedded"
    rule = {"scorers": {"edit_rate": {"_target_": "emorl_bench.scorers.edit_rate.EditRate"}}}
    assert assets_hash({**elsewhere, "task": rule}) is None
