"""What a report says and refuses: text from outside, few seeds, published figures, win rates."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.synthetic_runs import OBJECTIVES, write_run

from emorl_bench.cli.report import main, report
from emorl_bench.core.errors import UserError
from emorl_bench.indicators.intervals import Interval, hierarchical_bootstrap, t_interval
from emorl_bench.report.columns import both_values, share, signed, written
from emorl_bench.report.comparison import comparisons
from emorl_bench.report.escape import cell, code, csv_value, latex, markdown
from emorl_bench.report.latex import latex_table
from emorl_bench.report.read import read_runs
from emorl_bench.report.tables import Table
from emorl_bench.report.wins import win_rate

HOSTILE = "a|b <script>alert(1)</script> [x](javascript:alert(1)) `y`\nz"


def test_markdown_shows_hostile_text_as_it_is() -> None:
    for escaped in (markdown(HOSTILE), cell(HOSTILE)):
        assert "<" not in escaped
        assert "\n" not in escaped
        assert not re.search(r"(?<!\\)\|", escaped)
        assert not re.search(r"(?<!\\)\]\(", escaped), "no link"
    table = Table(("method", "value"), ((HOSTILE, "1"),)).markdown().splitlines()
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in table] == [3, 3, 3]
    assert code("a`b`\nc") == "`a’b’ c`"


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-2+3", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_spreadsheet_runs_a_text(text: str) -> None:
    assert csv_value(text) == f"'{text}"
    assert csv_value(-0.5) == -0.5, "numbers stay numbers"
    assert csv_value("cory") == "cory"


def test_latex_prints_special_characters() -> None:
    assert latex(r"a_b & 5 % ± {x} \y $z$ #1") == (r"a\_b \& 5 \% $\pm$ \{x\} \textbackslash{}y \$z\$ \#1")
    table = latex_table(Table(("method", "a_b"), (("x & y", "0.5 ± 0.1"),)), "100 %", "tab:x")
    assert r"\begin{tabular}{lr}" in table
    assert r"x \& y & 0.5 $\pm$ 0.1 \\" in table
    assert r"\caption{100 \%}" in table


def test_hostile_names_stay_inside_their_cells(tmp_path: Path) -> None:
    for seed in range(2):
        names = {"task": "t<b>", "model": "=cmd", "method": "x|y<script>"}
        write_run(tmp_path / "runs", "base", seed, names=names)
    dir = write_run(tmp_path / "runs", "cory", 0)
    (dir / "status.json").write_text(json.dumps({"state": "failed", "error": "Error: <img src=x> | `a`"}))
    text = report(tmp_path / "runs", tmp_path / "out").read_text()
    assert "<script>" not in text
    assert "<img" not in text
    assert "<b>" not in text
    with (tmp_path / "out/table.csv").open() as file:
        assert {row["model"] for row in csv.DictReader(file)} == {"'=cmd"}


def test_one_seed_has_no_interval_and_two_show_both_values() -> None:
    assert written(t_interval([0.5])) == "0.500"
    assert written(t_interval([17.0, 31.0]), 0) == "24 [17, 31]"
    assert both_values(t_interval([17.0, 31.0])) == pytest.approx((17, 31))
    assert written(t_interval([0.2, 0.2, 0.2])) == "0.200"
    assert written(t_interval([0.1, 0.2, 0.3])) == "0.200 ± 0.248"
    assert signed(t_interval([0.2, 0.4])) == "+0.300 [0.200, 0.400]"
    assert share(Interval(0.5, 0.1, 0.9, 2)) == "0.50"
    assert share(Interval(0.5, 0.1, 0.9, 3)) == "0.50 (0.10 to 0.90)"
    assert share(Interval(1.0, 1.0, 1.0, 5)) == "1.00"


def test_two_seeds_print_no_absurd_interval(tmp_path: Path) -> None:
    for seed in range(2):
        for method in ("emorl", "cory"):
            write_run(tmp_path / "runs", method, seed)
    text = report(tmp_path / "runs", tmp_path / "out").read_text()
    assert "±" not in re.sub(r"± is the half-width|p of equality ± 0.02", "", text)
    with (tmp_path / "out/table.csv").open() as file:
        assert not [key for key in csv.DictReader(file).fieldnames or () if key.endswith("_low")]


def published(root: Path, **names: Any) -> Path:
    for seed in range(2):
        write_run(root, "emorl", seed, names={"task": "pair", "model": "causal", "method": "emorl"} | names)
    return root


def test_published_figures_of_another_task_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = published(tmp_path / "runs", task="reflections"), tmp_path / "out"
    with pytest.raises(SystemExit, match="2"):
        main([str(root), "--out", str(out), "--published", "emorl_2505_02579"])
    message = capsys.readouterr().err
    assert "its figures are of task=pair, and these runs of task=reflections" in message
    assert not out.exists()


@pytest.mark.parametrize(("model", "warned"), [("causal", True), ("t5_base", False)])
def test_published_figures_of_another_model_have_a_warning(tmp_path: Path, model: str, warned: bool) -> None:
    root = published(tmp_path / "runs", model=model)
    text = report(root, tmp_path / "out", paper="emorl_2505_02579").read_text()
    assert "Published, not run here" in text
    assert ("Warning: these runs are of model=causal" in text) == warned


def test_a_reference_that_was_not_run_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", "emorl", 0)
    with pytest.raises(UserError, match="--reference emrl: no run of this method; did you mean 'emorl'"):
        report(tmp_path / "runs", tmp_path / "out", "emrl")


def test_a_win_is_a_better_answer_to_the_same_prompt(tmp_path: Path) -> None:
    scores = {"emorl": [[0.1, 0.5, 0.9], [0.2, 0.2, 0.2]], "cory": [[0.2, 0.5, 0.1], [0.3, 0.1, 0.4]]}
    for method, seeds in scores.items():
        for seed, prompts in enumerate(seeds):
            dir = write_run(tmp_path, method, seed)
            graded = json.loads((dir / "summary.json").read_text())["decoding"]["greedy"]
            at = [point["objectives"] for point in graded["points"]].index(graded["uniform"]["objectives"])
            rows = [
                {"split": "report", "decoding": "greedy", "preference": at, "example_id": f"e{i}", "sample": 0}
                | dict.fromkeys(OBJECTIVES, value)
                for i, value in enumerate(prompts)
            ]
            pq.write_table(pa.Table.from_pylist(rows), dir / "scores.parquet")
    (comparison,) = comparisons(read_runs(tmp_path)[0])
    methods = comparison.methods("greedy")
    found = win_rate(comparison, methods["cory"], methods["emorl"], "greedy")
    assert found is not None
    assert found.mean == pytest.approx((1 + 0.5 + 0 + 1 + 0 + 1) / 6)
    back = win_rate(comparison, methods["emorl"], methods["cory"], "greedy")
    assert back is not None
    assert back.mean == pytest.approx(1 - found.mean)
    assert win_rate(comparison, methods["cory"], [], "greedy") is None


def test_the_interval_of_a_win_rate_covers_the_truth() -> None:
    """Equal methods: seeds and prompts vary, and one half is inside in about 95 % of the studies."""
    rng, inside = np.random.default_rng(0), []
    for _ in range(150):
        gap_NP = rng.normal(size=(12, 1)) * 0.3 + rng.normal(size=(1, 40)) * 0.3 + rng.normal(size=(12, 40))
        interval = hierarchical_bootstrap((gap_NP > 0).astype(float), rng, resamples=400)
        inside.append(interval.low <= 0.5 <= interval.high)
    assert np.mean(inside) >= 0.88
