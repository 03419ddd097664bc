"""The report on synthetic runs: seeds counted, unlike things kept apart, every number traceable to a file."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.synthetic_runs import METHODS, OBJECTIVES, PROMPTS, finished, write_run

from emorl_bench.cli.report import main, report
from emorl_bench.core.errors import UserError
from emorl_bench.report.claims import claims
from emorl_bench.report.comparison import comparisons
from emorl_bench.report.curves import learning_curves, over_seeds
from emorl_bench.report.surface_plot import read_search
from emorl_bench.report.tables import results_table


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    for method in METHODS:
        for seed in range(3):
            write_run(root, method, seed)
    return root


def test_the_whole_report(runs_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(runs_dir), "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "weighted_ppo †" in printed
    assert printed.rstrip().endswith(f"report: {(tmp_path / 'out' / 'report.md').resolve()}")
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    stem = "reflections_seq2seq"
    images = [f"{stem}_{kind}.png" for kind in ("curves", "pareto", "scores", "search")]
    vector = [image.replace(".png", ".svg") for image in images]
    assert written == sorted([*images, *vector, "provenance.json", "report.html", "report.md", "table.csv", "table.md"])
    text = (tmp_path / "out" / "report.md").read_text()
    assert "Every number stands on 3 seeds (0, 1, 2) of each method" in text
    assert all(f"]({image})" in text for image in images)
    assert "0.25 at 3" in text


def test_csv_holds_the_mean_over_seeds_and_its_interval(runs_dir: Path, tmp_path: Path) -> None:
    report(runs_dir, tmp_path)
    with (tmp_path / "table.csv").open() as file:
        rows = {(row["decoding"], row["method"]): row for row in csv.DictReader(file)}
    assert len(rows) == 2 * len(METHODS)
    row = rows["greedy", "cory"]
    rewards = [
        json.loads((runs_dir / f"reflections/seq2seq/cory/s{seed}-00000000/summary.json").read_text())["decoding"][
            "greedy"
        ]["uniform"]["mean_reward"]
        for seed in range(3)
    ]
    half = 4.302653 * np.std(rewards, ddof=1) / np.sqrt(3)
    assert float(row["mean_reward"]) == pytest.approx(np.mean(rewards))
    assert float(row["mean_reward_high"]) - float(row["mean_reward"]) == pytest.approx(half, rel=1e-5)
    assert (row["seeds"], row["single_point"]) == ("3", "True")
    assert float(row["data_points_max"]) == 1201
    assert float(row["peak_mib"]) == 700


def test_rows_are_discovered_and_ranked_by_reward(tmp_path: Path) -> None:
    write_run(tmp_path, "never_heard_of", 0, level=0.9)
    write_run(tmp_path, "base", 0)
    (comparison,) = comparisons(finished(tmp_path))
    table = results_table(comparison, "greedy", [])
    assert [row[:2] for row in table.rows] == [("never_heard_of †", "1"), ("base †", "1")]


def test_what_no_configuration_explains_has_a_section_of_its_own_and_can_be_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "runs", "emorl", 0)
    write_run(tmp_path / "runs", "base", 0, fingerprint="0b" * 16)
    out = str(tmp_path / "out")
    main([str(tmp_path / "runs"), "--out", out])
    headings = [line for line in (tmp_path / "out/report.md").read_text().splitlines() if line.startswith("## refl")]
    assert headings == [f"## reflections · seq2seq · fingerprint {part * 6}" for part in ("0b", "f1")]
    capsys.readouterr()
    main([str(tmp_path / "runs"), "--out", out, "--fingerprint", "0b"])
    assert "emorl" not in capsys.readouterr().out.replace("emorl-report", "").split("report:")[0]
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path / "runs"), "--out", out, "--fingerprint", "77"])


def test_tasks_and_models_have_their_own_tables(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "base", 0)
    write_run(tmp_path / "b", "base", 0, fingerprint="9", names={"task": "pair", "model": "causal", "method": "base"})
    titles = [comparison.title for comparison in comparisons(finished(tmp_path))]
    assert titles == ["pair · causal", "reflections · seq2seq"]


def test_a_repeated_run_is_no_second_seed(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "cory", 1)
    write_run(tmp_path / "b", "cory", 1)
    (comparison,) = comparisons(finished(tmp_path))
    assert set(comparison.methods("greedy")) == {"cory [from=a]", "cory [from=b]"}
    shutil.copytree(tmp_path / "b/reflections/seq2seq/cory/s1-00000000", tmp_path / "b/reflections/seq2seq/cory/s1-1")
    with pytest.raises(UserError, match="two runs of method=cory \\[from=b\\] seed=1"):
        comparisons(finished(tmp_path))


def test_unfinished_and_damaged_runs_are_listed_and_not_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(3):
        write_run(tmp_path / "runs", "cory", seed)
    lost, damaged, failed = (write_run(tmp_path / "runs", "emorl", seed) for seed in range(3))
    (lost / "summary.json").unlink()
    (damaged / "summary.json").write_text('{"schema_ver')
    (failed / "status.json").write_text(
        json.dumps({"state": "failed", "error": "Trace\nScorerError: NaN from empathy"})
    )
    path = report(tmp_path / "runs", tmp_path / "out")
    text = path.read_text()
    assert "3 runs failed or did not finish" in text
    assert "`reflections/seq2seq/emorl/s2-00000000`: failed (ScorerError: NaN from empathy)" in text
    assert "Every number stands on 3 seeds (0, 1, 2)" in text
    assert "No paired tests" in text
    assert "3 failed or unfinished runs" in capsys.readouterr().out


def test_unequal_seeds_are_said_and_only_common_seeds_are_paired(tmp_path: Path) -> None:
    for method, seeds in (("emorl", (0, 1, 2, 5)), ("cory", (1, 2, 3))):
        for seed in seeds:
            write_run(tmp_path / "runs", method, seed)
    runs = finished(tmp_path / "runs")
    (comparison,) = comparisons(runs)
    families = claims(comparison, "greedy", "emorl")
    assert {claim.pairs for family in families for claim in family} == {2}
    by_seed = {(r.method, r.seed): r.decoding["greedy"]["uniform"]["mean_reward"] for r in runs}
    expected = [by_seed["cory", seed] - by_seed["emorl", seed] for seed in (1, 2)]
    assert families[0][0].differences == pytest.approx(expected)
    assert families[0][0].p == 0.5
    path = report(tmp_path / "runs", tmp_path / "out")
    assert "**The methods do not have the same seeds** (cory: 1, 2, 3; emorl: 0, 1, 2, 5)" in path.read_text()


def test_hypervolume_is_tested_only_between_methods_with_a_knob(runs_dir: Path) -> None:
    (comparison,) = comparisons(finished(runs_dir))
    tested = {(claim.indicator, claim.method) for family in claims(comparison, "greedy", "emorl") for claim in family}
    assert {method for indicator, method in tested if indicator == "hypervolume"} == {"param_merge"}
    assert {method for indicator, method in tested if indicator == "mean reward"} == set(METHODS) - {"emorl"}


def test_rewards_by_prompt_are_of_the_report_split_and_average_samples(runs_dir: Path) -> None:
    run = next(run for run in finished(runs_dir) if run.method == "emorl")
    table = pq.read_table(run.dir / "scores.parquet").to_pylist()
    index = run.preferences_WK.tolist().index([1 / 3] * 3)
    for decoding in ("greedy", "sampled"):
        rows = [r for r in table if (r["split"], r["decoding"], r["preference"]) == ("report", decoding, index)]
        expected = np.mean([[row[name] for name in OBJECTIVES] for row in rows if row["example_id"] == "e4"])
        rewards = run.reward_by_prompt(decoding)
        assert len(rewards) == PROMPTS
        assert rewards["e4"] == pytest.approx(expected)


def test_one_policy_for_all_preferences_is_found_under_the_first(runs_dir: Path) -> None:
    run = next(run for run in finished(runs_dir) if run.method == "weighted_ppo")
    assert {row["preference"] for row in pq.read_table(run.dir / "scores.parquet").to_pylist()} == {0}
    assert len(run.reward_by_prompt("greedy")) == PROMPTS


def test_curves_survive_a_resume_and_seeds_hold_their_last_value(tmp_path: Path) -> None:
    dir = write_run(tmp_path, "base", 0)
    (dir / "metrics.jsonl").write_text(
        '{"step": 8, "data_points": 128, "eval/a/mean_reward": 0.4}\n'
        '{"step": 16, "data_points": 256, "eval/a/mean_re\n'  # killed while writing
        '{"step": 8, "data_points": 128, "eval/a/mean_reward": 0.5}\n'
        '{"step": 16, "data_points": 256, "eval/a/mean_reward": 0.6}\n'
    )
    assert learning_curves(finished(tmp_path)[0]) == {"a": {128.0: 0.5, 256.0: 0.6}}
    x, rewards = over_seeds([{10.0: 0.1, 20.0: 0.2}, {10.0: 0.3, 30.0: 0.5}])
    assert x.tolist() == [10, 20, 30]
    assert rewards.tolist() == [[0.1, 0.2, 0.2], [0.3, 0.3, 0.5]]


def test_search_is_read_for_the_uniform_preference_by_direction(runs_dir: Path) -> None:
    run = next(run for run in finished(runs_dir) if run.method == "emorl")
    search = read_search(run)
    assert search is not None
    assert len(search.utility_W) == 19, "the 27 points of the cube are 19 directions and the zero vector"
    records = [json.loads(line) for line in (run.dir / "search.jsonl").read_text().splitlines()]
    best = max((r for r in records if r["preference"] != [1, 0, 0] and sum(r["weights"])), key=lambda r: r["utility"])
    assert search.utility_W.max() == pytest.approx(best["utility"])
    assert search.shares_WM[search.utility_W.argmax()] == pytest.approx(
        np.array(best["weights"]) / sum(best["weights"])
    )


@pytest.fixture(params=[1, 2, 4])
def other_counts(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    for seed in range(2):
        for method in ("emorl", "base"):
            write_run(tmp_path / "runs", method, seed, objectives=tuple("abcd"[: request.param]))
    return tmp_path


def test_any_number_of_objectives(other_counts: Path) -> None:
    text = report(other_counts / "runs", other_counts / "out").read_text()
    assert "reflections_seq2seq_search.png" in text
    assert ("_pareto.png" in text) == ("| b |" in text)


def test_a_single_seed_has_no_interval(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", "base", 0, level=0.5)
    text = report(tmp_path / "runs", tmp_path / "out").read_text()
    assert "Every number stands on 1 seed (0)" in text
    assert "0.499 ±" not in text
    assert " nan" not in text


def test_missing_measures_are_a_dash(tmp_path: Path) -> None:
    dir = write_run(tmp_path / "runs", "base", 0)
    summary = json.loads((dir / "summary.json").read_text())
    summary["decoding"]["greedy"]["uniform"] |= {"kl": None, "held_out": {}, "not_applicable": 0.031}
    (dir / "summary.json").write_text(json.dumps(summary))
    text = report(tmp_path / "runs", tmp_path / "out").read_text()
    assert "– |" in text
    assert "Scores that were not applicable: base † 3.1%" in text


OLD = Path(__file__).parents[2] / "results/pair_small/summaries"


def test_summaries_of_older_versions_are_read_and_newer_columns_are_dashes(tmp_path: Path) -> None:
    """Committed runs, graded before there was gold, deployed utility or a price of answers."""
    for path in OLD.glob("*.json"):
        dir = tmp_path / "runs" / path.stem
        dir.mkdir(parents=True)
        (dir / "status.json").write_text('{"state": "done"}')
        (dir / "summary.json").write_text(path.read_text())
    text = report(tmp_path / "runs", tmp_path / "out").read_text()
    assert "Commit not recorded." in text
    (answers,) = {line for line in text.splitlines() if line.startswith("| base † | 3 | – | – | – |")}
    assert set(answers.split(" | ")[2:]) == {"–", "– |"}, "what one answer costs, and what change costs"
    with (tmp_path / "out" / "table.csv").open() as file:
        row = next(row for row in csv.DictReader(file) if row["method"] == "emorl" and row["decoding"] == "greedy")
    front = [json.loads((OLD / f"emorl-s{seed}.json").read_text())["decoding"]["greedy"]["points"] for seed in range(3)]
    utility = [np.mean([np.dot(p["preference"], list(p["objectives"].values())) for p in points]) for points in front]
    assert float(row["deployed_utility"]) == pytest.approx(np.mean(utility))
    assert "gold" not in text.replace("gold and held-out", "")


@pytest.mark.parametrize(("make", "message"), [(False, "is not a directory"), (True, "has no finished run")])
def test_nothing_to_report(tmp_path: Path, make: bool, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "runs"
    if make:
        root.mkdir()
    with pytest.raises(SystemExit, match="2"):
        main([str(root), "--out", str(tmp_path / "out")])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
