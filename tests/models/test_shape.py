"""Sizes from a configuration against the models that transformers makes of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import make_bank, word_prompts
from support.allocations import Allocations
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BertConfig,
    GPT2Config,
    LlamaConfig,
    Qwen2Config,
    T5Config,
)

from emorl_bench.core.types import Rollout
from emorl_bench.models.backbone import Backbone
from emorl_bench.models.lora import inject
from emorl_bench.models.shape import GROWTH, Shape, tokens_within
from emorl_bench.runner.memory_plan import known_shapes


def on_meta(config: dict[str, Any]) -> Any:
    """The model without its numbers."""
    with torch.device("meta"):
        if "d_kv" in config:
            return AutoModelForSeq2SeqLM.from_config(T5Config(decoder_start_token_id=0, **config))
        kind = GPT2Config if "n_embd" in config else LlamaConfig
        return AutoModelForCausalLM.from_config(kind(**config))


@pytest.mark.parametrize("name", sorted(known_shapes()))
def test_weights_and_adapters_are_those_of_the_model(name: str) -> None:
    model = on_meta(dict(known_shapes()[name]))
    shape = Shape.of(model.config.to_dict())
    assert shape == Shape.of(known_shapes()[name])
    assert shape.parameters == pytest.approx(sum(p.numel() for p in model.parameters()), rel=0.01)
    layers = inject(model, model.get_output_embeddings(), None)
    factors = sum(8 * (layer.in_features + layer.out_features) for layer in layers.values())
    assert shape.adapter_parameters(8) == pytest.approx(factors, rel=0.1)


def test_an_unknown_architecture_has_no_shape() -> None:
    assert Shape.of({"model_type": "mamba", "hidden_size": 8}) is None


def kept_bytes(backbone: Backbone, rollout: Rollout, policy: Any) -> int:
    """Bytes of the distinct tensors that one pass saves for its backward pass, weights left out."""
    owned = [*backbone.model.parameters(), *policy.parameters()]
    weights = {p.untyped_storage().data_ptr() for p in owned}
    seen: dict[int, int] = {}
    held = []

    def pack(x: torch.Tensor) -> torch.Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = storage.nbytes()
            held.append(x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        policy.hidden(rollout)
    return sum(seen.values())


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "t5", "qwen"])
def test_a_pass_keeps_about_what_is_planned(architecture: str) -> None:
    bank = make_bank(architecture, dtype=torch.bfloat16, rank=1)
    rows, answer = 6, 24
    examples = tuple(word_prompts(rows))
    ids_BT, mask_BT = torch.randint(4, 40, (rows, answer)), torch.ones(rows, answer, dtype=torch.bool)
    rollout = Rollout(examples, ("",) * rows, ids_BT, mask_BT, torch.zeros(rows, answer), 1)
    longest = max(len(bank.backbone.prompt_ids(e.context)) for e in examples)
    assert bank.backbone.shape is not None
    planned = 2 * rows * bank.backbone.shape.trained(longest, answer)
    assert 0.7 < kept_bytes(bank.backbone, rollout, bank.new_policy("p")) / planned < 1.25


def test_keys_and_values_are_counted_with_their_room() -> None:
    shape = Shape.of({"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 8, "vocab_size": 40})
    assert shape is not None
    assert shape.cache(10) == GROWTH * 2 * 2 * 32 * 10


WIDE = {
    "vocab_size": 40,
    "hidden_size": 128,
    "intermediate_size": 400,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
}
READERS = {
    "llama": LlamaConfig(**WIDE),
    "qwen": Qwen2Config(**WIDE, num_key_value_heads=1),
    "gpt2": GPT2Config(vocab_size=40, n_embd=128, n_head=4, n_layer=3, n_positions=64, bos_token_id=1, eos_token_id=1),
    "bert": BertConfig(**WIDE),
    "t5": T5Config(vocab_size=40, d_model=128, d_kv=32, d_ff=400, num_layers=3, num_heads=4),
}


@pytest.mark.parametrize("name", READERS)
def test_a_pass_without_gradients_takes_no_more_than_is_planned(name: str) -> None:
    config, (rows, tokens) = READERS[name], (6, 48)
    model = AutoModel.from_config(config).eval().to(torch.bfloat16)
    model = model.encoder if name == "t5" else model
    ids_BT = torch.randint(4, 40, (rows, tokens))
    with torch.no_grad(), Allocations() as found:
        model(input_ids=ids_BT, attention_mask=torch.ones_like(ids_BT), use_cache=False)
    shape = Shape.of(config.to_dict())
    assert shape is not None
    planned = 2 * rows * tokens * shape.passing
    assert 0.4 < found.peak / planned < 1
    assert tokens_within(planned, config.to_dict(), 2) == rows * tokens
    assert tokens_within(1, config.to_dict(), 2) == 1


def test_nothing_is_known_of_the_passes_of_an_unknown_architecture() -> None:
    assert tokens_within(1 << 30, {"model_type": "mamba", "hidden_size": 8}, 4) is None
