"""Reward against KL, and the agents of a method, on synthetic runs: what is a row, a curve, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.synthetic_runs import finished, write_run

from emorl_bench.cli.report import report
from emorl_bench.report.comparison import comparisons
from emorl_bench.report.frontier import frontiers


def with_kl(root: Path, method: str, seed: int, coefficient: float, reward: float, kl: float, **changes: Any) -> Path:
    """A run at a KL coefficient whose reward and KL under sampling are known."""
    settings = {"settings": f"of {method}", "kl_coefficient": coefficient} | changes
    dir = write_run(root / f"{coefficient:g}", method, seed, **settings)
    summary = json.loads((dir / "summary.json").read_text())
    summary["decoding"]["sampled"]["uniform"] |= {"mean_reward": reward, "kl": kl}
    (dir / "summary.json").write_text(json.dumps(summary))
    return dir


@pytest.fixture
def curves_dir(tmp_path: Path) -> Path:
    for seed, off in enumerate((-0.01, 0.0, 0.01)):
        for coefficient, reward, kl in ((0.3, 0.4, 1.0), (0.02, 0.6, 9.0), (0.005, 0.65, 16.0)):
            with_kl(tmp_path / "runs", "cory", seed, coefficient, reward + off, kl + 10 * off)
        with_kl(tmp_path / "runs", "weighted_ppo", seed, 0.02, 0.7, 4.0)
        with_kl(tmp_path / "runs", "weighted_ppo", seed, 0.3, 0.5, -0.01)
        write_run(tmp_path / "runs", "emorl", seed, kl_coefficient=0.0, settings="other")
    return tmp_path


def test_a_method_at_several_kl_coefficients_is_a_curve(curves_dir: Path) -> None:
    text = report(curves_dir / "runs", curves_dir / "out").read_text()
    _, _, section = text.partition("**Reward against KL**, sampled decoding")
    lines = section.split("\n\n")[1].splitlines()
    header, _, *cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert header[:4] == ["method", "KL coefficient", "seeds", "KL (nats/seq)"]
    assert [row[:3] for row in cells] == [
        ["cory", "0.005", "3"],
        ["cory", "0.02", "3"],
        ["cory", "0.3", "3"],
        ["weighted_ppo", "0.02", "3"],
        ["weighted_ppo", "0.3", "3"],
    ]
    half = 4.302653 * 0.01 / np.sqrt(3)
    assert cells[1][3:5] == [f"9.00 ± {10 * half:.2f}", f"0.600 ± {half:.3f}"]
    assert cells[4][3] == "-0.01"
    assert "](reflections_seq2seq_frontier.png)" in text
    assert (curves_dir / "out" / "reflections_seq2seq_frontier.png").stat().st_size > 10_000


def test_each_coefficient_is_a_row_and_no_mean_mixes_two(curves_dir: Path) -> None:
    (comparison,) = comparisons(finished(curves_dir / "runs"))
    rows = {name: [run.kl_coefficient for run in runs] for name, runs in comparison.methods("sampled").items()}
    assert rows["cory [KL=0.02]"] == [0.02] * 3
    assert set(rows) == {
        "emorl",
        *(f"cory [KL={c}]" for c in ("5e-3", "0.02", "0.3")),
        *(f"weighted_ppo [KL={c}]" for c in ("0.02", "0.3")),
    }
    assert list(frontiers(comparison)) == ["cory", "weighted_ppo"], "one coefficient is no curve"


def test_a_coefficient_in_one_seed_and_another_in_the_next_are_not_seeds_of_one_row(tmp_path: Path) -> None:
    with_kl(tmp_path, "cory", 0, 0.02, 0.6, 9.0)
    with_kl(tmp_path, "cory", 1, 0.3, 0.4, 1.0)
    (comparison,) = comparisons(finished(tmp_path))
    assert {name: len(runs) for name, runs in comparison.methods("greedy").items()} == {
        "cory [KL=0.02]": 1,
        "cory [KL=0.3]": 1,
    }


def test_other_settings_of_a_method_are_rows_and_curves_of_their_own(tmp_path: Path) -> None:
    for coefficient in (0.02, 0.3):
        with_kl(tmp_path / "a", "cory", 0, coefficient, 0.6, 9.0)
        with_kl(tmp_path / "b", "cory", 0, coefficient, 0.4, 1.0, settings="swap 1")
    (comparison,) = comparisons(finished(tmp_path))
    named = {f"cory [KL={c}, settings={s}]" for c in ("0.02", "0.3") for s in ("of cory", "swap 1")}
    assert set(comparison.methods("greedy")) == named
    assert list(frontiers(comparison)) == ["cory [settings=of cory]", "cory [settings=swap 1]"]


def test_one_coefficient_leaves_the_report_as_it_was(tmp_path: Path) -> None:
    for seed in range(2):
        with_kl(tmp_path / "runs", "cory", seed, 0.02, 0.6, 9.0)
    text = report(tmp_path / "runs", tmp_path / "out").read_text()
    assert "Reward against KL" not in text
    assert "KL=" not in text
    assert not list((tmp_path / "out").glob("*frontier*"))


def test_agents_of_a_method_have_a_table(tmp_path: Path) -> None:
    for seed, better in enumerate(("first", "second", "second")):
        graded = {"mean_reward": 0.4, "held_out_mean_reward": 0.3, "kl": 2.0 + seed}
        members = {
            name: {
                "deployed": name == better,
                "select": {"mean_reward": 0.5 + 0.1 * (name == better)},
                "decoding": {"greedy": graded, "sampled": graded},
            }
            for name in ("first", "second")
        }
        write_run(tmp_path / "runs", "cory", seed, members=members)
    text = report(tmp_path / "runs", tmp_path / "out").read_text()
    sections = [part.split("\n\n")[1].splitlines()[2:] for part in text.split("**Agents** of one method")[1:]]
    half = 4.302653 / np.sqrt(3)
    spread = f"± {0.1 * half / np.sqrt(3):.3f} | 0.400 | 0.300 | 3.00 ± {half:.2f} |"
    expected = [f"| cory | first | 1 of 3 | 0.533 {spread}", f"| cory | second | 2 of 3 | 0.567 {spread}"]
    assert sections == [expected] * 2, "one table for each decoding"
