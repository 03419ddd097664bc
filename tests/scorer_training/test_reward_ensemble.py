"""Reward heads: loss, statistics and sizes against closed forms, training on pairs with a known rule, artefacts."""

from __future__ import annotations

import csv
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.ready_scorers import bert, numbers, saved

from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.memory import Memory
from emorl_bench.core.ranks import ALONE
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Example
from emorl_bench.runner.bench import _panels
from emorl_bench.scorer_training.artefacts import CARD_TEXT, read_card
from emorl_bench.scorer_training.preference_artefacts import sizes
from emorl_bench.scorer_training.preference_heads import RewardHeads, bradley_terry, read, standardise, statistics
from emorl_bench.scorer_training.preference_training import _Member
from emorl_bench.scorer_training.preferences import Preferences, every_pair, with_noise
from emorl_bench.scorer_training.study import TextBatch
from emorl_bench.scorers.reward_ensemble import RewardEnsemble
from emorl_bench.tasks.base import TaskDefaults

GOOD, BAD = range(5, 12), range(20, 27)  # words that a better and a worse response are made of
HEADS = 3


def phrase(rng: random.Random, words: range, count: int) -> str:
    return " ".join(f"w{rng.choice(words)}" for _ in range(count))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PAIR file of 60 prompts whose high-quality responses can be told from the low ones by their words."""
    root, rng = tmp_path_factory.mktemp("corpus"), random.Random(0)
    with (root / "topic_clean_umich.csv").open("w", newline="") as file:
        for i in range(60):
            good, bad = ([phrase(rng, words, 4) for _ in range(n)] for words, n in ((GOOD, 2), (BAD, 5)))
            prompt = f"topic{i} name{i} place{i} " + phrase(rng, range(30, 40), 3)
            csv.writer(file).writerow([prompt, *good, phrase(rng, range(4, 28), 3), *bad, "t"])
    saved(root / "encoder", bert(None))
    return root


@pytest.fixture
def ensemble(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RewardEnsemble:
    monkeypatch.setenv("EMORL_BENCH_CACHE", str(tmp_path / "cache"))
    return RewardEnsemble(
        data_dir=str(corpus),
        encoder=str(corpus / "encoder"),
        heads=HEADS,
        full=False,
        statistic="mean",
        uncertainty_weight=0.5,
        label_noise=0.0,
        pooling="mean",
        reads="pair",
        freeze_layers=0,
        max_tokens=48,
        epochs=4,
        batch=2,
        rate=3e-3,
        head_rate=1e-2,
        dtype="float32",
        seed=0,
    )


# the pieces ---------------------------------------------------------------------------------------
def test_bradley_terry_and_its_slope_in_closed_form() -> None:
    rewards_BK = torch.randn(6, 3, generator=stream(0), dtype=torch.float64, requires_grad=True)
    better, worse = [0, 0, 2, 5], [1, 4, 3, 1]
    loss_K = bradley_terry(rewards_BK, better, worse)
    values = rewards_BK.detach().numpy()
    difference_PK = values[better] - values[worse]
    np.testing.assert_allclose(loss_K.detach(), np.log1p(np.exp(-difference_PK)).mean(0))
    loss_K.sum().backward()
    slope = np.zeros_like(values)
    for p, (i, j) in enumerate(zip(better, worse, strict=True)):
        surprise_K = 1 / (1 + np.exp(difference_PK[p])) / len(better)
        slope[i] -= surprise_K
        slope[j] += surprise_K
    np.testing.assert_allclose(rewards_BK.grad, slope, atol=1e-12)


def test_statistics_against_numpy() -> None:
    rewards_BK = torch.randn(50, 4, generator=stream(1))
    r = rewards_BK.double().numpy()
    np.testing.assert_allclose(statistics(rewards_BK, "mean", 9.0), r.mean(1), atol=1e-6)
    np.testing.assert_allclose(statistics(rewards_BK, "worst", 9.0), r.min(1), atol=1e-6)
    np.testing.assert_allclose(statistics(rewards_BK, "uncertainty", 0.3), r.mean(1) - 0.3 * r.var(1), atol=1e-6)
    for heads in (2, 3, 4):  # one definition of spread, and what the sample variance of another would be to it
        own_B = statistics(rewards_BK[:, :heads].double(), "uncertainty", 0.3)
        theirs = r[:, :heads].mean(1) - 0.3 * (heads - 1) / heads * r[:, :heads].var(1, ddof=1)
        np.testing.assert_allclose(own_B, theirs, atol=1e-12)
    assert (statistics(rewards_BK, "worst", 0.0) <= statistics(rewards_BK, "mean", 0.0)).all()
    agreed_BK = rewards_BK[:, :1].expand(-1, 4)
    for name in ("mean", "worst", "uncertainty"):  # heads of one mind: nothing to be careful about
        torch.testing.assert_close(statistics(agreed_BK, name, 0.5), agreed_BK[:, 0])


def test_a_shared_encoder_is_counted_once() -> None:
    encoder_parameters, width = sum(p.numel() for p in bert(None).parameters()), 24
    counted = {
        "shared": sum(p.numel() for p in RewardHeads([bert(None)], "mean", 5).parameters()),
        "full": sum(p.numel() for p in RewardHeads([bert(None) for _ in range(5)], "mean", 5).parameters()),
    }
    assert counted == sizes(encoder_parameters, width, 5)
    assert counted["shared"] == encoder_parameters + 5 * 25
    assert counted["full"] == 5 * (encoder_parameters + 25)


def test_every_better_response_meets_every_worse_one_and_noise_turns_pairs_around() -> None:
    choices = [every_pair(f"p{i}", ["a", "b"], ["c", "d", "e"]) for i in range(10)]
    assert choices[0].pairs == ((0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4))
    noisy = with_noise(choices, 0.25, random.Random(3))
    turned = [i > j for choice in noisy for i, j in choice.pairs]
    assert sum(turned) == 15
    assert noisy == with_noise(choices, 0.25, random.Random(3))
    assert noisy != with_noise(choices, 0.25, random.Random(4))
    assert with_noise(choices, 0.0, random.Random(3)) == choices


def test_the_judge_counts_pairs_in_order() -> None:
    subject = Preferences([], [every_pair("p", ["a"], ["b", "c"]), every_pair("q", ["d"], ["e"])], 2, 0.5)
    rewards_NK = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, -1.0], [2.0, 2.0], [0.0, 3.0]])
    metrics = subject.judge(rewards_NK).metrics
    assert metrics["hq>lq, head 0"]["value"] == pytest.approx(1.0)
    assert metrics["hq>lq, head 1"]["value"] == pytest.approx(1 / 3)
    assert metrics["hq>lq, mean"]["value"] == pytest.approx((0.5 + 1 + 1) / 3)  # level, won, won
    assert metrics["hq>lq, mean"]["n"] == 3
    assert metrics["standard deviation of heads"]["value"] == pytest.approx((0.5 + 0.5 + 0.75 + 0 + 1.5) / 5)


def test_heads_take_the_blocks_in_their_own_order_and_the_encoder_hears_all(ensemble: RewardEnsemble) -> None:
    """With heads that hardly move, the encoder's step follows the sum over blocks of the mean over heads."""
    torch.manual_seed(0)
    net, seen = RewardHeads([bert(None)], "mean", 4), []
    net.eval()  # no dropout, so that the gradient can be computed again
    tokenizer = _tokenizer(ensemble)
    settings = replace(ensemble, head_rate=1e-12, rate=1e-12)
    member = _Member(net, tokenizer, settings, 0, steps=4)

    def block(number: int) -> TextBatch:
        def loss(rewards_BK: torch.Tensor) -> torch.Tensor:
            seen.append(number)
            return bradley_terry(rewards_BK, [0], [1]).mean()

        return TextBatch([(f"w{number}", "w9 w10"), (f"w{number}", "w21 w22 w23")], loss)

    blocks = [block(number) for number in range(4, 8)]
    gradients: list[torch.Tensor] = []
    assert member.encoder is not None
    member.encoder.step = lambda: gradients.extend(p.grad.clone() for p in member.own)  # type: ignore[method-assign, union-attr]
    for _ in range(3):
        gradients.clear()
        net.zero_grad()
        member.step(blocks)
    orders = [tuple(seen[k:16:4]) for k in range(4)]  # the first step, head by head
    assert all(sorted(order) == [4, 5, 6, 7] for order in orders)
    assert len(set(orders)) > 1
    net.zero_grad()
    for part in blocks:
        inputs = dict(
            tokenizer([p for p, _ in part.texts], [r for _, r in part.texts], padding=True, return_tensors="pt")
        )
        (
            net.heads[0](net.features(inputs, 0))[0] - net.heads[0](net.features(inputs, 0))[1]
        ).neg().exp().log1p().mean().backward()
    for found, parameter in zip(gradients, member.own, strict=True):
        torch.testing.assert_close(found, parameter.grad, atol=1e-6, rtol=1e-3)


def test_standardised_heads_have_one_zero_and_one_unit(ensemble: RewardEnsemble) -> None:
    net, tokenizer = RewardHeads([bert(None)], "mean", 4).eval(), _tokenizer(ensemble)
    texts = [(f"w{i}", f"w{i + 1} w{2 * i % 36 + 4}") for i in range(4, 30)]
    standardise(net, tokenizer, texts, ensemble)
    rewards_NK = read(net, tokenizer, texts, ensemble)
    torch.testing.assert_close(rewards_NK.mean(0), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(rewards_NK.std(0, correction=0), torch.ones(4), atol=1e-4, rtol=0)


def _tokenizer(ensemble: RewardEnsemble) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(ensemble.encoder)


# the scorer ---------------------------------------------------------------------------------------
def test_heads_learn_the_order_differ_and_are_kept(ensemble: RewardEnsemble) -> None:
    directory = ensemble.train()
    card = read_card(directory)
    assert card["metrics"]["hq>lq, mean"]["value"] > 0.95
    assert card["data"]["part"] == "scorer"
    given, rng = [Example("", "topic name place w30 w31 w32")] * 8, random.Random(1)
    said = [phrase(rng, words, 4) for words in (GOOD, BAD) for _ in range(4)]
    rewards_BK = ensemble.rewards(given, said)
    assert rewards_BK.shape == (8, HEADS)
    for k in range(1, HEADS):
        assert (rewards_BK[:, k] - rewards_BK[:, 0]).abs().max() > 1e-4
    scores = {s: replace(ensemble, statistic=s).score(given, said) for s in ("mean", "worst", "uncertainty")}
    assert scores["mean"][:4].mean() > scores["mean"][4:].mean() + 0.1
    assert (scores["worst"] <= scores["mean"]).all()
    assert (scores["uncertainty"] <= scores["mean"] + 1e-6).all()
    expected = rewards_BK.mean(1) - 0.5 * rewards_BK.var(1, correction=0)
    torch.testing.assert_close(scores["uncertainty"], torch.sigmoid(expected))
    stamp = (directory / "model.safetensors").stat().st_mtime_ns
    assert replace(ensemble, statistic="worst").train() == directory  # the same heads, read otherwise
    assert (directory / "model.safetensors").stat().st_mtime_ns == stamp


def test_the_card_and_the_ledger_set_both_forms_side_by_side(ensemble: RewardEnsemble) -> None:
    quick = replace(ensemble, epochs=1)
    quick.prepare()
    alone = quick.costs()
    assert alone["shared"].wall_seconds > 0
    assert alone["full"].wall_seconds == 0  # never trained here
    whole = replace(quick, full=True)
    text = (whole.train() / CARD_TEXT).read_text()
    assert whole.fingerprint() != quick.fingerprint()
    both = quick.costs()
    assert both["full"].wall_seconds > 0
    assert both == whole.costs()
    encoder_parameters = sum(p.numel() for p in bert(None).parameters())
    for form, parameters in sizes(encoder_parameters, 24, HEADS).items():
        assert (both[form].parameters, both[form].peak_bytes) == (parameters, 4 * parameters)
        assert f"| {form} | {parameters:,} | {4 * parameters:,} |" in text
    assert "not trained here" not in text
    rewards_BK = whole.rewards([Example("", "w30")] * 2, ["w5 w6", "w21 w22"])
    assert (rewards_BK[:, 1] - rewards_BK[:, 0]).abs().max() > 1e-4


@dataclass(frozen=True)
class OneScorer(TaskDefaults):
    scorers: dict[str, RewardEnsemble]


def test_a_run_prepares_both_twins_and_its_ledger_has_both_forms(ensemble: RewardEnsemble) -> None:
    scorer, ledger = replace(ensemble, epochs=1), Ledger()
    task, hardware = OneScorer({scorer.name: scorer}), {"scorer_device": None, "scorer_dtype": "float32"}
    panel, held_out, _ = _panels(task, hardware, ledger, ALONE, Memory())  # type: ignore[arg-type]
    assert panel.objectives == held_out.objectives == ("reward_ensemble",)
    assert read_card(scorer.held_out().train())["twin"] == "held_out"
    written = ledger.as_dict()
    assert written["scorer/reward_ensemble/full"]["parameters"] > written["scorer/reward_ensemble/shared"]["parameters"]
    assert written["scorer/reward_ensemble/shared"]["wall_seconds"] > 0
    assert ledger.totals()["seconds_sum"] == 0  # nobody's budget


def test_the_twin_learns_from_other_prompts_with_another_seed(ensemble: RewardEnsemble) -> None:
    quick = replace(ensemble, epochs=1)
    twin = quick.held_out()
    assert read_card(twin.train())["data"]["part"] == "held_out"
    prompts = [{c.prompt for c in scorer.study().subject.train} for scorer in (quick, twin)]
    assert not prompts[0] & prompts[1]
    assert quick.fingerprint() != twin.fingerprint()
    given, said = [Example("", "w30")] * 2, ["w5 w6", "w21 w22"]
    assert not quick.score(given, said).equal(twin.score(given, said))


def test_label_noise_changes_what_is_learned_and_the_contract_holds(ensemble: RewardEnsemble) -> None:
    quick = replace(ensemble, epochs=1, label_noise=0.3)
    assert quick.fingerprint() != replace(quick, label_noise=0.0).fingerprint()
    assert quick.fingerprint() == replace(quick, statistic="worst", data_dir=f"{quick.data_dir}/").fingerprint()
    given = [Example("", p) for p in ("w30 🦊 ‮", "", "w31 " * 80, "w4 w5")]
    said = ["w5 w6", "w7 " * 90, "", "naïve — 漢字"]
    scores = numbers(quick.score(given, said))
    assert ((scores >= 0) & (scores <= 1)).all()
    assert scores[2] == 0
    alone = [float(quick.score([e], [r])) for e, r in zip(given, said, strict=True)]
    np.testing.assert_allclose(alone, scores, atol=1e-5)
    np.testing.assert_allclose(quick.score(given[::-1], said[::-1]), scores[::-1], atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 1}, "heads=1: give 2 or more"),
        ({"label_noise": 0.5}, "below 0.5"),
        ({"statistic": "wurst"}, "did you mean 'worst'"),
        ({"uncertainty_weight": -1.0}, "give 0 or more"),
        ({"data_dir": "/no/such/place"}, "task.data_dir"),
    ],
)
def test_wrong_settings_are_one_line(ensemble: RewardEnsemble, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        replace(ensemble, **changes).prepare()
    assert "\n" not in str(caught.value)
