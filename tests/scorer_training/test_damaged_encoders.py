"""An encoder or a judge whose files are damaged is one line, as a base model is; nothing is drawn at random."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import word_tokenizer
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForSequenceClassification

from emorl_bench.core.errors import UserError
from emorl_bench.scorer_training.encoders import load_encoder
from emorl_bench.scorers.checkpoints import load

SIZES = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
Damage = Callable[[Path], None]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    BertForSequenceClassification(BertConfig(**SIZES, num_labels=1)).save_pretrained(tmp_path)
    word_tokenizer().save_pretrained(tmp_path)
    return tmp_path


def weights(change: Callable[[dict[str, torch.Tensor]], None]) -> Damage:
    def damage(place: Path) -> None:
        tensors = load_file(place / "model.safetensors")
        change(tensors)
        save_file(tensors, place / "model.safetensors", metadata={"format": "pt"})

    return damage


def fill(part: str, value: float) -> Damage:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if part in name]:
            tensors[name].fill_(value)

    return weights(change)


def without(part: str) -> Damage:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if part in name]:
            del tensors[name]

    return weights(change)


def written(name: str, content: bytes) -> Damage:
    def damage(place: Path) -> None:
        (place / name).write_bytes(content)

    return damage


def config(**changes: object) -> Damage:
    def damage(place: Path) -> None:
        file = place / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return damage


DAMAGE: dict[str, Damage] = {
    "a missing tensor": without("encoder.layer.0.output.dense.weight"),
    "NaN": fill("layer.0.output.dense.weight", torch.nan),
    "infinite": fill("layer.0.attention.self.query.weight", torch.inf),
    "a zero embedding": fill("word_embeddings", 0.0),
    "a truncated file": lambda place: written("model.safetensors", (place / "model.safetensors").read_bytes()[:500])(
        place
    ),
    "no safetensors inside": written("model.safetensors", b"garbage" * 50),
    "another shape": config(hidden_size=32),
    "no heads": config(num_attention_heads=0),
    "a deep config": written("config.json", b'{"a":' * 50_000),
    "a config that is a list": written("config.json", b"[1]"),
    "a tokenizer of another kind": written("tokenizer.json", b"{}"),
    "a tokenizer of bytes": written("tokenizer.json", b"\xff\xfe\x00"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_model_is_one_line(damage: Damage, place: Path) -> None:
    damage(place)
    with pytest.raises(UserError, match=r"^encoder=") as error:
        load_encoder(str(place))
    assert "\n" not in str(error.value)
    load.cache_clear()
    with pytest.raises(UserError, match=r"^scorer model=") as error:
        load("classifier", str(place), None, False, "cpu", "float32")
    assert "\n" not in str(error.value)


def test_a_sound_one_is_loaded_without_its_pooler(place: Path) -> None:
    model, _ = load_encoder(str(place))
    assert model.pooler is None
    load.cache_clear()
    assert load("classifier", str(place), None, False, "cpu", "float32").model.num_labels == 1


def test_a_pooler_that_is_missing_is_not_needed(place: Path) -> None:
    without("pooler")(place)
    load_encoder(str(place))
