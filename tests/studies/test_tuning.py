"""Tuning: draws that cover their ranges, numbers of the select split alone, tables, the program in micro size."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from support.composing import composed

from emorl_bench.config.compose import conf_dir, plain
from emorl_bench.config.targets import check_targets
from emorl_bench.core.errors import UserError
from studies.tuning import __main__ as tune
from studies.tuning.space import Knob, drawn, knobs
from studies.tuning.tables import Trial, best, write_tables
from studies.tuning.utility import select_utility

TABLES = Path(__file__).parents[2] / "results" / "tuning"
SUMMARY = {"objectives": ["a", "b"], "preferences": [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]}


# draws ------------------------------------------------------------------------------------------------
def test_draws_cover_a_range_evenly_and_a_list_equally_often() -> None:
    space = {"rate": Knob(1e-4, 4e-3), "epochs": Knob(values=(1, 2, 4))}
    found = drawn(space, 12)
    parts = sorted(int(12 * math.log(row["rate"] / 1e-4) / math.log(40) + 1e-3) for row in found)
    assert parts == list(range(12))
    assert sorted(row["epochs"] for row in found) == [1] * 4 + [2] * 4 + [4] * 4
    assert found == drawn(space, 12)


def test_a_key_s_draws_do_not_depend_on_the_others() -> None:
    alone, beside = drawn({"rate": Knob(1.0, 2.0)}, 7), drawn({"c": Knob(values=(1, 2)), "rate": Knob(1.0, 2.0)}, 7)
    assert [row["rate"] for row in alone] == [row["rate"] for row in beside]


def test_a_range_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match=r"space\.x=\{'low': 3, 'high': 1\}: give values, or low and high"):
        knobs({"x": {"low": 3, "high": 1}})


# the number by which trials are compared ------------------------------------------------------------
def recorded(run: Path, *rows: dict[str, float], **files: str) -> Path:
    run.mkdir(exist_ok=True)
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, text in files.items():
        (run / f"{name}.jsonl").write_text(text)
    return run


def test_one_policy_is_worth_its_best_validation(tmp_path: Path) -> None:
    rows = [{"step": s, "learner/policy/eval/utility": u} for s, u in enumerate((0.1, 0.7, 0.4))]
    report = {"step": 9.0, "eval/greedy/1.00-0.00/a": 0.99, "final/greedy/utility": 0.99}
    assert select_utility(recorded(tmp_path, *rows, report), SUMMARY) == 0.7


def test_a_policy_for_each_preference_is_worth_their_mean_and_experts_count_for_nothing(tmp_path: Path) -> None:
    rows = [
        {"step": 0.0, "learner/1-0/eval/utility": 0.2, "learner/0-1/eval/utility": 0.6, "learner/a/eval/utility": 0.9},
        {"step": 1.0, "learner/1-0/eval/utility": 0.4, "learner/0-1/eval/utility": 0.5},
    ]
    assert select_utility(recorded(tmp_path, *rows), SUMMARY) == pytest.approx((0.4 + 0.6) / 2)


def test_a_searched_front_is_worth_what_its_preferences_found(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"scores": scores}) + "\n" for scores in ([0.8, 0.2], [0.3, 0.6], [0.5, 0.6]))
    run = recorded(tmp_path, {"step": 0.0, "learner/a/eval/utility": 0.99}, search=lines)
    assert select_utility(run, SUMMARY) == pytest.approx((0.8 + 0.55 + 0.6) / 3)


def test_of_a_group_the_deployed_one_counts(tmp_path: Path) -> None:
    members = {
        "first": {"deployed": False, "select": {"a": 1.0, "b": 1.0}},
        "second": {"deployed": True, "select": {"a": 0.2, "b": 0.4, "step": 3.0}},
    }
    assert select_utility(recorded(tmp_path), SUMMARY | {"members": members}) == pytest.approx(0.3)


def test_what_was_not_trained_cannot_be_tuned(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is nothing to tune"):
        select_utility(recorded(tmp_path), SUMMARY)


# tables -----------------------------------------------------------------------------------------------
def test_the_best_trial_is_better_in_every_cell_and_the_tables_hold_every_number(tmp_path: Path) -> None:
    given = {(0, "x"): 0.5, (0, "y"): 0.5, (1, "x"): 0.9, (1, "y"): 0.45, (2, "x"): 0.6, (2, "y"): 0.6, (3, "x"): 0.99}
    trials = [Trial(c, "m", n, {"update.epochs": n}, {100: u - 0.1, 101: u + 0.1}) for (n, c), u in given.items()]
    trials.append(Trial("y", "m", 3, {"update.epochs": 3}, {}))  # it has failed
    assert best(trials, ["x", "y"]) == {"m": 2}
    write_tables(trials, tmp_path, [100, 101], ["x", "y"])
    rows = list(csv.DictReader((tmp_path / "trials.csv").open()))
    assert len(rows) == 8
    assert (rows[2]["cell"], rows[2]["update.epochs"], rows[2]["utility_101"], rows[2]["mean"]) == (
        "x",
        "1",
        "1.0000",
        "0.9000",
    )
    text = (tmp_path / "trials.md").read_text()
    assert "| m | **2** | `update.epochs=2` | 0.6000 | 0.6000 |" in text
    assert "| m | 2 | `update.epochs=2` | 0.6000 | 0.6000 | 0.5000 0.5000 |" in text


# the program ------------------------------------------------------------------------------------------
def plan(tmp_path: Path, *arguments: str) -> tune.Plan:
    return tune.parsed(["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out"), *arguments])


def test_every_method_of_the_sweep_has_as_many_trials_of_the_keys_that_it_has(tmp_path: Path) -> None:
    told = plan(tmp_path)
    assert (told.trials, list(told.seeds), len(told.cells)) == (4, [100, 101], 2)
    for method in told.methods:
        first, *others = tune.settings_of(told, method)
        assert (first, len(others)) == ({}, 3)
        assert all("update.learning_rate" in settings for settings in others)
        assert not any("kl_coefficient" in key for settings in others for key in settings)


def test_a_trial_s_file_is_the_method_with_its_settings(tmp_path: Path) -> None:
    told = plan(tmp_path, "--methods", "weighted_ppo", "--cells", "reflections/tiny_gpt2", "--trials", "3")
    directory = tune.write_trials(told, "weighted_ppo")
    for trial, settings in enumerate(tune.settings_of(told, "weighted_ppo")):
        changes: Any = OmegaConf.load(
            directory / "experiment" / f"tune_reflections_tiny_gpt2_weighted_ppo_{trial}.yaml"
        )
        del changes["defaults"]
        config = plain(composed("method=weighted_ppo", "model=tiny_gpt2", *(f"{k}={v}" for k, v in settings.items())))
        check_targets(config)
        assert changes.get("update", {}) == {k.removeprefix("update."): v for k, v in settings.items()}
    assert "params" not in (directory / "tune.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--methods", "grop"], "--methods grop: there is no such method"),
        (["--cells", "reflections"], "--cells reflections: give task/model"),
        (["--trials", "0"], "--trials 0"),
    ],
)
def test_a_wrong_command_is_named(tmp_path: Path, arguments: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        plan(tmp_path, *arguments)


def test_tuned_methods_name_the_table() -> None:
    tables = {path.name: path.read_text() for path in TABLES.glob("trials*.md")}
    for method in plan(Path()).methods:
        (named,) = re.findall(r"results/tuning/(\S+\.md)", (conf_dir() / "method" / f"{method}.yaml").read_text())
        having = [name for name, text in tables.items() if f"| {method} |" in text]
        assert named in tables
        assert having in ([], [named]), "a method that was tuned names the table that has its trials"


@pytest.mark.slow
def test_the_program_in_micro_size(tmp_path: Path) -> None:
    arguments = ["--methods", "grpo", "--trials", "2", "--seeds", "100", "--cells", "reflections/tiny_t5"]
    arguments += ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out"), "budget=smoke", "budget.prompts=96"]
    assert tune.main(arguments) == 0
    rows = list(csv.DictReader((tmp_path / "out" / "trials.csv").open()))
    assert [row["trial"] for row in rows] == ["0", "1"]
    assert all(0 < float(row["mean"]) < 1 for row in rows)
    before = (tmp_path / "out" / "trials.csv").read_text()
    assert tune.main(arguments) == 0  # nothing is run again
    assert (tmp_path / "out" / "trials.csv").read_text() == before
