"""The committed main comparison can be repeated: one trained row, run again, lies where its interval says."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SEEDS = 5


def test_a_trained_row_run_again_lies_within_its_interval(tmp_path: Path) -> None:
    """A single run lies within the prediction interval of the committed seeds: the interval of their mean, times the
    square root of n + 1. Another processor gives another run of the same distribution.
    """
    rows = csv.DictReader((ROOT / "results" / "main_table" / "table.csv").open())
    (row,) = [r for r in rows if (r["task"], r["method"], r["decoding"]) == ("sums", "weighted_scst", "greedy")]
    assert int(row["seeds"]) == SEEDS
    mean = float(row["gold_deployed_utility"])
    half = (float(row["gold_deployed_utility_high"]) - mean) * math.sqrt(SEEDS + 1)
    overrides = ["experiment=embedded_sums", "method=weighted_scst", "budget=short", "budget.ladder=[1.0]", "seed=11"]
    command = [sys.executable, "-m", "emorl_bench.cli", *overrides, "tracker=local", f"runs_dir={tmp_path}"]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.rglob("summary.json")
    found = json.loads(path.read_text())["decoding"]["greedy"]["gold_deployed_utility"]
    assert abs(found - mean) <= half
