"""Published claims are decided as docs/study.md says, shown on runs whose truth is known."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.optimize import isotonic_regression
from scipy.stats import ttest_1samp
from support.synthetic_runs import add_gold, finished, rung, write_run

from emorl_bench.report.comparison import comparisons
from emorl_bench.report.packed import pack
from emorl_bench.report.read import Run
from studies.claims.__main__ import main
from studies.claims.claims import Claim, Contrast, Question, elsewhere, questions
from studies.claims.decide import decided, differences, seeds_needed
from studies.claims.measures import doublings_at_equal_gold, doublings_at_uniform, kl_for, prompts_for, rising
from studies.claims.sweeps import SWEEPS
from studies.claims.tables import Answer, gate, page

ROOT = Path(__file__).parents[2]
BASE, BEST = 0.3, 0.9
SEEDS = range(200, 212)


def write_method(root: Path, method: str, gold: Callable[[int], float], **changes: object) -> None:
    """Runs whose gold is known: on the way from base to ceiling, for each seed. Every preference has the same gold."""
    for seed in SEEDS:
        level = BASE + gold(seed) * (BEST - BASE)
        dir = write_run(root, method, seed, level=level)
        summary = add_gold(dir, gap=0.0, best=BEST)
        for graded in summary["decoding"].values():
            for record in (graded, graded["uniform"], *graded["points"]):
                record |= {key: level for key in ("gold_deployed_utility", "gold_mean_reward") if key in record}
        (dir / "summary.json").write_text(json.dumps(summary | changes))


def noisy(mean: float, spread: float = 0.01) -> Callable[[int], float]:
    return lambda seed: mean + spread * float(np.random.default_rng([seed, round(1000 * mean)]).normal())


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    root = tmp_path / "runs"
    for method, mean in {"emorl": 0.5, "param_merge": 0.3, "rloo": 0.501, "weighted_scst": 0.5, "grpo": 0.55}.items():
        write_method(root, method, noisy(mean))
    write_method(root, "base", lambda seed: 0.0)
    return finished(root)


def question(*contrasts: Contrast, against: tuple[str, ...] = ()) -> Question:
    claims = tuple(Claim(contrast.ours, "0000.00000", "published", (contrast,)) for contrast in contrasts)
    return Question("best", "asks", "main", against, "gold", claims)


@pytest.mark.parametrize(
    ("ours", "theirs", "expects", "outcome"),
    [
        ("emorl", "param_merge", "higher", "reproduced"),
        ("emorl", "param_merge", "lower", "refuted"),
        ("emorl", "param_merge", "not lower", "reproduced"),
        ("emorl", "param_merge", "equal", "refuted"),
        ("emorl", "grpo", "not lower", "refuted"),
        ("emorl", "weighted_scst", "not lower", "reproduced"),
        ("emorl", "weighted_scst", "higher", "refuted"),
        ("emorl", "weighted_scst", "equal", "reproduced"),
    ],
)
def test_a_claim_ends_as_the_truth_is(runs: list[Run], ours: str, theirs: str, expects: str, outcome: str) -> None:
    for measure in ("gold", "uniform gold"):
        contrast = Contrast(ours, theirs, measure, expects)
        (one,) = decided(question(contrast), runs)
        assert contrast.outcome(one.verdict.word) == outcome
        (values,) = one.differences_T
        assert values.mean() == pytest.approx(one.difference.mean)
        assert len(values) == len(SEEDS) == one.seeds


def test_differences_are_paired_by_seed_on_the_scale_from_base_to_ceiling(runs: list[Run]) -> None:
    (values,) = differences(Contrast("grpo", "emorl", "gold"), runs)
    expected = [noisy(0.55)(seed) - noisy(0.5)(seed) for seed in SEEDS]
    assert values == pytest.approx(np.array(expected), abs=1e-9)


def test_all_comparisons_of_a_question_are_corrected_together(runs: list[Run]) -> None:
    contrast = Contrast("emorl", "weighted_scst", "gold", "higher")
    (alone,) = decided(question(contrast), runs)
    many = decided(question(contrast, against=("emorl", "weighted_scst")), runs)
    assert len(many) == 5 + 4  # every other row against each; the pair of both is asked once, by the claim
    assert len({frozenset((one.contrast.ours, one.contrast.theirs)) for one in many}) == 9
    assert many[0].tests == 9
    assert many[0].verdict.corrected >= alone.verdict.corrected
    assert many[0].verdict.p == alone.verdict.p


def test_few_noisy_seeds_are_undecided_and_say_how_many_would_decide(tmp_path: Path) -> None:
    write_method(tmp_path, "emorl", noisy(0.5, 0.3))
    write_method(tmp_path, "param_merge", noisy(0.47, 0.3))
    write_method(tmp_path, "base", lambda seed: 0.0)
    (one,) = decided(question(Contrast("emorl", "param_merge", "gold", "higher")), finished(tmp_path))
    assert one.verdict.word == "undecided"
    assert one.seeds_needed is not None
    assert one.seeds_needed > len(SEEDS)


def test_the_number_of_seeds_that_would_decide_has_its_power() -> None:
    difference, spread = 0.05, 0.1
    seeds = seeds_needed(difference, spread, margin=0.02, level=0.05)
    drawn = np.random.default_rng(0).normal(difference, spread, (4000, seeds))
    shown = float((ttest_1samp(drawn, 0.0, axis=1).pvalue < 0.05).mean())
    assert 0.74 < shown < 0.86
    equal = seeds_needed(0.0, spread, margin=0.02, level=0.05)
    drawn = np.random.default_rng(1).normal(0.0, spread, (1000, equal))
    both = [ttest_1samp(drawn, at, axis=1, alternative=way).pvalue for at, way in ((-0.02, "greater"), (0.02, "less"))]
    assert 0.74 < float((np.maximum(*both) < 0.05).mean()) < 0.86


def test_prompts_lie_on_the_line_between_rungs() -> None:
    rungs = [(128.0, 0.1), (256.0, 0.3), (1024.0, 0.25)]
    assert prompts_for(0.2, rungs) == pytest.approx(192.0)
    assert prompts_for(0.05, rungs) == pytest.approx(64.0)
    assert prompts_for(0.3, rungs) == pytest.approx(256.0)
    assert prompts_for(0.31, rungs) == 2048.0
    assert prompts_for(-0.1, rungs) == 1.0


def test_prompts_are_counted_to_nine_tenths_of_the_other_side(tmp_path: Path) -> None:
    write_method(tmp_path, "emorl", lambda seed: 0.8)
    write_method(tmp_path, "weighted_scst", lambda seed: 0.5)
    write_method(tmp_path, "base", lambda seed: 0.0)
    for dir in tmp_path.glob("*/*/emorl/*"):
        summary = json.loads((dir / "summary.json").read_text())
        half = rung(summary, 0.5, 0.0)
        half["decoding"]["greedy"]["uniform"]["gold_mean_reward"] = BASE + 0.3 * (BEST - BASE)
        (dir / "summary.json").write_text(json.dumps(summary | {"ladder": [half]}))
    (cell,) = comparisons(finished(tmp_path))
    methods = cell.methods("greedy")
    (run, *_) = methods["emorl"]
    whole = run.cost["data_points_sum"]
    expected = whole / 2 + whole / 2 * (0.9 * 0.5 - 0.3) / (0.8 - 0.3)
    found = doublings_at_uniform(cell, methods["weighted_scst"])(run, "greedy")
    assert found == pytest.approx(math.log2(expected))


def test_gold_rises_with_kl_as_isotonic_regression_says() -> None:
    rng = np.random.default_rng(3)
    for count in (1, 2, 5, 9):
        points = list(zip(rng.uniform(0.1, 9, count).tolist(), rng.uniform(0.1, 1, count).tolist(), strict=True))
        kl_N, gold_N = rising(points)
        ordered = np.array(sorted(points))
        assert kl_N[1:] == pytest.approx(ordered[:, 0])
        assert gold_N[1:] == pytest.approx(isotonic_regression(ordered[:, 1]).x)
        assert (kl_N[0], gold_N[0]) == (0, 0)
        for level in (0.5 * gold_N[1], 0.5 * (gold_N[-1] + gold_N[-2])):
            assert np.interp(kl_for(level, kl_N, gold_N), kl_N, gold_N) == pytest.approx(level)


def test_kl_at_equal_gold_finds_a_method_that_pays_half(tmp_path: Path) -> None:
    """Gold is 0.2 for each nat of one method, and 0.1 for each nat of the other: log2 of the ratio is -1."""
    for method, slope in (("cory", 0.2), ("ppo_matched", 0.1)):
        for coefficient, nats in ((0.3, 0.5), (0.1, 1.5), (0.03, 4.0)):
            gold = slope * nats
            write_method(tmp_path / str(coefficient), method, lambda seed, g=gold: g, kl_coefficient=coefficient)
            for path in (tmp_path / str(coefficient)).glob(f"*/*/{method}/*/summary.json"):
                summary = json.loads(path.read_text())
                summary["decoding"]["greedy"]["uniform"]["kl"] = nats
                path.write_text(json.dumps(summary))
    write_method(tmp_path, "base", lambda seed: 0.0)
    (cell,) = comparisons(finished(tmp_path))
    sides = [[run for run in cell.runs if run.family == name] for name in ("cory", "ppo_matched")]
    assert len(sides[0]) == 3 * len(SEEDS)
    found = doublings_at_equal_gold(cell, *sides)
    assert found == {seed: pytest.approx(-1.0) for seed in SEEDS}
    (one,) = decided(question(Contrast("cory", "ppo_matched", "KL at equal gold", "lower")), finished(tmp_path))
    assert one.verdict.word == "lower"


def test_a_number_may_be_the_other_side(tmp_path: Path) -> None:
    change = {"first_preference": {"prompts": 1000.0}, "next_preference": {"prompts": 30.0}}
    write_method(tmp_path, "emorl", lambda seed: 0.5, change=change)
    (values,) = differences(Contrast("emorl", 0.1, "next preference", "lower"), finished(tmp_path))
    assert values == pytest.approx(np.full(len(SEEDS), 0.03 - 0.1))


def test_the_gate_holds_for_methods_that_are_one_and_not_for_others(runs: list[Run], tmp_path: Path) -> None:
    held = gate(runs)
    assert held is not None
    assert 0.3 < held.mean < 0.7
    other = tmp_path / "other"
    for method, mean in {"weighted_scst": 0.5, "rloo": 0.6}.items():
        write_method(other, method, noisy(mean))
    write_method(other, "base", lambda seed: 0.0)
    failed = gate(finished(other))
    assert failed is not None
    assert failed.mean < 0.1
    assert "the gate does not hold" in page([], failed, [])
    assert gate([run for run in runs if run.family != "rloo"]) is None


def test_one_command_writes_everything_from_packed_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = tmp_path / "runs", tmp_path / "out"
    for method in ("emorl", "param_merge", "morlhf", "grpo", "gdpo", "weighted_scst", "weighted_ppo", "rloo"):
        write_method(root, method, noisy(0.3 if method == "param_merge" else 0.5))
    write_method(root, "base", lambda seed: 0.0)
    pack(comparisons(finished(root)), [root], out / "main.parquet", 1)
    main(["write", "--out", str(out)])
    text = (out / "claims.md").read_text()
    row = next(line for line in text.splitlines() if "emorl − param_merge: gold" in line)
    assert "reproduced" in row
    assert "the gate holds" in text
    assert "Not run yet: study_change, study_objectives, study_kl, study_dynamic, study_offpolicy." in text
    assert (out / "claims.svg").read_text().count("emorl − param_merge: gold") == 1
    assert (out / "report" / "report.html").stat().st_size > 100_000
    first = text
    main(["write", "--out", str(out)])
    assert (out / "claims.md").read_text() == first


def test_a_claim_with_several_contrasts_is_what_all_of_them_are() -> None:
    two = Claim("", "", "", (Contrast("a", "b", "gold", "higher"), Contrast("a", "c", "gold", "not lower")))
    assert two.outcome(["higher", "equal"]) == "reproduced"
    assert two.outcome(["equal", "lower"]) == "refuted"
    assert two.outcome(["higher", "lower"]) == "in part"
    assert two.outcome(["undecided", "undecided"]) == "undecided"


def test_every_row_that_a_claim_names_is_in_its_sweep_and_every_claim_in_the_protocol() -> None:
    protocol = (ROOT / "docs" / "study.md").read_text()
    for asked in questions():
        assert asked.sweep in SWEEPS
        sweep = yaml.safe_load((ROOT / "sweeps" / f"study_{asked.sweep}.yaml").read_text())
        listed = sweep["hydra"]["sweeper"]["params"]["method"].replace("\\", "").replace(" ", "").split(",")
        assert "base" in listed
        for claim in asked.claims:
            assert f"/{claim.paper})" in protocol
            for contrast in claim.contrasts:
                rows = [side for side in (contrast.ours, contrast.theirs) if isinstance(side, str)]
                assert {row.split(" ")[0] for row in rows} <= set(listed)


def test_a_claim_that_no_sweep_decides_says_what_does() -> None:
    text = page([], None, [])
    for claim in elsewhere():
        assert claim.decided in text
        assert f"/{claim.paper}" in (ROOT / "docs" / "study.md").read_text()


def test_every_sweep_of_the_study_has_its_commands() -> None:
    files = {path.stem.removeprefix("study_") for path in (ROOT / "sweeps").glob("study_*.yaml")}
    assert files == set(SWEEPS)


def test_answers_say_their_seeds(runs: list[Run]) -> None:
    answer = Answer.of(question(Contrast("emorl", "grpo", "gold", "higher")), runs)
    assert answer.seeds == tuple(SEEDS)
    assert "12 seeds (200–211)" in page([answer], None, [])
