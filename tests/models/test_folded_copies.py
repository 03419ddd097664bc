"""What is planned for the copy of its layers that a decode of one policy adds the adapter to."""

from __future__ import annotations

import pytest
from conftest import make_bank

from emorl_bench.decoding.fused.engine import FOLD_ONE_BYTES
from emorl_bench.runner import memory_plan


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "t5"])
def test_what_a_decode_copies_is_what_its_products_hold(architecture: str) -> None:
    bank = make_bank(architecture)
    shape, fused = bank.backbone.shape, bank.decoder.fused
    assert shape is not None
    assert fused is not None
    weights = [projection.weight.numel() for layer in fused.projections for projection in layer.values()]
    assert shape.stepped == sum(weights)
    assert shape.widest == max(weights)


def test_a_decode_of_a_small_model_copies_its_layers() -> None:
    """SmolLM2-135M has 106 million weights in its layers, so a copy takes 0.20 GiB; Qwen2.5-0.5B is too large."""
    shapes = {
        name: memory_plan.shape_of(name)
        for name in ("HuggingFaceTB/SmolLM2-135M-Instruct", "Qwen/Qwen2.5-0.5B-Instruct")
    }
    small, large = shapes.values()
    assert small is not None
    assert large is not None
    layers = 30 * (2 * 576 * 576 + 2 * 576 * 192 + 3 * 576 * 1536)
    assert memory_plan.folded(small, 2) == 2 * layers + 3 * 4 * 2 * 576 * 1536
    assert memory_plan.folded(large, 2) == 0
    assert memory_plan.FOLDED == FOLD_ONE_BYTES
