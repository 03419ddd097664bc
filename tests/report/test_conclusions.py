"""Conclusions on synthetic runs whose truth is known: false claims are as rare as the report says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.synthetic_runs import add_gold, write_run

from emorl_bench.indicators.intervals import Interval
from emorl_bench.report.comparison import Comparison, comparisons
from emorl_bench.report.conclusion import conclude, conclude_together, sentences
from emorl_bench.report.read import read_runs
from emorl_bench.report.verdicts import LEVEL, MARGIN, Evidence, Verdict, decide, pairs_needed

REPORTS = 500
ALLOWED = LEVEL + 2.6 * np.sqrt(LEVEL * (1 - LEVEL) / REPORTS)  # 99 % of simulations of a rate of 5 % are below
TRUTH = {"better": 0.06, "worse": -0.06, "same": 0.0, "alike": 0.005, "at the margin": MARGIN, "other": 0.0}

Noise = Callable[[np.random.Generator, int], np.ndarray]


def normal(rng: np.random.Generator, pairs: int) -> np.ndarray:
    return rng.normal(0, 0.02, pairs)


def basins(rng: np.random.Generator, pairs: int) -> np.ndarray:
    """Each of two runs ends in one of two basins, so their difference has three values."""
    return 0.1 * (rng.integers(0, 2, pairs) - rng.integers(0, 2, pairs)) + rng.normal(0, 0.002, pairs)


def false(verdict: Verdict) -> bool:
    truth = TRUTH[verdict.method]
    return {
        "higher": truth <= 0,
        "lower": truth >= 0,
        "equal": abs(truth) >= MARGIN,
        "undecided": False,
    }[verdict.word]


def simulate(noise: Noise, pairs: int, tasks: int, seed: int = 0) -> list[list[Verdict]]:
    rng = np.random.default_rng(seed)
    return [
        decide([Evidence(name, tuple(mean + noise(rng, pairs) for _ in range(tasks))) for name, mean in TRUTH.items()])
        for _ in range(REPORTS)
    ]


@pytest.mark.parametrize(("noise", "pairs", "tasks"), [(normal, 5, 1), (normal, 10, 1), (normal, 5, 2), (basins, 5, 1)])
def test_of_500_reports_few_have_a_false_claim(noise: Noise, pairs: int, tasks: int) -> None:
    reports = simulate(noise, pairs, tasks)
    wrong = np.mean([any(map(false, verdicts)) for verdicts in reports])
    assert wrong <= ALLOWED
    exact = {verdict.exact for verdicts in reports for verdict in verdicts}
    assert exact == {pairs * tasks >= pairs_needed(len(TRUTH))}
    if noise is normal and pairs * tasks >= 10:
        found = [{v.method: v.word for v in verdicts} for verdicts in reports]
        assert np.mean([words["better"] == "higher" for words in found]) > 0.9
        assert np.mean([words["worse"] == "lower" for words in found]) > 0.9


def test_without_the_correction_false_claims_are_common() -> None:
    """The simulation is able to fail: the same tests, each at 5 %."""
    reports = simulate(normal, 10, 1)
    wrong = [
        any(
            (v.p <= LEVEL and TRUTH[v.method] == 0) or (v.p_equal <= LEVEL and abs(TRUTH[v.method]) >= MARGIN)
            for v in verdicts
        )
        for verdicts in reports
    ]
    assert np.mean(wrong) > ALLOWED


def test_equal_methods_are_found_equal_where_runs_vary_little() -> None:
    rng = np.random.default_rng(0)
    found = [decide([Evidence("same", (rng.normal(0, 0.01, 10),))])[0].word for _ in range(100)]
    assert found.count("equal") > 90


def test_few_pairs_claim_nothing_however_large_the_difference() -> None:
    steady = np.array([0.3, 0.31, 0.29, 0.3])
    (verdict,) = decide([Evidence("better", (steady,))])
    assert verdict.word == "undecided"
    (five,) = decide([Evidence("better", (np.append(steady, 0.31),))])
    assert (five.word, five.exact) == ("higher", False)


def test_pairs_needed_without_assumptions() -> None:
    assert [pairs_needed(methods) for methods in (1, 2, 8, 42)] == [6, 7, 9, 11]


def verdict(method: str, mean: float, half: float, pairs: int = 10, p: float = 0.001, p_equal: float = 1.0) -> Verdict:
    interval = Interval(mean, mean - half, mean + half, pairs)
    return Verdict(method, interval, interval, p, p, p_equal, p_equal, exact=True)


def test_every_sentence_says_a_verdict_with_its_numbers() -> None:
    said = sentences(
        [
            verdict("a", 0.05, 0.02),
            verdict("b", -0.125, 0.02),
            verdict("c", 0.001, 0.004, p=0.5, p_equal=0.002),
            verdict("d", 0.01, 0.03, p=0.4),
        ],
        "emorl",
        "gold utility under greedy decoding",
    )
    assert said.found == (
        "b is lower than emorl in gold utility under greedy decoding: -0.125 (95 % interval -0.145 to -0.105, "
        "corrected p 0.001, 10 pairs of runs).",
        "a is higher than emorl in gold utility under greedy decoding: +0.050 (95 % interval +0.030 to +0.070, "
        "corrected p 0.001, 10 pairs of runs).",
        "c and emorl are equal within 0.02 in gold utility under greedy decoding: +0.001 (90 % interval -0.003 to "
        "+0.005, corrected p 0.002, 10 pairs of runs). A failure that strikes fewer than 26% of runs may not have been "
        "seen.",
    )
    assert said.undecided == (
        "Undecided against emorl in gold utility under greedy decoding, with 95 % intervals: d +0.010 (-0.020 to "
        "+0.040). These runs show neither a difference nor equality.",
    )


def write(root: Path, task: str, levels: dict[str, float], seeds: int = 6) -> None:
    rng = np.random.default_rng(len(task))
    for method, level in levels.items():
        for seed in range(seeds):
            dir = write_run(root / task / method, "base", seed, level=level)
            names = {"task": task, "model": "seq2seq", "method": method}
            summary = add_gold(dir, 0.0, 1.0, names=names, seed=seed)
            for graded in summary["decoding"].values():
                graded["gold_deployed_utility"] = level + float(rng.normal(0, 0.004))
            (dir / "summary.json").write_text(json.dumps(summary))


@pytest.fixture(scope="module")
def two_tasks(tmp_path_factory: pytest.TempPathFactory) -> list[Comparison]:
    root = tmp_path_factory.mktemp("tasks")
    write(root, "letters", {"emorl": 0.70, "cory": 0.60, "param_merge": 0.70, "base": 0.20})
    write(root, "sums", {"emorl": 0.60, "cory": 0.80, "param_merge": 0.60, "base": 0.30})
    return comparisons(read_runs(root)[0])


def test_a_conclusion_of_runs_follows_their_truth(two_tasks: list[Comparison]) -> None:
    letters, sums = two_tasks
    found = conclude(letters).found
    assert [sentence.split(" in ")[0] for sentence in found] == [
        "base is lower than emorl",
        "cory is lower than emorl",
        "param_merge and emorl are equal within 0.02",
    ]
    assert conclude(sums).found[1].startswith("cory is higher than emorl in gold utility under greedy decoding: +0.")
    assert conclude(sums, "cory").found[0].startswith("base is lower than cory")
    assert conclude(sums, "rloo") == conclude(sums, "rloo")
    assert conclude(sums, "rloo").undecided == ("Nothing was compared: rloo was not run here.",)


def test_the_noise_floor_is_said_beside_the_claims(tmp_path: Path) -> None:
    write(tmp_path, "letters", {"emorl": 0.70, "weighted_scst": 0.60, "rloo": 0.60, "base": 0.20})
    (comparison,) = comparisons(read_runs(tmp_path)[0])
    runs = comparison.methods("greedy")
    value = {
        name: [run.decoding["greedy"]["gold_deployed_utility"] for run in runs[name]]
        for name in ("weighted_scst", "rloo")
    }
    size = np.abs(np.subtract(value["weighted_scst"], value["rloo"])).mean()
    said = conclude(comparison).undecided[-1]
    assert said.startswith("Noise: weighted_scst and rloo differ by rounding alone")
    assert f"still by {size:.3f} on average" in said


def test_tasks_together_are_on_the_scale_between_base_and_ceiling(two_tasks: list[Comparison]) -> None:
    said = conclude_together(two_tasks)
    assert said is not None
    (cory,) = [sentence for sentence in (*said.found, *said.undecided) if "cory" in sentence]
    expected = ((0.60 - 0.70) / 0.8 + (0.80 - 0.60) / 0.7) / 2
    assert "normalised gold under greedy decoding, mean over 2 tasks" in cory
    shown = re.search(r"cory ([+-][\d.]+) \(", cory)
    assert shown is not None
    assert float(shown[1]) == pytest.approx(expected, abs=0.01)
    (base,) = [sentence for sentence in said.found if sentence.startswith("base is lower than emorl")]
    assert "12 pairs of runs" in base
    assert conclude_together(two_tasks[:1]) is None
