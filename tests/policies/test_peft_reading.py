"""Adapters of PEFT as experts: the update is PEFT's own, or the adapter is refused in one line."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_bank, make_bench, shaken, tiny_model, word_prompts
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers.pytorch_utils import Conv1D

from emorl_bench.core.errors import UserError
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Sampling
from emorl_bench.emorl import Emorl
from emorl_bench.ensemble.blending import HiddenState
from emorl_bench.models.lora import active
from emorl_bench.policies.adapter_policy import AdapterBank
from emorl_bench.policies.peft_io import CONFIG, WEIGHTS
from emorl_bench.policies.peft_reading import read_adapters
from emorl_bench.runner.identity import identity

KEY = "method.experts"
TARGETS = {"t5": ["q", "wo"], "gpt2": ["c_attn", "c_proj"], "llama": ["q_proj", "down_proj"]}
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {"r": 3, "lora_alpha": 5},
    "rslora": {"r": 6, "lora_alpha": 5, "use_rslora": True},
    "patterns": {"r": 2, "lora_alpha": 4, "rank_pattern": {"wo|c_proj|down_proj": 5}, "alpha_pattern": {"^.*0.*": 7}},
}


def trained_by_peft(place: Path, architecture: str, seed: int = 0, **settings: Any) -> Any:
    """A model of PEFT with random factors, saved."""
    kind = "SEQ_2_SEQ_LM" if architecture == "t5" else "CAUSAL_LM"
    config = LoraConfig(
        target_modules=TARGETS[architecture], task_type=kind, fan_in_fan_out=architecture == "gpt2", **settings
    )
    model = get_peft_model(tiny_model(architecture), config)
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=rng))
    model.save_pretrained(str(place))
    return model


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("architecture", TARGETS)
def test_the_update_of_every_layer_is_that_of_peft(tmp_path: Path, architecture: str, settings: dict[str, Any]) -> None:
    trained_by_peft(tmp_path / "other", architecture, 1, r=4, lora_alpha=1)
    model, bank = trained_by_peft(tmp_path / "own", architecture, **settings), make_bank(architecture)
    paths = [str(tmp_path / "own"), str(tmp_path / "other")]
    (own, other), unproved = read_adapters(paths, bank.backbone, KEY)
    assert unproved == paths
    assert own.scale == other.scale == bank.backbone.settings.scale
    assert own.factors.keys() == bank.backbone.layers.keys()
    changed = 0
    for name, (a_RI, b_OR) in own.factors.items():
        assert a_RI.shape == other.factors[name][0].shape
        layer = model.base_model.model.get_submodule(name)
        if not hasattr(layer, "get_delta_weight"):
            assert not (b_OR @ a_RI).any()
            continue
        delta = layer.get_delta_weight("default")
        expected = delta.T if isinstance(layer.base_layer, Conv1D) else delta
        assert torch.allclose(own.scale * (b_OR @ a_RI), expected, atol=1e-6)
        changed += 1
    assert changed == sum(name.rsplit(".", 1)[-1] in TARGETS[architecture] for name in own.factors) > 2


def test_logits_are_those_of_peft(tmp_path: Path) -> None:
    model, bank = trained_by_peft(tmp_path, "llama", **SETTINGS["rslora"]).eval(), make_bank("llama")
    (adapter,), _ = read_adapters([str(tmp_path)], bank.backbone, KEY)
    ids = torch.tensor([[4, 9, 30, 12]])
    with torch.no_grad():
        expected = model(input_ids=ids).logits[:, -1]
        with active(bank.backbone.layers, [adapter]):
            _, hidden = bank.backbone.start(ids.tolist(), 1)
        assert torch.allclose(bank.backbone.head(hidden), expected, atol=1e-5)


def test_emorl_blends_adapters_of_its_own_format(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bank = make_bank("gpt2")
    experts = [shaken(bank, seed) for seed in (1, 2)]
    paths = [str(tmp_path / expert.name) for expert in experts]
    for expert, path in zip(experts, paths, strict=True):
        expert.save(Path(path))
    bench = make_bench(tmp_path, "gpt2", bank=bank)
    method = Emorl(HiddenState(), None, experts=paths)
    with caplog.at_level(logging.WARNING):
        sampler = method.fit(bench).policy_for(torch.tensor([0.5, 0.5], dtype=torch.float64))
    assert "their training is not in the cost" in caplog.text
    assert Emorl(HiddenState(), None, experts=",".join(paths)).fit(bench).policy_for is not None
    assert "which base model" not in caplog.text, "its hash proves the base"
    given = sampler.generate(word_prompts(6), Sampling(8, temperature=0.0), stream(0, "a"))
    blend = HiddenState().blend(experts, torch.tensor([[0.5, 0.5]], dtype=torch.float64))
    assert given.responses == blend.generate(word_prompts(6), Sampling(8, temperature=0.0), stream(0, "a")).responses
    assert bench.ledger.totals()["optimiser_steps"] == 0
    with pytest.raises(UserError, match=r"names 1 adapters for 2 objectives; .*even, odd"):
        Emorl(HiddenState(), None, experts=paths[:1]).fit(bench)
    with pytest.raises(UserError, match=r"absent has no adapter_config\.json"):
        Emorl(HiddenState(), None, experts=["absent"])


def refused(place: Path, bank: AdapterBank, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        read_adapters([str(place)], bank.backbone, KEY)
    assert str(caught.value).startswith(KEY)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"use_dora": True}, "use_dora=True, which is more than an update of low rank"),
        ({"lora_bias": True}, "lora_bias=True"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save="),
        ({"init_lora_weights": "pissa"}, "init_lora_weights=pissa, which changes the base"),
    ],
)
def test_what_is_more_than_a_low_rank_update_is_refused(tmp_path: Path, settings: dict[str, Any], says: str) -> None:
    trained_by_peft(tmp_path, "llama", r=2, **settings)
    (tmp_path / CONFIG).write_text(json.dumps(json.loads((tmp_path / CONFIG).read_text()) | settings))
    refused(tmp_path, make_bank("llama"), says)


def test_other_bases_and_damage_are_refused(tmp_path: Path) -> None:
    bank = make_bank("llama")
    shaken(make_bank("llama"), 1).save(tmp_path)
    read_adapters([str(tmp_path)], bank.backbone, KEY)
    tensors, config = load_file(tmp_path / WEIGHTS), (tmp_path / CONFIG).read_text()
    refused(tmp_path, make_bank("gpt2"), "was trained on another base model")
    first = next(iter(tensors))

    def with_tensors(says: str, **changed: torch.Tensor) -> None:
        kept = {name: tensor for name, tensor in {**tensors, **changed}.items() if len(tensor)}
        save_file(kept, tmp_path / WEIGHTS)
        refused(tmp_path, bank, says)

    with_tensors("are not finite", **{first: tensors[first] * torch.nan})
    with_tensors("one factor of .* without the other", **{first: torch.zeros(0)})
    with_tensors("belongs to another base model", **{first: torch.zeros(4, 7)})
    with_tensors("which is no factor of LoRA", **{"base_model.model.lm_head.weight": torch.zeros(2)})
    with_tensors("changes the module 'x'", **{"base_model.model.x.lora_A.weight": torch.zeros(2, 2)})
    save_file(tensors, tmp_path / WEIGHTS)
    for content, says in (
        ("{", "cannot be read"),
        ("[]", "is not that of a LoRA adapter"),
        (json.dumps({"peft_type": "IA3"}), "is not that of a LoRA adapter"),
        (json.dumps(json.loads(config) | {"lora_alpha": "8"}), "has '8' as a rank or alpha"),
        (json.dumps(json.loads(config) | {"rank_pattern": {"(": 2}}), "rank_pattern or alpha_pattern .* is broken"),
    ):
        (tmp_path / CONFIG).write_text(content)
        refused(tmp_path, bank, says)
    (tmp_path / CONFIG).write_text(config)
    (tmp_path / WEIGHTS).write_bytes((tmp_path / WEIGHTS).read_bytes()[:200])
    refused(tmp_path, bank, "cannot be read")


def test_a_run_is_named_by_the_content_of_its_adapters(tmp_path: Path) -> None:
    def named(place: Path, name: str = "experts") -> str:
        config = {"names": dict.fromkeys(("task", "model", "method"), "a"), "method": {name: [str(place)]}}
        return identity(config, "f")

    bank = make_bank("gpt2")
    for name, seed in (("one", 1), ("other", 2)):
        shaken(bank, seed).save(tmp_path / name)
    shutil.copytree(tmp_path / "one", tmp_path / "same")
    assert named(tmp_path / "one") == named(tmp_path / "same") != named(tmp_path / "other")
    config = {"names": dict.fromkeys(("task", "model", "method"), "a"), "method": {"experts": str(tmp_path / "one")}}
    assert identity(config, "f") == named(tmp_path / "one"), "one text with commas is a list"
    assert named(tmp_path / "one", "weights") != named(tmp_path / "same", "weights")
