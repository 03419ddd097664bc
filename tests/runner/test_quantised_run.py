"""A whole run on a base in 4 bits: experts, their blends and the grades; GPT-2's transposed layers are packed too."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import MemoryTracker
from support.composing import composed
from support.quantised import four_bit_codes, four_bit_values
from transformers import AutoModelForCausalLM

from emorl_bench.config.checks import check
from emorl_bench.config.compose import plain
from emorl_bench.runner.base_model import locate_model
from emorl_bench.runner.bench import Workbench, execute
from emorl_bench.runner.directory import RunDirectory

SMALL = (
    "budget=smoke",
    "budget.prompts=96",
    "budget.training={batch_prompts: 4, validate_every: 4}",
    "budget.select_prompts=4",
    "budget.report_prompts=4",
    "preferences.divisions=1",
    "hardware=cpu",
    "tracker=local",
)


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes, an extra, is not installed")
    config = plain(
        composed("model=tiny_gpt2", "model.quantisation=4bit", "method=emorl", *SMALL, f"runs_dir={tmp_path}")
    )
    check(config)
    return config | {"names": {"task": "reflections", "model": "tiny_gpt2", "method": "emorl"}}


def test_emorl_trains_and_is_graded_on_a_packed_base(settings: dict[str, Any]) -> None:
    with RunDirectory(settings, "f") as directory:
        summary = execute(settings, directory, MemoryTracker())
    points = summary["decoding"]["sampled"]["points"]
    assert len(points) == 4
    assert all(math.isfinite(point["kl"]) for point in points)
    assert summary["cost"]["optimiser_steps"] > 0
    assert {name for name, step in summary["best_step"].items() if step is not None} <= set(summary["objectives"])


def test_transposed_layers_are_packed_the_right_way_round(settings: dict[str, Any], tmp_path: Path) -> None:
    workbench = Workbench.build(settings, tmp_path, MemoryTracker())
    own = AutoModelForCausalLM.from_pretrained(locate_model(settings).directory)
    layers = workbench.decoder.backbone.layers
    assert len(layers) == 4 * own.config.n_layer
    for name, layer in layers.items():
        expected = four_bit_values(*four_bit_codes(own.get_submodule(name).weight.detach().T), torch.float32)
        found = layer.base.unpacked(torch.float32)
        assert found.shape == expected.shape
        assert (found - expected).abs().gt(1e-5).float().mean() < 0.01  # weights between two codes may go to either
