"""Trained scorers on a tiny random encoder and a small corpus in which what is to be learned can be learned."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from safetensors.torch import load_file
from support.small_corpora import data, encoder  # noqa: F401 - fixtures
from transformers import BertConfig, BertModel

from emorl_bench.cli import train_scorer
from emorl_bench.config.compose import VERSION_BASE, conf_dir, plain
from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.memory import Memory
from emorl_bench.core.ranks import ALONE
from emorl_bench.core.types import Example
from emorl_bench.data import epitome, pair
from emorl_bench.data.sources import Source
from emorl_bench.runner import bench
from emorl_bench.scorer_training import artefacts
from emorl_bench.scorer_training.encoders import load_encoder
from emorl_bench.scorer_training.levels import Levels
from emorl_bench.scorer_training.nets import ScorerNet, scores
from emorl_bench.scorer_training.ranking import Ranking
from emorl_bench.scorers.coherence import Coherence
from emorl_bench.scorers.empathy import Empathy
from emorl_bench.scorers.reflection import Reflection
from emorl_bench.scorers.rule import Rule
from emorl_bench.scorers.sentiment import Sentiment

FAST: dict[str, Any] = {
    "pooling": "mean",
    "reads": "pair",
    "freeze_layers": 0,
    "max_tokens": 32,
    "epochs": 12,
    "batch": 4,
    "rate": 3e-3,
    "head_rate": 3e-3,
    "dtype": "float32",
    "seed": 0,
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One for all tests, so that the same scorer is trained once."""
    place = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMORL_BENCH_CACHE", str(place))
        yield place / "scorers"


@pytest.fixture(scope="module")
def reflection(encoder: str, data: str, cache: Path) -> Reflection:
    return Reflection(encoder=encoder, data_dir=data, whole=False, bradley_terry=1.0, **FAST)


# nets ---------------------------------------------------------------------------------
def test_thresholds_rise_so_the_chance_of_more_never_grows_with_the_level(encoder: str) -> None:
    net = ScorerNet(load_encoder(encoder)[0], "cls", 3)
    with torch.no_grad():
        net.threshold_steps_O.copy_(torch.tensor([0.3, -4.0, 2.0]))
    assert (net.thresholds().diff() > 0).all()
    assert [tuple(layer.weight.shape) for layer in (net.head[0], net.head[2])] == [(21, 32), (1, 21)]
    ids = {"input_ids": torch.tensor([[2, 5, 3]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    chance_BO = torch.sigmoid(net(ids)).detach()
    assert (chance_BO.diff(dim=1) < 0).all()
    expected_level = sum(level * p for level, p in enumerate(-np.diff([1.0, *chance_BO[0].tolist(), 0.0])))
    assert float(scores(net(ids).detach())) == pytest.approx(expected_level / 3, abs=1e-6)


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_freezing_leaves_the_embeddings_and_the_first_blocks_as_they_are(encoder: str, layers: int) -> None:
    model, _ = load_encoder(encoder)
    learned = ScorerNet(model, "mean", 1, layers).learned()
    kinds = ("embeddings", "layer.0", "layer.1", "head.")
    assert [any(kind in name for name in learned) for kind in kinds] == [layers == 0, layers == 0, layers < 2, True]


# a scorer from end to end ------------------------------------------------------------------------
def test_a_ranking_is_learned_and_its_card_says_so(reflection: Reflection, cache: Path) -> None:
    directory = reflection.train()
    card = json.loads((directory / "card.json").read_text())
    assert card["metrics"]["hq>lq"]["value"] >= 0.95
    assert card["metrics"]["hq>lq"]["low"] <= card["metrics"]["hq>lq"]["value"] <= card["metrics"]["hq>lq"]["high"]
    wanted = {"name", "twin", "key", "weights_sha256", "data", "report", "encoder", "parameters", "settings"}
    assert wanted | {"training", "metrics", "calibration", "machine", "schema_version"} == set(card)
    for name in ("hq>lq", "hq>mismatch", "hq>mq", "mq>lq"):
        assert {name, f"{name} at matched length", f"{name} by length alone"} <= set(card["metrics"])
    assert card["data"]["fingerprint"] == _division(reflection.data_dir).fingerprint
    assert card["encoder"]["hash"]
    assert 0 <= card["calibration"]["ece"] <= 1
    assert card["report"]["groups"] == 24
    assert "hq>lq" in (directory / "card.md").read_text()
    assert str(cache) not in (directory / "card.json").read_text() + (directory / "card.md").read_text()


def _division(data_dir: str | None) -> Any:
    return pair.parts(pair.load(Source(data_dir, pair.FILE)))


def test_scores_are_pure_in_order_and_silence_scores_nothing(reflection: Reflection) -> None:
    prompt = "i feel angry about my wine"
    responses = ["you are angry about wine", "", "you should stop wine", "   "]
    examples = [Example(str(i), prompt) for i in range(4)]
    state = torch.get_rng_state()
    score = reflection.score(examples, responses)
    assert torch.equal(torch.get_rng_state(), state)
    assert score.shape == (4,)
    assert score[1] == score[3] == 0
    assert score[0] > score[2] > 0
    one_by_one = torch.cat([reflection.score([e], [r]) for e, r in zip(examples, responses, strict=True)])
    assert torch.allclose(score, one_by_one, atol=1e-5)


def test_training_is_repeatable_and_is_done_once(reflection: Reflection, monkeypatch: pytest.MonkeyPatch) -> None:
    short = replace(reflection, epochs=1)
    before = torch.get_rng_state()
    directory = short.train()
    assert torch.equal(torch.get_rng_state(), before)
    weights = load_file(directory / artefacts.WEIGHTS)
    again = load_file(short.train(afresh=True) / artefacts.WEIGHTS)
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    (directory / artefacts.WEIGHTS).write_bytes(b"damaged")
    assert load_file(short.train() / artefacts.WEIGHTS).keys() == weights.keys()
    monkeypatch.setattr(artefacts, "_train", lambda *_: pytest.fail("trained again"))
    short.prepare()


def test_the_fingerprint_follows_settings_data_encoder_and_twin_but_not_places(
    reflection: Reflection, encoder: str, tmp_path: Path, cache: Path
) -> None:
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for file in Path(encoder).iterdir():
        (moved / file.name).write_bytes(file.read_bytes())
    assert replace(reflection, encoder=str(moved), device="cuda").fingerprint() == reflection.fingerprint()
    kept = sorted(cache.iterdir()) if cache.exists() else []
    other = tmp_path / "other"
    other.mkdir()
    lines = Path(str(reflection.data_dir), "topic_clean_umich.csv").read_text().splitlines()
    (other / "topic_clean_umich.csv").write_text("\n".join(lines[1:]))
    changed = [replace(reflection, epochs=3), reflection.held_out(), replace(reflection, data_dir=str(other))]
    BertModel(BertConfig.from_pretrained(encoder)).save_pretrained(moved)
    changed += [replace(reflection, freeze_layers=1), replace(reflection, seed=1)]
    assert len({s.fingerprint() for s in (reflection, *changed)}) == 6
    assert kept == (sorted(cache.iterdir()) if cache.exists() else [])


def test_the_twin_learns_from_other_prompts_than_the_scorer_and_the_report(reflection: Reflection) -> None:
    own, twin = reflection.study().subject, reflection.held_out().study().subject
    assert isinstance(own, Ranking)
    assert isinstance(twin, Ranking)
    sets = [{g.prompt for g in groups} for groups in (own.train, twin.train, own.report)]
    assert all(len(s) > 10 for s in sets)
    assert all(one.isdisjoint(other) for one, other in combinations(sets, 2))
    assert {g.prompt for g in twin.report} == sets[2]


def test_levels_are_learned_in_their_order(encoder: str, data: str, cache: Path) -> None:
    empathy = Empathy(encoder=encoder, data_dir=data, balance=0.5, **FAST)
    card = artefacts.read_card(empathy.train())
    assert card["metrics"]["macro F1"]["value"] > 0.9
    assert card["metrics"]["spearman"]["value"] > 0.8
    means = [card["metrics"][f"mean score of level {level}"]["value"] for level in epitome.LEVELS]
    assert means == sorted(means)


def test_sentiment_is_learned_from_a_drawn_part(encoder: str, data: str, cache: Path) -> None:
    fields: dict[str, Any] = {"corpus": "sst2", "test_file": None, "limit": 40, "judge_limit": 30}
    sentiment = Sentiment(encoder=encoder, data_dir=data, **fields, **{**FAST, "reads": "joined", "batch": 8})
    subject = sentiment.study().subject
    assert isinstance(subject, Levels)
    assert (subject.units, len(subject.report)) == (40, 30)
    score = sentiment.score([Example("0", "wine is"), Example("1", "wine is")], ["good", "bad"])
    assert score[0] > score[1] + 0.5


# bad input ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pooling": "max"}, "pooling=max: unknown"),
        ({"twin": "test"}, "twin=test: unknown"),
        ({"epochs": 0}, "epochs=0: give a number above 0"),
        ({"freeze_layers": 3}, "freeze_layers=3: the encoder has 2 blocks"),
        ({"max_tokens": 65}, "max_tokens=65: the encoder reads 64 tokens at most"),
        ({"encoder": "/nowhere/encoder"}, "encoder=/nowhere/encoder: there is no such directory"),
        ({"data_dir": None}, "task.data_dir is not set"),
        ({"data_dir": "/nowhere"}, "task.data_dir=/nowhere: there is no such directory"),
    ],
)
def test_bad_settings_are_one_line(reflection: Reflection, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        replace(reflection, **change).train()
    assert "\n" not in str(caught.value)


def test_bad_corpora_are_one_line(encoder: str, data: str) -> None:
    with pytest.raises(UserError, match="corpora=pare: unknown; did you mean 'pair'"):
        Coherence(encoder=encoder, data_dir=data, corpora=("pare",), **FAST).fingerprint()
    fields: dict[str, Any] = {"test_file": None, "limit": 1, "judge_limit": None}
    with pytest.raises(UserError, match="limit=1: give 2 or more"):
        Sentiment(encoder=encoder, data_dir=data, corpus="sst2", **fields, **FAST).fingerprint()


def test_only_safetensors_are_loaded(reflection: Reflection, encoder: str, tmp_path: Path) -> None:
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_bytes((Path(encoder) / "config.json").read_bytes())
    (pickled / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"no \*.safetensors in it"):
        replace(reflection, encoder=str(pickled)).train()


# the command, and a run -----------------------------------------------------------------------------
def _composed(overrides: list[str]) -> dict[str, Any]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base=VERSION_BASE):
        return plain(compose("train_scorer", overrides))


def test_the_command_prints_the_card_of_the_twin_that_was_asked_for(encoder: str, data: str, cache: Path) -> None:
    settings = [f"scorer.{key}={value}" for key, value in FAST.items() if key != "epochs"]
    overrides = [f"task.data_dir={data}", f"scorer.encoder={encoder}", "scorer.epochs=1", "hardware.device=cpu"]
    config = _composed([*overrides, *settings, "twin=held_out"])
    assert "# Scorer reflection, twin held_out" in train_scorer.trained_card(config)
    assert (Path(train_scorer.trained_card(config).rsplit(" ", 1)[1]) / "card.json").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["twin=both"], "twin=both: unknown"),
        (["twn=held_out"], "unknown key 'twn'; did you mean 'twin'?"),
        (["scorer=reflectoin"], "unknown scorer; did you mean 'reflection'?"),
        (["hardware.device=tpu"], "hardware.device=tpu: unknown"),
        (["--config-name", "train"], "there is no such config"),
    ],
)
def test_the_command_says_what_is_wrong_in_one_line(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["emorl-train-scorer", *words])
    with pytest.raises(SystemExit) as left:
        train_scorer.main()
    said = capsys.readouterr().err
    assert left.value.code == 2
    assert message in said
    assert len(said.splitlines()) == 1


def test_the_command_trains_only_what_is_trained(data: str) -> None:
    config = _composed(["scorer=length_band", f"task.data_dir={data}"])
    with pytest.raises(UserError, match="is not trained; choose one of coherence, empathy, reflection"):
        train_scorer.trained_card(config)


def test_a_run_prepares_scorers_and_twins_before_anything_is_scored() -> None:
    prepared: list[str] = []

    class Fake(Rule):
        name = "own"

        def held_out(self) -> Fake:
            twin = Fake()
            twin.name = "twin"
            return twin

        def prepare(self) -> None:
            prepared.append(self.name)

    task = SimpleNamespace(scorers={"own": Fake()}, gold_scorers=dict)
    hardware = {"scorer_device": "cpu", "scorer_dtype": "float32"}
    bench._panels(task, hardware, Ledger(torch.device("cpu")), ALONE, Memory())
    assert prepared == ["own", "twin"]
