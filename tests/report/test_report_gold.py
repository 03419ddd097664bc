"""The report where answers have a gold label: sorted by it, beside the scorers, between base and ceiling."""

from __future__ import annotations

import csv
import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.synthetic_runs import OBJECTIVES, add_gold, rung, write_run

from emorl_bench.cli.report import report
from emorl_bench.indicators.aggregates import probability_of_improvement
from emorl_bench.report.claims import claims
from emorl_bench.report.comparison import Comparison, comparisons
from emorl_bench.report.gold import is_reward, over_tasks
from emorl_bench.report.ladder import ladders
from emorl_bench.report.read import read_runs
from emorl_bench.report.tables import ranked

GAPS = {"emorl": 0.05, "weighted_ppo": 0.4, "param_merge": 0.02, "base": 0.0, "best_of_n": 0.1}
LEVELS = {"emorl": 0.72, "weighted_ppo": 0.8, "param_merge": 0.66, "base": 0.35, "best_of_n": 0.95}
SEEDS = (0, 1, 2, 3)
BEST = 0.9


def write_all(root: Path, shift: float = 0.0, **names: Any) -> dict[tuple[str, int], dict[str, Any]]:
    """Every method with gold; ``shift`` of all scores, ``names`` of another task."""
    found = {}
    for method, gap in GAPS.items():
        for seed in SEEDS:
            changes = {"names": {"task": "reflections", "model": "seq2seq", "method": method} | names}
            dir = write_run(root, method, seed, level=LEVELS[method] + shift + 0.01 * seed, **changes)
            chooses = {"chooses_with_scorers": True} if method == "best_of_n" else {}
            found[method, seed] = add_gold(dir, gap, BEST, **chooses)
    return found


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("gold")
    write_all(directory)
    return directory


@pytest.fixture(scope="module")
def written(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    report(root, out)
    return out


def finished(root: Path) -> Comparison:
    (comparison,) = comparisons(read_runs(root)[0])
    return comparison


def rows(out: Path, decoding: str = "greedy") -> dict[str, dict[str, str]]:
    with (out / "table.csv").open() as file:
        return {row["method"]: row for row in csv.DictReader(file) if row["decoding"] == decoding}


def gold(root: Path, method: str) -> list[float]:
    """Mean gold utility over the preferences, from the points and the grid alone."""
    found = []
    for path in sorted(root.glob(f"**/{method}/s*/summary.json")):
        points = json.loads(path.read_text())["decoding"]["greedy"]["points"]
        utility = [sum(w * point["gold"][name] for w, name in zip(point["preference"], OBJECTIVES)) for point in points]  # noqa: B905
        found.append(sum(utility) / len(utility))
    return found


def test_rows_are_sorted_by_gold_and_not_by_what_scorers_say(root: Path) -> None:
    comparison = finished(root)
    assert [name for name, _ in ranked(comparison, "greedy")] == [
        "best_of_n", "emorl", "param_merge", "weighted_ppo", "base",
    ]  # fmt: skip
    assert LEVELS["weighted_ppo"] > LEVELS["emorl"]


def test_gold_gaps_and_normalised_gold_follow_from_the_points(root: Path, written: Path) -> None:
    table, base = rows(written), float(np.mean(gold(root, "base")))
    for method, gap in GAPS.items():
        truth = float(np.mean(gold(root, method)))
        assert float(table[method]["gold_deployed_utility"]) == pytest.approx(truth)
        assert float(table[method]["normalised_gold"]) == pytest.approx((truth - base) / (BEST - base))
        assert float(table[method]["scorer_gap"]) == pytest.approx(gap)
        assert float(table[method]["held_out_gap"]) == pytest.approx(gap - 0.06)
    assert float(table["base"]["normalised_gold"]) == pytest.approx(0)
    assert float(table["ceiling"]["gold_deployed_utility"]) == BEST
    assert float(table["ceiling"]["normalised_gold"]) == 1
    assert table["ceiling"]["mean_reward"] == ""
    assert float(table["emorl"]["gold_empathy"]) == pytest.approx(float(table["emorl"]["empathy"]) - 0.05)


def test_the_written_report_has_ceiling_costs_and_answers(written: Path) -> None:
    text = (written / "report.md").read_text()
    first = next(line for line in text.splitlines() if line.startswith("| *ceiling*"))
    assert first.split(" | ")[2:4] == ["0.900", "1.000"]
    assert "| 0.75 | 0.12 |" in text  # distinct, truncated: all seeds agree
    table = rows(written)["emorl"]
    assert [float(table[f"data_points_{phase}"]) for phase in ("train", "search", "validate")] == [3000, 600, 960]
    assert float(table["flops_search"]) == pytest.approx(0.6)
    assert float(table["passes_per_answer"]) == 51.6
    assert " nan" not in text


def test_one_that_chooses_with_scorers_is_compared_by_gold_and_held_out_alone(root: Path, written: Path) -> None:
    tested = {(c.indicator, c.method) for family in claims(finished(root), "greedy", "emorl") for c in family}
    assert {name for name, method in tested if method == "best_of_n"} == {
        "gold utility", "gold mean", "held-out utility",
    }  # fmt: skip
    assert ("scorer utility", "weighted_ppo") in tested
    text = (written / "report.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("| best_of_n † ‡")]
    assert "| (0.9" in lines[0]
    assert "‡ chooses among its answers with the scorers" in text
    assert rows(written)["best_of_n"]["chooses_with_scorers"] == "True"


def test_where_the_reward_is_the_truth_choosing_by_it_is_not_compared(root: Path, tmp_path: Path) -> None:
    for method in ("best_of_n", "base", "emorl"):
        dir = write_run(tmp_path / "runs", method, 0, level=LEVELS[method])
        add_gold(dir, 0.0, BEST, **({"chooses_with_scorers": True} if method == "best_of_n" else {}))
    comparison = finished(tmp_path / "runs")
    assert is_reward(comparison)
    assert not is_reward(comparison, "held_out")
    assert not is_reward(finished(root))
    assert [name for name, _ in ranked(comparison, "greedy")] == ["emorl", "base", "best_of_n"]
    tested = [c for family in claims(comparison, "greedy", "emorl") for c in family if c.method == "best_of_n"]
    assert [claim.indicator for claim in tested] == ["held-out utility"]
    assert "best_of_n" not in [row.method for row in over_tasks([comparison], "greedy")]
    assert "Gold is the reward of this task" in report(tmp_path / "runs", tmp_path / "out").read_text()


def test_without_gold_one_that_chooses_with_scorers_has_no_rank(tmp_path: Path) -> None:
    for method, changes in (("best_of_n", {"chooses_with_scorers": True}), ("base", {}), ("cory", {})):
        write_run(tmp_path, method, 0, level=LEVELS.get(method, 0.6), **changes)
    assert [name for name, _ in ranked(finished(tmp_path), "greedy")] == ["cory", "base", "best_of_n"]


def test_nothing_is_normalised_without_base_or_ceiling(tmp_path: Path) -> None:
    add_gold(write_run(tmp_path / "a", "emorl", 0), 0.1)
    report(tmp_path / "a", tmp_path / "out")
    assert (
        "normalised_gold" not in rows(tmp_path / "out")["emorl"]
        or not rows(tmp_path / "out")["emorl"]["normalised_gold"]
    )
    add_gold(write_run(tmp_path / "a", "base", 0), 0.1, ceiling=None)
    add_gold(tmp_path / "a/reflections/seq2seq/emorl/s0-00000000", 0.1, ceiling=None)
    text = report(tmp_path / "a", tmp_path / "out").read_text()
    assert "The best legal answers of this task are not known" in text
    assert "ceiling" not in rows(tmp_path / "out")


def test_tasks_are_averaged_by_seed(root: Path, tmp_path: Path) -> None:
    write_all(tmp_path / "runs" / "a")
    write_all(tmp_path / "runs" / "b", shift=-0.1, task="sums", model="causal")
    (extra,) = (tmp_path / "runs" / "b").glob("**/emorl/s3-*")
    (extra / "summary.json").unlink()
    found = comparisons(read_runs(tmp_path / "runs")[0])
    overall = {row.method: row for row in over_tasks(found, "greedy")}
    by_task = []
    for part in ("a", "b"):
        base = np.mean(gold(tmp_path / "runs" / part, "base"))
        by_task.append([(value - base) / (BEST - base) for value in gold(tmp_path / "runs" / part, "emorl")])
    means = [(a + b) / 2 for a, b in zip(*by_task, strict=False)]
    assert overall["emorl"].mean is not None
    assert overall["emorl"].mean.n == len(means) == 3, "one seed is missing in the second task"
    assert overall["emorl"].mean.mean == pytest.approx(np.mean(means))
    assert overall["emorl"].mean.half_width == pytest.approx(4.302653 * np.std(means, ddof=1) / np.sqrt(3), rel=1e-5)
    text = report(tmp_path / "runs", tmp_path / "out").read_text()
    assert "| method | seeds in all | all tasks | reflections · seq2seq | sums · causal |" in text
    assert "All tasks" not in report(root, tmp_path / "one").read_text()


def test_gold_against_cost_is_drawn_from_the_ladder(tmp_path: Path) -> None:
    lost = {0.125: 0.3, 0.25: 0.2, 0.5: 0.1}
    ends = {}
    for method, seed in product(("emorl", "base"), (0, 1)):
        dir = write_run(tmp_path / "runs", method, seed)
        summary = add_gold(dir, 0.05)
        if method == "emorl":
            add_gold(dir, 0.05, ladder=[rung(summary, share, less) for share, less in lost.items()])
            ends[seed] = summary["decoding"]["greedy"]["gold_deployed_utility"]
    curves = ladders(finished(tmp_path / "runs"), "greedy")
    assert list(curves) == ["emorl"]
    for seed, run in enumerate(curves["emorl"]):
        assert [rung.share for rung in run] == [0.125, 0.25, 0.5, 1.0]
        assert [rung.data_points for rung in run] == [450, 900, 1800, 3600]
        assert [rung.utility for rung in run] == pytest.approx([ends[seed] - less for less in (0.3, 0.2, 0.1, 0)])
    text = report(tmp_path / "runs", tmp_path / "out").read_text()
    assert (tmp_path / "out" / "reflections_seq2seq_ladder.png").stat().st_size > 10_000
    assert "| method | seeds | 0.125 of the budget |" in text
    add_gold(dir, 0.05, ladder=[rung(summary, 1.0, 0.0)])
    assert list(ladders(finished(tmp_path / "runs"), "greedy")) == ["emorl"], "one point is no curve"


def test_what_change_costs(tmp_path: Path) -> None:
    change = {"first_preference": {"prompts": 1536, "flops": 2e12}, "next_preference": {"prompts": 0, "flops": 0.0}}
    write_run(tmp_path / "runs", "emorl", 0, change=change)
    write_run(tmp_path / "runs", "base", 0)
    write_run(
        tmp_path / "runs", "cory", 0, change={"first_preference": {"prompts": 7}, "next_objective": {"prompts": 5}}
    )
    report(tmp_path / "runs", tmp_path / "out")
    table = rows(tmp_path / "out")
    assert (table["cory"]["first_preference_prompts"], table["cory"]["next_objective_prompts"]) == ("7.0", "5.0")
    assert (table["emorl"]["first_preference_prompts"], table["emorl"]["first_preference_tflop"]) == ("1536.0", "2.0")
    assert table["emorl"]["next_preference_prompts"] == "0.0"
    assert table["base"]["first_preference_prompts"] == ""


def test_equal_methods_are_the_noise_floor(tmp_path: Path) -> None:
    scst, rloo = (0.70, 0.62, 0.75), (0.68, 0.66, 0.75)
    for method, levels in (("weighted_scst", scst), ("rloo", rloo)):
        for seed, level in enumerate(levels):
            dir = write_run(tmp_path / "runs", "base", 100 * (method == "rloo") + seed, level=level)
            summary = add_gold(dir, 0.0, names={"task": "reflections", "model": "seq2seq", "method": method}, seed=seed)
            for graded in summary["decoding"].values():
                graded["gold_deployed_utility"] = level
            (dir / "summary.json").write_text(json.dumps(summary))
    text = report(tmp_path / "runs", tmp_path / "out").read_text()
    (row,) = [line for line in text.split("### Sampled")[0].splitlines() if line.startswith("| weighted_scst − rloo")]
    wins = sum((a > b) + 0.5 * (a == b) for a, b in product(scst, rloo)) / 9
    assert f"| {(0.02 + 0.04 + 0) / 3:.3f} | {wins:.2f} (" in row


def test_a_difference_is_called_one_only_where_the_interval_shows_it(tmp_path: Path) -> None:
    for method, level in (("emorl", 0.6), ("cory", 0.8), ("param_merge", 0.601)):
        for seed in range(8 if method != "cory" else 3):
            write_run(tmp_path / "few", method, seed, level=level)
    for method, level in (("emorl", 0.6), ("cory", 0.8), ("param_merge", 0.601)):
        for seed in range(8):
            write_run(tmp_path / "many", method, seed, level=level)
    said = {}
    for name in ("few", "many"):
        text = report(tmp_path / name, tmp_path / "out").read_text()
        for line in text.split("### Sampled")[0].splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if len(cells) == 9 and cells[0] in ("cory", "param_merge"):  # the table of verdicts
                said[name, cells[0]] = cells[-1]
    assert said["many", "cory"] == "higher"
    assert said["few", "cory"] == "undecided", "3 pairs cannot show it, however large"
    assert said["many", "param_merge"] == "equal", "0.001 is less than 0.02"


def test_probability_of_improvement_covers_the_truth() -> None:
    rng = np.random.default_rng(0)
    assert probability_of_improvement([[1, 2, 2]], [[0, 2]]).mean == pytest.approx((1 + 0 + 1 + 0.5 + 1 + 0.5) / 6)
    intervals = [probability_of_improvement(*rng.normal(size=(2, 1, 12)), seed, resamples=400) for seed in range(200)]
    assert 0.85 <= np.mean([i.low <= 0.5 <= i.high for i in intervals]) <= 0.99
