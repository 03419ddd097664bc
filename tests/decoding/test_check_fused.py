"""The check of a fused step at loading: it finds one wrong layer in bfloat16, and nothing where all are right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import SPREAD, VOCABULARY, make_bank, word_tokenizer
from support.families import FUSED, family
from transformers import LlamaConfig, LlamaForCausalLM

from emorl_bench.decoding.fused.decoder_only import FusedLlama
from emorl_bench.decoding.fused.registry import fused_model
from emorl_bench.decoding.stepping import check_fused
from emorl_bench.models.backbone import Backbone
from emorl_bench.models.causal import CausalBackbone
from emorl_bench.models.lora import AdapterSettings

LAYERS, WRONG = 12, 5


def deep(dtype: torch.dtype) -> tuple[Backbone, Any]:
    """A Llama of twelve layers with its fused step."""
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=VOCABULARY, num_hidden_layers=LAYERS, initializer_range=SPREAD, **shape)
    model = LlamaForCausalLM(config).to(dtype)
    backbone = CausalBackbone(model, word_tokenizer(), AdapterSettings(rank=4), 64)
    return backbone, fused_model(model, backbone.layers)


def no_attention(fused: Any) -> None:
    projection = fused.projections[WRONG]["o"]
    projection.weight = torch.zeros_like(projection.weight)


def no_feed_forward(fused: Any) -> None:
    projection = fused.projections[WRONG]["down"]
    projection.weight = torch.zeros_like(projection.weight)


def weights_of_the_next_layer(fused: Any) -> None:
    fused.projections[WRONG]["up"].weight = fused.projections[WRONG + 1]["up"].weight


def no_rotation(fused: Any) -> None:
    fused._rotates = lambda layer: layer != WRONG


FAULTS = (no_attention, no_feed_forward, weights_of_the_next_layer, no_rotation)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bfloat16", "float32"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_one_wrong_layer_is_found(
    fault: Callable[[Any], None], dtype: torch.dtype, capsys: pytest.CaptureFixture[str]
) -> None:
    backbone, fused = deep(dtype)
    assert check_fused(backbone, fused)
    fault(fused)
    assert not check_fused(backbone, fused)
    assert "the fused step differs" in capsys.readouterr().err


def test_one_wrong_row_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in one row of two counts in full: it is not averaged over rows."""
    backbone, fused = deep(torch.bfloat16)
    step = FusedLlama.step

    def wrong(self: Any, *arguments: Any) -> torch.Tensor:
        hidden_NRH = step(self, *arguments)
        hidden_NRH[:, 1] *= 1.15
        return hidden_NRH

    monkeypatch.setattr(FusedLlama, "step", wrong)
    assert not check_fused(backbone, fused)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_is_right_in_bfloat16_is_never_refused(seed: int) -> None:
    for build in FUSED.values():
        backbone = CausalBackbone(family(build, seed).bfloat16(), word_tokenizer(), AdapterSettings(rank=4), 64)
        fused = fused_model(backbone.model, backbone.layers)
        assert fused is not None
        assert check_fused(backbone, fused)
    for architecture in ("t5", "gpt2", "llama"):
        assert make_bank(architecture, dtype=torch.bfloat16).decoder.fused is not None
