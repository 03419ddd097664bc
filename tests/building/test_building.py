"""How the assets of reflections are built, in micro sizes: the shapes of what is shipped, and one adversarial round."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from emorl_bench.assets.ngrams import NGrams
from emorl_bench.assets.shipped import asset_dir
from emorl_bench.assets.world.judge import statement_of
from emorl_bench.assets.world.statements import situations, split_of
from emorl_bench.building.reflections import base_models, rounds
from emorl_bench.building.reflections.scorer_texts import policy_texts, world_texts
from emorl_bench.building.reflections.scorer_training import calibrate, fit_ngrams, labels


@pytest.mark.parametrize("model", list(base_models.MODELS))
def test_a_build_gives_a_model_of_the_shipped_shape(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(base_models.STEPS, model, 2)
    base_models.build_base_model(model, tmp_path, lambda line: None)
    shipped = asset_dir(f"reflections/{model}")
    for file in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        assert json.loads((tmp_path / file).read_text()) == json.loads((shipped / file).read_text())


def test_a_round_learns_from_what_a_policy_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "WORLD_TEXTS", (600, 200))
    monkeypatch.setattr(rounds, "DAMAGED_TEXTS", 100)
    monkeypatch.setattr(rounds, "PROMPTS", 32)
    scorers, told = rounds.Scorers.new(), []
    rounds.learn(scorers, 0, told.append)
    said, reward = rounds.attacked(scorers, "tiny_gpt2", asset_dir("reflections/tiny_gpt2"), rounds.ATTACKS[0], seed=1)
    assert 0 < reward < 1
    assert {split_of(statement_of(prompt).situation) for prompt, _ in said} == {"train"}
    scorers.said |= dict.fromkeys(said)
    halves = [scorers.said_in(half) for half in (0, 1)]
    assert sum(map(len, halves)) == len(scorers.said)
    assert all(statement_of(p).situation in situations("train", half) for half in (0, 1) for p, _ in halves[half])
    before = [p.clone() for p in scorers.reader.parameters()]
    rounds.learn(scorers, 1, told.append)
    assert any(not torch.equal(a, b) for a, b in zip(before, scorers.reader.parameters(), strict=True))
    assert [line.split(":")[0] for line in told] == ["round 0", "round 1"]


def test_what_policies_say_is_damaged_in_many_ways_and_stays_short() -> None:
    said = world_texts(200, 0, seed=1)
    damaged = policy_texts(said, 400, seed=2)
    assert len(set(damaged) - set(said)) > 300
    assert max(len(response.split()) for _, response in damaged) <= 24
    assert {prompt for prompt, _ in damaged} <= {prompt for prompt, _ in said}
    assert policy_texts([], 10, seed=3) == []


def test_calibration_takes_a_constant_error_away() -> None:
    """Held-out scores that are too low everywhere become right on average, and keep their order."""
    texts = world_texts(1500, 1, seed=4)
    net = NGrams()
    fit_ngrams(net, texts, epochs=2, rate=1e-2, seed=0)
    with torch.no_grad():
        net.bias -= 2.0
    prompts, responses = zip(*texts, strict=True)
    with torch.no_grad():
        low_BK = torch.sigmoid(net(prompts, responses))
    calibrate(net, texts)
    with torch.no_grad():
        right_BK = torch.sigmoid(net(prompts, responses))
    truth_BK = labels(texts)
    assert ((low_BK - truth_BK).mean(0) < -0.03).all()
    assert ((right_BK - truth_BK).mean(0).abs() < 0.01).all()
    assert (net.scale > 0).all()  # so their order stays
