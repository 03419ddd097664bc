"""Real checkpoints: loaded whole, decoded as transformers does, and one clear line for what cannot be loaded."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ARCHITECTURES, tiny_model, word_tokenizer
from omegaconf import OmegaConf
from transformers import AutoModelForCausalLM, AutoTokenizer

from emorl_bench.config.compose import conf_dir
from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Example, Sampling
from emorl_bench.decoding.decode import Decoder
from emorl_bench.models.backbone import Backbone
from emorl_bench.models.loading import ModelSource, load_backbone
from emorl_bench.models.lora import AdapterSettings
from emorl_bench.models.prompting import PromptFormat
from emorl_bench.offline import directory
from emorl_bench.offline.model_files import check_files
from emorl_bench.policies.adapter_policy import AdapterBank
from emorl_bench.runner.provenance import with_model

STORIES = Path(__file__).parents[3] / "shared" / "models" / "stories260k"
CPU = torch.device("cpu")


# loading -----------------------------------------------------------------------------------------------------------
def saved(place: Path, architecture: str = "llama") -> Path:
    tiny_model(architecture).save_pretrained(place)
    word_tokenizer().save_pretrained(place)
    return place


def load(path: str | Path, family: str = "causal", new_tokens: int = 8, **changes: Any) -> Backbone:
    source = ModelSource(family, str(path), max_prompt_tokens=changes.pop("limit", 32))
    dtype = changes.pop("dtype", torch.float32)
    return load_backbone(source, AdapterSettings(), CPU, dtype, PromptFormat(**changes), new_tokens)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_transformers_saves_is_loaded_and_decodes_alike(tmp_path: Path, architecture: str) -> None:
    loaded = load(saved(tmp_path, architecture), "seq2seq" if architecture == "t5" else "causal")
    assert Decoder(loaded, Ledger()).fused is not None
    kept = {k: v.clone() for k, v in tiny_model(architecture).state_dict().items()}
    assert all(torch.equal(kept[name], value) for name, value in loaded.model.state_dict().items() if name in kept)


def _write(name: str, text: str) -> Callable[[Path], None]:
    return lambda place: (place / name).write_text(text) and None


def _drop(*names: str) -> Callable[[Path], None]:
    return lambda place: [(place / name).unlink() for name in names] and None


def _instead(name: str) -> Callable[[Path], None]:
    return lambda place: (place / "model.safetensors").rename(place / name) and None


def _smaller(place: Path) -> None:
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(config | {"vocab_size": 12}))


def _lacking(place: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(place / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, place / "model.safetensors", {"format": "pt"})


SHARDS = json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}})


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_drop("config.json"), "no config.json"),
        (_write("config.json", "{"), "config.json cannot be read"),
        (_write("config.json", "[]"), "names no model_type"),
        (_write("config.json", '{"model_type": "martian"}'), "config.json cannot be loaded"),
        (_instead("pytorch_model.bin"), "emorl-assets convert"),
        (_instead("model.gguf"), "is a GGUF"),
        (_instead("model-00001-of-00002.safetensors"), ""),
        (_write("model.safetensors.index.json", SHARDS), "no model-00001-of-00002.safetensors"),
        (_write("model.safetensors", "cut"), "its weights cannot be loaded"),
        (_lacking, "1 weights are not in its files, such as model.layers.1.mlp.up_proj.weight"),
        (_drop("tokenizer.json", "tokenizer_config.json"), "no tokenizer in it"),
        (_write("tokenizer.json", "{}"), "its tokenizer cannot be loaded"),
        (_smaller, "ids up to 39 and the model 12 embeddings"),
    ],
)
def test_what_a_directory_lacks_is_said_in_one_line(tmp_path: Path, damage: Callable[[Path], None], said: str) -> None:
    damage(saved(tmp_path / "model"))
    with pytest.raises(UserError) as refused:
        load(tmp_path / "model")
    text = str(refused.value)
    assert said in text
    assert str(tmp_path / "model") in text
    assert "\n" not in text


def test_a_name_on_the_hub_without_safetensors_is_refused_with_the_remedy(tmp_path: Path) -> None:
    _drop("model.safetensors")(saved(tmp_path))
    with pytest.raises(UserError, match=r"no \*.safetensors on the hub; .* emorl-assets convert someone/boxed"):
        check_files(tmp_path, "someone/boxed", hub=True)


def test_family_and_context_must_fit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="use model=causal"):
        load(saved(tmp_path / "gpt2", "gpt2"), "seq2seq")
    with pytest.raises(UserError, match="need 129 places; this gpt2 has 128"):
        load(tmp_path / "gpt2", limit=120, new_tokens=9)
    load(tmp_path / "gpt2", limit=120, new_tokens=8)
    load(saved(tmp_path / "t5", "t5"), "seq2seq", limit=900, new_tokens=900)  # relative positions have no end
    with pytest.raises(UserError, match=r"model\.chat=on"):
        load(tmp_path / "gpt2", chat="on")


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_attention_of_the_configuration_is_used(tmp_path: Path, attention: str) -> None:
    source = ModelSource("causal", str(saved(tmp_path)), attention=attention)
    loaded = load_backbone(source, AdapterSettings(), CPU, torch.bfloat16)
    assert (loaded.model.config._attn_implementation, loaded.dtype) == (attention, torch.bfloat16)
    with pytest.raises(UserError, match="its weights cannot be loaded"):
        load_backbone(replace(source, attention="none_such"), AdapterSettings(), CPU, torch.float32)


def test_a_session_records_the_model_and_earlier_ones_keep_theirs() -> None:
    record = {"hash": "h", "sessions": [{"started": 1, "model": "old"}, {"started": 2}]}
    sessions = with_model(record, {"source": "hub"})["sessions"]
    assert sessions == [{"started": 1, "model": "old"}, {"started": 2, "model": {"source": "hub"}}]


def test_every_model_of_the_hub_is_pinned() -> None:
    for file in sorted((conf_dir() / "model").glob("*.yaml")):
        model = OmegaConf.load(file)
        path = OmegaConf.to_container(model)["path"]
        if path is not None and "/" in path and not path.startswith("embedded:"):
            assert re.fullmatch(r"[0-9a-f]{40}", model.revision), file.name


# real weights ------------------------------------------------------------------------------------------------------
def said(loaded: Backbone, prompts: list[str], tokens: int) -> list[list[int]]:
    policy = AdapterBank(Decoder(loaded, Ledger()), seed=0).new_policy("policy")
    examples = [Example(str(i), prompt) for i, prompt in enumerate(prompts)]
    rollout = policy.generate(examples, Sampling(tokens, temperature=0.0), stream(0, "greedy"))
    rows = zip(rollout.response_ids_BT, rollout.response_mask_BT, strict=True)
    return [ids[mask].tolist() for ids, mask in rows]


def generated(path: Path, prompts: list[list[int]], tokens: int) -> list[list[int]]:
    """What transformers' own ``generate`` makes of the same ids, one prompt at a time."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    rows = []
    for ids in prompts:
        given = torch.tensor([ids])
        out = model.generate(given, attention_mask=torch.ones_like(given), max_new_tokens=tokens, do_sample=False)
        rows.append(out[0, len(ids) :].tolist())
    return rows


@pytest.mark.skipif(not STORIES.is_dir(), reason="the stories260k model is not beside this checkout")
def test_stories_are_told_as_transformers_tells_them() -> None:
    loaded, prompts = load(STORIES), ["Once upon a time", "Lily was sad because"]
    ids = [loaded.prompt_ids(prompt) for prompt in prompts]
    assert all(row[0] == loaded.tokenizer.bos_token_id for row in ids)
    assert said(loaded, prompts, 24) == generated(STORIES, ids, 24)


def smollm2() -> Path:
    try:
        return directory("smollm2_135m")
    except UserError as absent:
        pytest.skip(str(absent))


def test_smollm2s_tokenizer_reads_as_the_published_one() -> None:
    tokenizer = AutoTokenizer.from_pretrained(smollm2())
    assert (tokenizer.eos_token, tokenizer.bos_token) == ("<|im_end|>", "<|im_start|>")
    text = "a\n\n2024 it's  17"
    assert tokenizer.tokenize(text) == ["a", "ĊĊ", "2", "0", "2", "4", "Ġit", "'s", "ĠĠ", "1", "7"]
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    told = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
    chat = "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.apply_chat_template(told, add_generation_prompt=True, tokenize=False) == chat


def test_smollm2_answers_as_transformers_does_and_ends_its_turn() -> None:
    path = smollm2()
    loaded = load("offline:smollm2_135m", limit=64, system="Answer with one word.")
    assert Decoder(loaded, Ledger()).fused is not None
    assert loaded.tokenizer.decode([loaded.eos]) == "<|im_end|>"
    prompts = ["What is the capital of France?", "Hi!"]
    rows = said(loaded, prompts, 9)
    assert rows == generated(path, [loaded.prompt_ids(prompt) for prompt in prompts], 9)
    assert loaded.tokenizer.decode(rows[0]) == "The capital of France is Paris.<|im_end|>"
