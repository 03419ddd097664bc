"""The planned peak of memory: printed before anything is loaded, and below 24 GiB for the presets of real models."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from conftest import word_tokenizer
from hydra._internal.utils import get_args_parser
from support.composing import composed
from support.quantised import wide_llama

from emorl_bench.config import schema
from emorl_bench.config.checks import check
from emorl_bench.config.compose import plain
from emorl_bench.core.errors import UserError
from emorl_bench.launch import plugins
from emorl_bench.models.loading import ModelSource, load_backbone
from emorl_bench.models.lora import AdapterSettings
from emorl_bench.runner import memory_plan
from emorl_bench.runner.dry_run import dry_run
from emorl_bench.runner.memory_plan import learners_of, plan, shape_of, weights_of

GIB = 1 << 30
LLAMA = ("model=llama2_7b_4bit", "hardware=cuda")
PRESETS = [
    ("experiment=cory_gsm8k",),
    ("experiment=cory_gsm8k", "hardware.block_bytes=67108864"),
    ("experiment=cory_gsm8k", "model=llama2_7b_4bit"),
    ("experiment=cory_gsm8k", "model=llama2_7b_4bit", "model.quantisation=8bit", "method=weighted_ppo"),
    ("experiment=offline_pair", "method=emorl", "model.path=HuggingFaceTB/SmolLM2-135M-Instruct"),
    ("experiment=emorl_pair", "method=emorl"),
]


def settings(*overrides: str) -> dict[str, object]:
    return plain(composed(*overrides))


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    schema.register()
    plugins.register()
    dry_run(get_args_parser().parse_args([*arguments, "tracker=local"]))
    return capsys.readouterr().out


def test_a_dry_run_prints_one_line_for_each_peak(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = shown(capsys, "-m", "method=emorl,weighted_ppo", "budget=smoke", "hardware=cuda")
    assert "Planned peak of memory of each run" in text
    assert "  tiny_t5 emorl\n    about " in text
    assert "3 learners side by side where memory allows" in text
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "mamba"}')
    (tmp_path / "model" / "model.safetensors").touch()
    assert "not known" in shown(capsys, "method=base", "model=causal", f"model.path={tmp_path / 'model'}")


@pytest.mark.parametrize("overrides", PRESETS, ids=lambda overrides: " ".join(overrides)[:60])
def test_presets_fit_a_card_of_24_gib(overrides: tuple[str, ...], tmp_path: Path) -> None:
    found = plan(settings(*overrides, "hardware=cuda", f"task.data_dir={tmp_path}"))
    assert found is not None
    assert 2 * GIB < found.peak < 24 * GIB


@pytest.mark.parametrize("experiment", ["cory_gsm8k", "offline_pair", "emorl_pair"])
def test_a_dry_run_of_a_preset_shows_a_peak_below_24_gib(
    experiment: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As its command line stands in docs/presets.md, with its own method, and ``hardware=cuda``."""
    monkeypatch.chdir(tmp_path)
    text = shown(capsys, f"experiment={experiment}", f"task.data_dir={tmp_path}", "hardware=cuda")
    peaks = [float(size) for size in re.findall(r"about ([\d.]+) GiB: weights", text)]
    assert len(peaks) == 1
    assert 2 < peaks[0] < 24


def test_a_plan_grows_with_what_it_is_made_of() -> None:
    base = ("model=qwen_0_5b", "hardware=cuda")
    first = plan(settings(*base))
    assert first is not None
    assert first.peak == first.weights + first.adapters + first.scorers + max(first.training, first.decoding)
    for change in ("hardware.dtype=float32", "sampling.max_new_tokens=200", "budget.training.batch_prompts=32"):
        larger = plan(settings(*base, change))
        assert larger is not None
        assert larger.training > 1.4 * first.training, change
    for change in ("update.micro_batch=8", "model.gradient_checkpointing=true"):
        smaller = plan(settings(*base, change))
        assert smaller is not None
        assert smaller.training < 0.6 * first.training, change


@pytest.mark.parametrize(
    ("auto", "gpu", "same"),
    [("auto", True, "bfloat16"), ("auto", False, "float32"), ("cpu", True, "float32"), ("cuda", True, "bfloat16")],
)
def test_auto_counts_as_what_it_will_be(auto: str, gpu: bool, same: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_plan, "may_have_gpu", lambda: gpu)
    named = plan(settings("model=qwen_0_5b", f"hardware.device={auto}", f"hardware.dtype={same}"))
    assert plan(settings("model=qwen_0_5b", f"hardware.device={auto}", "hardware.dtype=auto")) == named


@pytest.mark.parametrize(("kind", "each"), [("4bit", 0.5625), ("8bit", 1)])
def test_packed_layers_take_a_share_of_the_plain_ones(kind: str, each: float) -> None:
    """Llama-2-7b has 6,738,149,376 weights, 262,144,000 of them in its tables; its largest layer is 4096 by 11008."""
    packed, plain_ = (plan(settings(*LLAMA, f"model.quantisation={how}")) for how in (kind, "null"))
    assert packed is not None
    assert plain_ is not None
    assert plain_.weights == 2 * 6_738_149_376
    in_tables = 262_144_000
    assert packed.weights == each * (6_738_149_376 - in_tables) + 2 * (in_tables + 4096 * 11008)
    assert packed.training == plain_.training


def test_a_packed_base_is_planned_as_large_as_it_is(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes, an extra, is not installed")
    wide_llama().save_pretrained(tmp_path)
    word_tokenizer().save_pretrained(tmp_path)
    shape = shape_of(str(tmp_path))
    assert shape is not None
    for kind in ("4bit", "8bit"):
        source = ModelSource("causal", str(tmp_path), max_prompt_tokens=32, quantisation=kind)
        model = load_backbone(source, AdapterSettings(), torch.device("cpu"), torch.bfloat16).model
        unpacked = 2 * shape.width * shape.feed
        held = sum(parameter.nbytes for parameter in model.parameters())
        assert weights_of(shape, 2, kind) - unpacked == pytest.approx(held, rel=0.08)  # rows of 64 have many scales


def test_agents_sample_in_turn_and_experts_side_by_side() -> None:
    agents, one = (plan(settings(*LLAMA, f"method={method}")) for method in ("cory", "weighted_ppo"))
    experts = plan(settings(*LLAMA, "method=emorl"))
    assert agents is not None
    assert one is not None
    assert experts is not None
    assert agents.decoding == one.decoding
    assert experts.decoding > 2.5 * one.decoding


def test_tf32_takes_the_memory_of_float32() -> None:
    tf32, float32 = (plan(settings("hardware=cuda", f"hardware.dtype={dtype}")) for dtype in ("tf32", "float32"))
    assert tf32 == float32 != plan(settings("hardware=cuda"))


def test_learners_are_experts_agents_or_one_policy() -> None:
    for method, learners in (("emorl", 3), ("cory", 2), ("weighted_ppo", 1)):
        assert learners_of(settings(f"method={method}")) == learners


@pytest.mark.parametrize("value", ["0", "-5", "1000"])
def test_a_block_that_holds_no_position_is_refused_in_one_line(value: str) -> None:
    with pytest.raises(UserError, match=rf"^hardware\.block_bytes={value}: give 1048576 \(1 MiB\) or more, or null"):
        check(settings(f"hardware.block_bytes={value}"))
