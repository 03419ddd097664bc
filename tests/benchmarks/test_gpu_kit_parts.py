"""Parts of the GPU kit without a GPU, each beside something that it must find, and something that it must refuse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.gpu_kit import CPU, new_kit
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from benchmarks.gpu import attention, choices, memory, quantised
from benchmarks.gpu.kit import Kit, Settings
from benchmarks.gpu.presets import EXPERIMENTS, built, presets
from benchmarks.memory_table import planned
from emorl_bench.config import schema
from emorl_bench.decoding.decode import Decoder


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    return new_kit(tmp_path)


@pytest.fixture
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Settings, "dtype", torch.float32)


# memory ---------------------------------------------------------------------------------------


def test_a_watch_counts_what_is_held_and_the_most_that_was() -> None:
    with memory.watching(CPU) as watch:
        kept = torch.zeros(1000)
        torch.zeros(5000)  # given back at once
        assert watch.now() == kept.nbytes
        assert watch.peak_since() == 24_000
        assert watch.peak_since() == kept.nbytes
        weight = torch.ones(1000, requires_grad=True)
        loss = (kept + 1).mul(weight).exp().sum()  # keeps kept + 1 and the exponential; the product is given back
        assert watch.now() == pytest.approx(4 * 4000, abs=64)
        loss.backward()  # type: ignore[no-untyped-call]
    assert watch.peak_since() >= 5 * 4000


def test_presets_are_the_experiments_and_every_model_with_the_plan_of_the_table() -> None:
    from hydra import initialize_config_dir

    from emorl_bench.config.compose import conf_dir

    found = {preset.name: preset for preset in presets()}
    assert set(EXPERIMENTS) < set(found)
    assert {"t5_base", "gpt2_large", "smollm2_360m", "qwen_0_5b", "llama_1b", "tiny_t5"} <= set(found)
    assert {preset.kind for preset in found.values()} == {"t5", "gpt2", "qwen2", "llama"}
    schema.register()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        assert found["llama_1b"].plan == planned("llama_1b", "hardware=cuda")


def test_a_preset_is_built_with_its_rows_lengths_and_learners(kit: Kit, tmp_path: Path) -> None:
    (preset,) = (p for p in memory.chosen(kit, tmp_path) if p.name == "emorl_pair")
    made = built(preset, CPU)
    rollouts = made.rollout()
    assert len(rollouts) == 3  # one expert for each objective
    assert {rollout.response_ids_BT.shape for rollout in rollouts} == {
        (4, 6)
    }  # 2 prompts of 2 samples; none ends early
    backbone = made.policies[0].backbone  # type: ignore[attr-defined]
    assert {len(backbone.prompt_ids(e.context)) for e in made.prompts()} == {12}
    assert backbone.dtype == torch.bfloat16
    before = [p.clone() for policy in made.policies for p in policy.parameters()]  # type: ignore[attr-defined]
    assert made.update(rollouts, joint=False) is False
    after = [p for policy in made.policies for p in policy.parameters()]  # type: ignore[attr-defined]
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_cory_s_observer_reads_a_prompt_for_each_answer(kit: Kit, tmp_path: Path) -> None:
    (preset,) = (p for p in memory.chosen(kit, tmp_path) if p.name == "cory_gsm8k")
    made = built(preset, CPU)
    pioneer, observer = made.rollout()
    assert [len({e.id for e in rollout.examples}) for rollout in (pioneer, observer)] == [2, 4]
    assert pioneer.response_ids_BT.shape == observer.response_ids_BT.shape == (4, 6)


# attention ------------------------------------------------------------------------------------


def test_attention_that_sees_padding_is_a_failure(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    def unmasked(module: Any, query: Any, key: Any, value: Any, mask: Any, **given: Any) -> Any:
        groups = query.shape[1] // key.shape[1]
        key, value = (t.repeat_interleave(groups, dim=1) for t in (key, value))
        causal = query.shape[2] == key.shape[2]
        return scaled_dot_product_attention(query, key, value, is_causal=causal).transpose(1, 2).contiguous(), None

    AttentionInterface.register("unmasked", unmasked)
    monkeypatch.setattr(attention, "available", lambda kit, dtype: ["eager", "sdpa", "unmasked"])
    attention.compare(kit, torch.float32, attention.BOUNDS[torch.float32])
    assert [failure["what"] for failure in kit.failures] == ["unmasked in float32"]
    assert kit.numbers["attention/float32/sdpa"].facts["largest_gap_nats"] < 1e-4
    assert kit.numbers["attention/float32/unmasked"].facts["mean_gap_nats"] > 1e-3
    assert kit.numbers["attention/float32/eager"].ratio == 1.0


# choices --------------------------------------------------------------------------------------


def test_a_switch_is_timed_at_every_value_and_put_back(kit: Kit, in_float32: None) -> None:
    switch, setting = choices.Switch("hardware.max_rows", "max_rows", {"4096": 4096, "2": 2}), choices.new_setting(kit)
    choices.compare(kit, switch, choices.sized(setting, 4))
    assert setting.bank.decoder.max_rows == 4096
    (number,) = kit.numbers.values()
    assert number.what.endswith("4 rows, hardware.max_rows=2")
    assert number.ratio is not None
    assert choices.verdicts({"choices/max_rows/4_rows/2": number.ratio})[0]["choice"] == "max_rows=2"


def test_a_value_that_changes_answers_is_refused(kit: Kit, in_float32: None, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Decoder.decode_policies

    def wrong(self: Decoder, *given: Any) -> Any:
        rollout = real(self, *given)
        return replace(rollout, response_ids_BT=rollout.response_ids_BT + int(self.max_rows == 2))

    monkeypatch.setattr(Decoder, "decode_policies", wrong)
    switch, setting = choices.Switch("hardware.max_rows", "max_rows", {"4096": 4096, "2": 2}), choices.new_setting(kit)
    with pytest.raises(AssertionError, match=r"hardware\.max_rows=2: 0% of the answers are those under 4096"):
        choices.compare(kit, switch, choices.sized(setting, 4))
    assert setting.bank.decoder.max_rows == 4096


def test_verdicts_follow_ratios() -> None:
    ratios = {
        "training/three_experts/24_rows/rollout": 1.4,
        "training/three_experts/64_rows/update": 0.9,
        "choices/warp/24_rows/2": 1.01,
        "decoding/a/24_rows/one_policy": 3.0,  # decides nothing
        "training/profile/update": None,
    }
    assert [(row["choice"], row["rows"], row["follows"]) for row in choices.verdicts(ratios)] == [
        ("rollout of three experts together", 24, "on"),
        ("update of three experts together", 64, "off"),
        ("warp=2", 24, "makes no difference"),
    ]


# 4 bits ---------------------------------------------------------------------------------------


def test_bases_are_read_as_a_run_reads_them_and_both_kinds_of_work_are_timed(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where the package is absent both sides are in bfloat16."""
    monkeypatch.setattr(quantised, "SIDES", {"bfloat16": None, "4bit": None})
    quantised.compare(kit, tmp_path)
    assert set(kit.numbers) == {"quantised/decode", "quantised/train"}
    assert all(number.ratio is not None and number.ratio > 0 for number in kit.numbers.values())


def test_without_the_package_4_bits_are_left_out(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantised, "PACKAGE", "no_such_package")
    quantised.measure_quantised(kit)
    assert [entry["why"] for entry in kit.skipped] == ["no_such_package is not installed"]
