"""Over-optimisation: best-of-n against enumeration, proxies that see the order of answers alone, the study at work."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from baselines.weighted_policy import WeightedPolicy
from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Bench
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Example
from emorl_bench.indicators.best_of_n import best_of_n_kl, expected_best
from emorl_bench.policies.peft_io import WEIGHTS
from emorl_bench.rl.checkpoint import FILE
from emorl_bench.scorer_training import gold_preferences, proxies
from emorl_bench.scorer_training.gold_preferences import GoldPairs, gold
from emorl_bench.scorers.gold import Gold, gold_scorers
from emorl_bench.scorers.proxy import Proxy
from studies.overoptimisation import __main__ as overoptimisation
from studies.overoptimisation.curves import Curve, Variant
from studies.overoptimisation.findings import falls, gao_form
from studies.overoptimisation.snapshots import Snapshots, place

PAIRS = 24
FIRST = [1.0, 0.0]  # the sum of both objectives is the same for every answer
PROXY = Proxy(
    members=2,
    shared=False,
    statistic="mean",
    uncertainty_weight=0.5,
    label_noise=0.25,
    pairs=PAIRS,
    answers="tiny_t5",
    width=4,
    epochs=2,
    batch=8,
    rate=3e-3,
    seed=0,
)
ASKED = [
    Example(
        "", "since i lost my job, i drink every night. i feel ashamed. i want to have some peace, but it calms me down."
    )
] * 3
SAID = ["you are ashamed about drinking.", "so what?", "that sounds so hard. you want to sleep."]


@pytest.fixture
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Proxies of a test's own, on the shared assets."""
    monkeypatch.setattr(proxies, "cache_root", lambda: tmp_path / "cache")
    monkeypatch.setattr(proxies, "JUDGED_PAIRS", 16)
    proxies._loaded.cache_clear()
    yield
    proxies._loaded.cache_clear()


# best of n ----------------------------------------------------------------------------------------
def enumerated(by_N: np.ndarray, worth_N: np.ndarray, n: int) -> float:
    """Every subset of n, ties shared evenly."""
    found = []
    for subset in itertools.combinations(range(len(by_N)), n):
        best = max(by_N[i] for i in subset)
        found.append(np.mean([worth_N[i] for i in subset if by_N[i] == best]))
    return float(np.mean(found))


@pytest.mark.parametrize("levels", [1000, 3])  # 3: most samples tie
def test_the_expectation_over_subsets_is_that_of_enumeration(levels: int) -> None:
    rng = np.random.default_rng(levels)
    by_PN, worth_PN, sizes = rng.integers(levels, size=(3, 8)), rng.normal(size=(3, 8)), [1, 2, 3, 5, 8]
    expected = [[enumerated(by_N, worth_N, n) for n in sizes] for by_N, worth_N in zip(by_PN, worth_PN, strict=True)]
    np.testing.assert_allclose(expected_best(by_PN, worth_PN, sizes), expected)
    with pytest.raises(ValueError, match="from 1 to the 8"):
        expected_best(by_PN, worth_PN, [9])


@pytest.mark.parametrize("n", [1, 2, 16, 256])
def test_the_kl_of_best_of_n_is_that_of_its_density(n: int) -> None:
    """The rank of the best of n has the density n u^(n-1) against a uniform one."""
    u = (np.arange(400_000) + 0.5) / 400_000
    density = n * u ** (n - 1)
    assert best_of_n_kl(n) == pytest.approx(np.mean(density * np.log(np.maximum(density, 1e-300))), abs=1e-4)


# labels and proxies -------------------------------------------------------------------------------
def test_labels_are_the_golds_and_the_wanted_share_is_wrong() -> None:
    clean, noisy = (GoldPairs("tiny_t5", PAIRS, noise, 0).labelled() for noise in (0.0, 0.25))
    for choice in clean:
        ((better, worse),) = choice.pairs
        worth_2 = gold([choice.prompt] * 2, choice.responses)
        assert worth_2[better] > worth_2[worse]
    assert [c.responses for c in clean] == [c.responses for c in noisy]
    assert sum(a.pairs != b.pairs for a, b in zip(clean, noisy, strict=True)) == round(0.25 * len(clean))
    assert noisy == GoldPairs("tiny_t5", PAIRS, 0.25, 0).labelled()
    assert {c.prompt for c in clean}.isdisjoint(c.prompt for c in GoldPairs("tiny_t5", PAIRS, 0.0, 0).judged_on(PAIRS))


def test_the_gold_is_the_mean_of_three_scorers_and_above_it_there_is_none() -> None:
    grades_KB = [scorer.score(ASKED, SAID) for scorer in gold_scorers().values()]
    assert len(grades_KB) == 3
    assert Gold().score(ASKED, SAID) == pytest.approx([sum(row) / 3 for row in zip(*grades_KB, strict=True)])
    assert PROXY.held_out() == Gold(name="proxy")
    assert PROXY.held_out().held_out() == PROXY.held_out()


@pytest.mark.usefixtures("_own_cache")
def test_statistics_of_members_by_hand_and_larger_ensembles_hold_the_smaller() -> None:
    rewards_BK = PROXY.rewards(ASKED, SAID)
    torch.testing.assert_close(replace(PROXY, members=1).rewards(ASKED, SAID), rewards_BK[:, :1])
    assert (rewards_BK[:, 0] - rewards_BK[:, 1]).abs().max() > 1e-3
    a, b = rewards_BK.double().T
    by_hand = {"mean": (a + b) / 2, "worst": torch.minimum(a, b), "uncertainty": (a + b) / 2 - 0.5 * ((a - b) / 2) ** 2}
    for name, merged_B in by_hand.items():
        torch.testing.assert_close(replace(PROXY, statistic=name).score(ASKED, SAID).double(), merged_B.sigmoid())
    for statistic in by_hand:  # what chooses among candidates is what training is told, to the bit
        proxy = replace(PROXY, statistic=statistic)
        assert torch.equal(proxy.merged(proxy.rewards(ASKED, SAID), SAID), proxy.score(ASKED, SAID))
    assert PROXY.score(ASKED, ["", " ", "so what?"]).tolist()[:2] == [0.0, 0.0]
    shared = replace(PROXY, shared=True, members=3)
    assert shared.rewards(ASKED, SAID).shape == (3, 3)
    encoder = sum(p.numel() for p in proxies._fresh(shared.units[0])[0].encoder.parameters())
    assert shared.costs()["shared"].parameters == encoder + 3 * (4 + 1)
    assert PROXY.costs()["full"].parameters == 2 * (encoder + 4 + 1)
    assert PROXY.fingerprint() != shared.fingerprint()


@pytest.mark.usefixtures("_own_cache")
def test_a_proxy_never_meets_the_gold_once_its_pairs_are_labelled(monkeypatch: pytest.MonkeyPatch) -> None:
    data = PROXY.units[0].data
    labelled = data.labelled(), data.judged_on(proxies.JUDGED_PAIRS)
    assert all(len(part) for part in labelled)

    def never(*_: Any) -> None:
        raise AssertionError("the gold was asked")

    for name in ("gold", "golds"):
        monkeypatch.setattr(gold_preferences, name, never)
    PROXY.prepare()
    assert PROXY.score(ASKED, SAID).shape == (3,)


@pytest.mark.usefixtures("_own_cache")
def test_only_the_order_of_the_golds_scores_is_learned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    one = replace(PROXY, members=1)
    before = one.rewards(ASKED, SAID)
    gold_preferences._choices.cache_clear()
    monkeypatch.setattr(gold_preferences, "gold", lambda *texts: 100 * gold(*texts) ** 3 - 7)
    monkeypatch.setattr(proxies, "cache_root", lambda: tmp_path / "another")
    proxies._loaded.cache_clear()
    torch.testing.assert_close(one.rewards(ASKED, SAID), before, rtol=0, atol=0)
    gold_preferences._choices.cache_clear()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"statistic": "wurst"}, "did you mean 'worst'"),
        ({"answers": "tiny_t6"}, "did you mean 'tiny_t5'"),
        ({"members": 0}, "members=0: give 1 or more"),
        ({"label_noise": 0.5}, "below 0.5"),
        ({"uncertainty_weight": -1.0}, "0 or more"),
    ],
)
def test_wrong_settings_are_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        replace(PROXY, **changes).prepare()
    assert "\n" not in str(caught.value)


# snapshots ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("model", ["t5", "gpt2"])
def test_snapshots_are_the_policies_of_a_plain_training(
    bench: Callable[..., Bench], tmp_path: Path, model: str
) -> None:
    kept = bench(model, steps=3, dir=tmp_path / "kept")
    solution = Snapshots([0, 2, 3, 9], FIRST).fit(kept)
    for steps in (2, 3):
        plain = bench(model, steps=steps, dir=tmp_path / f"plain{steps}")
        policy = WeightedPolicy(FIRST).fit(plain).policy_for(torch.ones(2) / 2)
        state = load_file(plain.dir / "checkpoints" / "policy" / FILE)
        snapshot = load_file(place(kept.dir, steps) / WEIGHTS)
        for name, value in snapshot.items():
            torch.testing.assert_close(value, state[f"policy/policy/{name}"], rtol=0, atol=0)
    start = bench(model).new_policy("policy").adapter()
    moved = load_file(place(kept.dir, 2) / WEIGHTS)
    untrained = load_file(place(kept.dir, 0) / WEIGHTS)
    assert all(torch.equal(untrained[name], value) for name, value in start.items())
    assert any(not torch.equal(moved[name], value) for name, value in start.items())
    assert not place(kept.dir, 9).exists()
    answers = [p.generate(kept.select, kept.sampling, stream(1)) for p in (solution.policy_for(torch.ones(2)), policy)]
    assert answers[0].responses == answers[1].responses
    frozen = Snapshots([0], FIRST).fit(bench(model, steps=3, dir=tmp_path / "kept", frozen=True))
    assert frozen.policy_for(torch.ones(2)).generate(kept.select, kept.sampling, stream(1)).responses == (
        answers[0].responses
    )


@pytest.mark.parametrize("keep", [[], [-1, 4]])
def test_snapshots_of_no_step_are_refused(bench: Callable[..., Bench], keep: list[int]) -> None:
    with pytest.raises(UserError, match=r"method\.keep"):
        Snapshots(keep).fit(bench())


# the study ----------------------------------------------------------------------------------------
def curve(seed: int, *gold: float) -> Curve:
    nothing = np.zeros(len(gold))
    return Curve("bon", 0.0, Variant(1, False, "mean"), seed, [], nothing, nothing, np.array([gold, gold]))


def test_a_fall_is_measured_where_its_peak_was_not_found() -> None:
    steady = [curve(seed, 0.2, 0.5, 0.3) for seed in range(3)]
    assert falls(steady) == pytest.approx({0: 0.2, 1: 0.2, 2: 0.2})
    lucky = [curve(0, 1.0, 0.0, 0.0), curve(1, 0.0, 1.0, 0.0)]  # the peak of each is nothing to the other
    assert falls(lucky) == {0: 0.0, 1: 0.0}
    assert math.isnan(falls(lucky[:1])[0])


@pytest.mark.parametrize("kind", ["bon", "rl"])
def test_gaos_form_is_found_again(kind: str) -> None:
    kl_J = np.array([0.0, 0.3, 1.0, 2.5, 4.5])
    d_J = np.sqrt(kl_J)
    bend_J = d_J if kind == "bon" else np.log(np.maximum(d_J, 1e-9))
    assert gao_form(kl_J, 0.25 + d_J * (0.4 - 0.1 * bend_J), kind) == pytest.approx((0.4, 0.1))


@pytest.mark.usefixtures("_own_cache")
def test_the_study_of_best_of_n(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--quick", "--sizes", "1,2", "--statistics", "worst", "--noises", "0.25", "--rl-noises", "none"]
    overoptimisation.main([*given, "--out", str(tmp_path / "out"), "--runs-dir", str(tmp_path / "runs")])
    record = json.loads((tmp_path / "out" / "overoptimisation.json").read_text())
    assert len(record["curves"]) == 2 * 4  # seeds x (single, its control, full, shared)
    for found in record["curves"]:
        assert found["n"] == [1, 2, 4, 8]
        assert all(b >= a for a, b in itertools.pairwise(found["proxy"]))  # what is chosen by only rises
        assert len(found["kl"]) == len(found["gold"]) == 4
    starts = [{c["gold"][0] for c in record["curves"] if c["seed"] == seed} for seed in (0, 1)]
    assert all(max(gold) - min(gold) < 1e-9 for gold in starts)  # the best of one is any, whatever the proxy
    for finding in record["findings"]:
        assert (finding["over_single"] is None) == (finding["variant"] == "single")
        assert math.isfinite(finding["fall"]["high"])
    sizes = {row["form"]: row["parameters"] for row in record["costs"]}
    assert sizes.keys() == {"single", "single, large", "full", "shared"}
    assert 0 <= sizes["single, large"] / sizes["full"] - 1 < 0.2  # the control has the ensemble's parameters
    assert "| worst of 2, full | 2 |" in (tmp_path / "out" / "README.md").read_text()
    assert (tmp_path / "out" / "overoptimisation.png").stat().st_size > 10_000
    assert "agrees with gold" in capsys.readouterr().out


@pytest.mark.usefixtures("_own_cache")
def test_the_study_of_training_grades_the_snapshots_of_a_run(tmp_path: Path) -> None:
    given = ["--quick", "--sizes", "1", "--noises", "none", "--rl-noises", "0.25"]
    overoptimisation.main([*given, "--out", str(tmp_path / "out"), "--runs-dir", str(tmp_path / "runs")])
    (found,) = json.loads((tmp_path / "out" / "overoptimisation.json").read_text())["curves"]
    assert (found["kind"], found["steps"]) == ("rl", [0, 2])
    assert found["kl"][0] == pytest.approx(0, abs=1e-5)
    (summary,) = (tmp_path / "runs" / "proxy_reflections").rglob("summary.json")
    point = json.loads(summary.read_text())["decoding"]["sampled"]["uniform"]
    assert set(point["objectives"]) == set(point["held_out"]) == {"proxy"}
    assert point["objectives"] != point["held_out"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--seeds", "0"], "--seeds=0: give 1 or more"),
        (["--noises", "0.7"], "--noises=0.7: give shares"),
        (["--sizes", "one"], "--sizes=one: give whole numbers"),
        (["--statistics", "best"], "--statistics=best"),
    ],
)
def test_a_wrong_option_is_one_line(given: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        overoptimisation.main(given)
    assert "\n" not in str(caught.value)
