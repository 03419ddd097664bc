"""Weights come from safetensors inside their directory, and nothing that comes with a model runs.

Each refusal is tried for a base model, an encoder and a judge; the same directory untouched is loaded by all three.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import CPU, tiny_model, word_tokenizer
from safetensors.torch import load_file, save_file

from emorl_bench.core.errors import UserError
from emorl_bench.models.loading import ModelSource, load_backbone
from emorl_bench.models.lora import AdapterSettings
from emorl_bench.offline.containment import shards
from emorl_bench.offline.locating import Located
from emorl_bench.runner.base_model import weights_hash
from emorl_bench.scorer_training.encoders import encoder_hash, load_encoder
from emorl_bench.scorers import checkpoints

Load = Callable[[Path], Any]


def as_base(place: Path) -> Any:
    return load_backbone(ModelSource("causal", str(place)), AdapterSettings(), CPU, torch.float32).model


def as_encoder(place: Path) -> Any:
    return load_encoder(str(place))[0]


def as_judge(place: Path) -> Any:
    return checkpoints.load("causal", str(place), None, False, "cpu", "float32").model


@pytest.fixture(params=[as_base, as_encoder, as_judge])
def load(request: pytest.FixtureRequest) -> Load:
    chosen: Load = request.param
    return chosen


@pytest.fixture
def place(tmp_path: Path) -> Path:
    model = tmp_path / "models" / "llama"
    tiny_model("llama").save_pretrained(model)
    word_tokenizer().save_pretrained(model)
    return model


def indexed(place: Path, shard: str, save: Callable[[dict[str, Any], Path], None]) -> None:
    """Move the weights to ``shard``, and let an index name it. A decoy keeps the directory from looking empty."""
    weights = load_file(place / "model.safetensors")
    (place / "model.safetensors").rename(place / "decoy.safetensors")
    save(weights, place / shard)
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, shard)}
    (place / "model.safetensors.index.json").write_text(json.dumps(index))


def as_safetensors(weights: dict[str, Any], file: Path) -> None:
    save_file(weights, file, metadata={"format": "pt"})


def refused(load: Load, place: Path) -> str:
    with pytest.raises(UserError) as error:
        load(place)
    text = str(error.value)
    assert "\n" not in text
    assert str(place) in text
    return text


def test_a_plain_model_and_one_in_shards_of_its_own_are_loaded(load: Load, place: Path) -> None:
    before = load(place).state_dict()
    indexed(place, "model-00001-of-00001.safetensors", as_safetensors)
    for known in (checkpoints.load, encoder_hash):
        known.cache_clear()
    after = load(place).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert shards(place) == ["model-00001-of-00001.safetensors"]


@pytest.mark.parametrize(
    ("shard", "save"),
    [
        ("weights.bin", torch.save),
        ("weights.pt", torch.save),
        ("../weights.bin", torch.save),
        ("../weights.safetensors", as_safetensors),
        ("../llama/weights.safetensors", as_safetensors),
        (".hidden.safetensors", as_safetensors),
    ],
)
def test_an_index_that_leads_elsewhere_or_to_a_pickle_is_refused(
    load: Load, place: Path, shard: str, save: Callable[[dict[str, Any], Path], None]
) -> None:
    indexed(place, shard, save)
    assert (place / shard).is_file()  # without the check it could be opened
    assert f"names {shard!r}" in refused(load, place)


def test_an_absolute_path_is_refused(load: Load, place: Path, tmp_path: Path) -> None:
    indexed(place, str(tmp_path / "elsewhere.safetensors"), as_safetensors)
    assert "elsewhere.safetensors" in refused(load, place)


@pytest.mark.parametrize("local", [True, False], ids=["code beside it", "code of the hub"])
def test_code_of_a_model_never_runs_and_nobody_is_asked(
    load: Load, place: Path, tmp_path: Path, local: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: Any) -> str:
        raise AssertionError("a question on the terminal")

    monkeypatch.setattr("builtins.input", asked)
    ran = tmp_path / "ran"
    (place / "evil.py").write_text(
        f"open({str(ran)!r}, 'w')\n"
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "class Config(LlamaConfig):\n    model_type = 'evil'\n"
        "class Model(LlamaForCausalLM):\n    config_class = Config\n"
    )
    config = json.loads((place / "config.json").read_text())
    where = "" if local else "someone/evil--"
    names = {"AutoConfig": "Config", "AutoModel": "Model", "AutoModelForCausalLM": "Model"}
    config |= {"model_type": "evil", "auto_map": {auto: f"{where}evil.{name}" for auto, name in names.items()}}
    (place / "config.json").write_text(json.dumps(config))
    refused(load, place)
    assert not ran.exists()


def test_an_adapter_beside_the_model_is_refused(load: Load, place: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    tiny_model("llama", seed=1).save_pretrained(other)
    (place / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(other), "peft_type": "LORA"}))
    assert "adapter_config.json" in refused(load, place)


def test_attention_code_of_the_hub_is_refused(load: Load, place: Path) -> None:
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(config | {"attn_implementation": "someone/kernel"}))
    assert "a kernel of the hub" in refused(load, place)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "extra.json", "merges.txt"])
@pytest.mark.parametrize("kind", [os.mkfifo, os.mkdir], ids=["fifo", "directory"])
def test_what_is_no_file_is_refused_at_once(load: Load, place: Path, name: str, kind: Callable[[Path], None]) -> None:
    (place / name).unlink(missing_ok=True)
    kind(place / name)
    assert f"{name} is no regular file" in refused(load, place)


def test_links_to_files_are_followed_as_the_cache_of_the_hub_needs(load: Load, place: Path, tmp_path: Path) -> None:
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for file in list(place.iterdir()):
        file.rename(blobs / file.name)
        file.symlink_to(blobs / file.name)
    load(place)


def test_every_file_that_an_index_names_is_in_the_hashes(place: Path) -> None:
    indexed(place, "part.safetensors", as_safetensors)
    (place / "decoy.safetensors").unlink()
    hashes = set()
    for seed in (0, 1):
        weights = load_file(place / "part.safetensors")
        as_safetensors({name: tensor + seed for name, tensor in weights.items()}, place / "part.safetensors")
        for known in (encoder_hash, weights_hash):
            known.cache_clear()
        hashes.add((encoder_hash(str(place)), weights_hash(Located(place, str(place), "directory"))))
    assert len({one for pair in hashes for one in pair}) == 4


@pytest.mark.parametrize("name", ["num_hidden_layers", "n_layer"])
def test_a_configuration_of_millions_of_layers_is_refused_at_once(load: Load, place: Path, name: str) -> None:
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**config, name: 10**7}))
    assert f"wants {name}=10000000, but its weights are" in refused(load, place)


def test_a_configuration_nested_without_end_is_one_line(load: Load, place: Path) -> None:
    (place / "config.json").write_text("[" * 100_000)
    refused(load, place)


def test_what_does_not_fit_is_one_line_and_no_table(load: Load, place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**config, "hidden_size": 64}))
    assert "other shapes than its config.json says" in refused(load, place)
    said = capfd.readouterr()
    assert "REPORT" not in said.out + said.err
