"""Any sweep in one report: rows named by what differs, chosen and grouped by any key, and nothing counted twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.synthetic_runs import write_run

from emorl_bench.cli.report import Choice, main, report
from emorl_bench.core.errors import UserError
from emorl_bench.report.claims import claims
from emorl_bench.report.comparison import Comparison, comparisons
from emorl_bench.report.read import Run, read_runs
from emorl_bench.report.reference import reference_row
from emorl_bench.report.selection import where

RULES: dict[str, dict[str, Any]] = {"scst": {"baseline": "mean"}, "grpo": {"epochs": 2, "clip": 0.2}}


def write(root: Path, method: str, seed: int, rule: str = "scst", **settings: Any) -> Path:
    """A run with a configuration; ``settings`` are dotted keys, with two underscores for a dot."""
    dir = write_run(root / f"{rule}{settings}", method, seed)
    config: dict[str, Any] = {
        "task": {"_target_": "Reflections", "split_seed": 0},
        "model": {"path": "embedded:tiny", "adapter": {"rank": 8}},
        "update": {"_target_": rule, "learning_rate": 0.002, "kl_coefficient": 0.0, **RULES[rule]},
        "method": {"_target_": method, "search": {"seed": seed}},
        "budget": {"prompts": 1024, "report_prompts": 64, "ladder": [0.5, 1.0]},
        "hardware": {"threads": seed + 1, "dtype": "float32"},
        "seed": seed,
        "runs_dir": str(root),
        "names": {"task": "reflections", "model": "seq2seq", "method": method, "update": rule, "budget": "short"},
    }
    summary = json.loads((dir / "summary.json").read_text())
    for key, value in settings.items():
        *path, last = key.split("__")
        if path == ["summary"]:
            summary[last] = value
            continue
        node = config
        for part in path:
            node = node[part]
        node[last] = value
    (dir / "summary.json").write_text(json.dumps(summary))
    (dir / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return dir


def rows(runs: Sequence[Run], **options: Any) -> dict[str, int]:
    (comparison,) = comparisons(runs, **options)
    return {name: len(found) for name, found in comparison.methods("greedy").items()}


def found(root: Path) -> list[Run]:
    return read_runs(root)[0]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two update rules, two learning rates and a method that nothing varies in, with two seeds each."""
    root = tmp_path_factory.mktemp("sweep")
    for seed in range(2):
        for rule in RULES:
            for rate in (1e-3, 2e-3):
                write(root, "cory", seed, rule, update__learning_rate=rate)
        write(root, "base", seed)
    return root


def test_rows_are_named_by_the_keys_that_differ(sweep: Path) -> None:
    named = {f"cory [update={rule}, lr={rate}]": 2 for rule in RULES for rate in ("1e-3", "2e-3")}
    assert rows(found(sweep)) == {**named, "base": 2}, "settings of a rule, seeds and threads are in no name"


def test_a_setting_of_one_rule_is_named_where_it_varies(tmp_path: Path) -> None:
    for seed in range(2):
        write(tmp_path, "cory", seed, "scst")
        for epochs in (1, 4):
            write(tmp_path, "cory", seed, "grpo", update__epochs=epochs)
    assert rows(found(tmp_path)) == {
        "cory [update=scst]": 2,
        "cory [update=grpo, epochs=1]": 2,
        "cory [update=grpo, epochs=4]": 2,
    }


def test_budget_and_adapter_are_rows_of_one_table_and_graded_data_are_sections(tmp_path: Path) -> None:
    write(tmp_path, "cory", 0)
    write(tmp_path, "cory", 0, budget__prompts=2048, summary__fingerprint="b" * 16)
    write(tmp_path, "cory", 0, model__adapter={"rank": 16}, summary__fingerprint="c" * 16)
    assert rows(found(tmp_path)) == {
        "cory [rank=8, prompts=1024]": 1,
        "cory [rank=8, prompts=2048]": 1,
        "cory [rank=16, prompts=1024]": 1,
    }
    write(tmp_path, "base", 0)
    assert "base [rank=8, prompts=1024]" in rows(found(tmp_path)), "a row with another budget beside it says its own"
    write(tmp_path, "cory", 0, task__split_seed=1, summary__fingerprint="d" * 16)
    titles = {c.title: len(c.runs) for c in comparisons(found(tmp_path))}
    assert titles == {
        "reflections · seq2seq · split_seed=0": 4,
        "reflections · seq2seq · split_seed=1": 1,
    }


def test_other_weights_with_the_same_settings_are_sections_that_show_the_fingerprint(tmp_path: Path) -> None:
    write(tmp_path / "a", "cory", 0)
    write(tmp_path / "b", "cory", 0, summary__fingerprint="b" * 16)
    titles = [c.title for c in comparisons(found(tmp_path))]
    assert titles == [f"reflections · seq2seq · fingerprint {part}" for part in ("b" * 12, "f1" * 6)]


def test_several_roots_are_one_report_and_a_directory_counts_once(tmp_path: Path) -> None:
    for seed in range(4):
        write(tmp_path / ("one" if seed < 2 else "two"), "cory", seed)
    runs, _ = read_runs(tmp_path / "one", tmp_path / "two", tmp_path)
    assert sorted(run.seed for run in runs) == [0, 1, 2, 3]
    assert rows(runs) == {"cory": 4}


@pytest.mark.parametrize(
    ("condition", "left"),
    [
        ("update=grpo", 4),
        ("method=base", 2),
        ("method!=base", 8),
        ("method=c*", 8),
        ("lr<=1e-3", 4),
        ("learning_rate=0.001", 4),
        ("update.learning_rate > 0.001", 6),
        ("seed=1,7", 5),
        ("epochs=2", 4),
    ],
)
def test_where_takes_the_runs_that_meet_it(sweep: Path, condition: str, left: int) -> None:
    assert len(where(found(sweep), [condition])) == left


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("learning_rat=1", "did you mean 'update.learning_rate'"),
        ("method", "is no condition; write KEY=VALUE"),
        ("lr<fast", "'fast' is no number"),
        ("update=ppo", "leaves no run; update is grpo, scst"),
    ],
)
def test_a_condition_that_cannot_be_met_is_refused(sweep: Path, condition: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        where(found(sweep), [condition])


def test_grouped_rows_average_over_the_rest_and_pair_within_it(sweep: Path, tmp_path: Path) -> None:
    runs = where(found(sweep), ["method=cory"])
    assert rows(runs, group_by=["update"]) == {"update=scst": 4, "update=grpo": 4}
    assert rows(runs, group_by=["method", "lr"]) == {"cory [lr=1e-3]": 4, "cory [lr=2e-3]": 4}
    (comparison,) = comparisons(runs, group_by=["update"])
    (claim,) = claims(comparison, "greedy", "update=scst")[0]
    by_key = {
        (run.keys["update"], run.keys["update.learning_rate"], run.seed): run.decoding["greedy"]["uniform"][
            "mean_reward"
        ]
        for run in runs
    }
    expected = {by_key["grpo", rate, seed] - by_key["scst", rate, seed] for rate in (1e-3, 2e-3) for seed in range(2)}
    assert set(claim.differences) == expected
    text = report(sweep, tmp_path, choice=Choice(where=("method=cory",), group_by=("update",))).read_text()
    assert "Rows average over `update.learning_rate`" in text


def test_the_command_line_takes_several_runs_conditions_and_groups(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path)]
    main([str(sweep), str(sweep), *out, "--where", "update=grpo", "--where", "lr<=1e-3", "--reference", "cory"])
    assert "cory †      2" in capsys.readouterr().out
    main([str(sweep), *out, "--group-by", "method,update", "--latex"])
    assert "cory [update=grpo] †" in capsys.readouterr().out
    assert "cory [update=grpo] $\\dagger$ & 4 &" in (tmp_path / "reflections_seq2seq_greedy_scores.tex").read_text()
    with pytest.raises(SystemExit):
        main([str(sweep), *out, "--reference", "corry"])
    assert "--reference corry: no run of this method; did you mean 'cory" in capsys.readouterr().err


def test_a_method_names_its_first_row_as_reference_and_base_stands_in_for_emorl(sweep: Path) -> None:
    (comparison,) = comparisons(found(sweep))
    assert reference_row(comparison) == "base"
    assert reference_row(comparison, "cory") == "cory [update=grpo, lr=1e-3]"
    assert reference_row(comparison, "cory [update=scst, lr=2e-3]") == "cory [update=scst, lr=2e-3]"
    assert reference_row(comparison, "emorl") is None
    assert reference_row(Comparison("t", "m", tuple(r for r in comparison.runs if r.family == "cory"))) is not None
