"""Parts of the GPU kit without a GPU, each beside something that it must find, and something that it must refuse."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from benchmarks.gpu import attention, choices, memory, quantised, several, vllm_side
from benchmarks.gpu.kit import Kit, Settings
from benchmarks.gpu.presets import EXPERIMENTS, built, presets
from benchmarks.memory_table import planned
from emorl_bench.config import schema
from emorl_bench.decoding.decode import Decoder

CPU = torch.device("cpu")
ABOUT = {"card": "no", "versions": {}, "commit": None, "uncommitted_changes": True, "python": "3", "started": "now"}


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    made = Kit(Settings(10.0, tmp_path, tmp_path / "runs", CPU, True), ABOUT)
    made._until = time.monotonic() + 600
    return made


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
    assert switch.exists
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


def test_a_switch_that_does_not_exist_is_left_out_and_verdicts_follow_ratios(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choices, "SWITCHES", (choices.Switch("hardware.warp", "warp", {"1": 1, "2": 2}),))
    choices.measure_choices(kit)
    assert [(entry["what"], entry["why"]) for entry in kit.skipped] == [
        ("hardware.warp", "there is no such switch at this commit")
    ]
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


def test_without_the_key_or_the_package_4_bits_are_left_out(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantised, "KEY", "no_such_key")
    quantised.measure_quantised(kit)
    monkeypatch.setattr(quantised, "KEY", "path")
    monkeypatch.setattr(quantised, "PACKAGE", "no_such_package")
    quantised.measure_quantised(kit)
    assert [entry["why"] for entry in kit.skipped] == [
        "the key model.no_such_key does not exist at this commit",
        "no_such_package is not installed",
    ]


# vLLM -----------------------------------------------------------------------------------------

ENGINE = """
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

class SamplingParams:
    def __init__(self, *, temperature, max_tokens, ignore_eos, detokenize):
        assert (temperature, ignore_eos, detokenize) == (0.0, True, False)
        self.max_tokens = max_tokens

class LLM:
    def __init__(self, *, model, dtype, skip_tokenizer_init, max_model_len, gpu_memory_utilization,
                 enable_prefix_caching, enable_lora, max_loras, max_lora_rank, seed):
        assert skip_tokenizer_init and enable_lora and not enable_prefix_caching and max_lora_rank >= 8
        self.base = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype))
        self.longest, self.model = max_model_len, None

    def generate(self, asked, sampling, *, lora_request, use_tqdm):
        if self.model is None:
            self.model = READ
        return [self.one(prompt["prompt_token_ids"], sampling.max_tokens) for prompt in asked]

    def one(self, ids, count):
        assert len(ids) + count <= self.longest
        out = torch.tensor([ids])
        for _ in range(count):
            out = torch.cat([out, self.model(out).logits[:, -1:].argmax(-1)], 1)
        tokens = out[0, len(ids):].tolist()
        return type("Output", (), {"outputs": [type("Completion", (), {"token_ids": tokens})]})
"""
REQUEST = """
class LoRARequest:
    def __init__(self, name, number, path):
        self.path = path
"""


def stand_in(directory: Path, read: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package ``vllm`` for the engine's process: plain transformers and PEFT, without a cache."""
    (directory / "vllm" / "lora").mkdir(parents=True)
    (directory / "vllm" / "__init__.py").write_text(ENGINE.replace("READ", read))
    (directory / "vllm" / "lora" / "__init__.py").touch()
    (directory / "vllm" / "lora" / "request.py").write_text(REQUEST)
    monkeypatch.setenv("PYTHONPATH", f"{directory}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")


@pytest.mark.parametrize(
    ("read", "same"),
    [("PeftModel.from_pretrained(self.base, lora_request.path)", True), ("self.base", False)],
    ids=["with the adapter", "without it"],
)
def test_vllm_is_asked_for_the_same_work_with_the_same_adapter(
    read: str, same: bool, kit: Kit, in_float32: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stand_in(tmp_path / "packages", read, monkeypatch)
    vllm_side.compare(kit, tmp_path)
    number = kit.numbers["vllm/smollm2_135m/4_rows"]
    assert (number.facts["same_answer"] == 1.0) is same
    assert number.ratio is not None
    assert number.ratio > 0
    assert len(number.raw) == kit.settings.repeats  # the first batch is not counted


def test_an_engine_that_breaks_is_a_failure_of_its_part_alone(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stand_in(tmp_path / "packages", "1 / 0", monkeypatch)
    monkeypatch.setattr(vllm_side, "find_spec", lambda name: name)
    vllm_side.measure_vllm(kit)
    assert [failure["error"] for failure in kit.failures] == ["AssertionError: vLLM ended with 1: vllm.txt"]
    assert "ZeroDivisionError" in (tmp_path / "log.txt").read_text()
    assert kit.steps == {}


# several GPUs ---------------------------------------------------------------------------------


def test_a_sweep_has_two_jobs_a_gpu_and_its_speedup_is_per_job(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[list[str], list[str], int]] = []

    def run(_: Kit, command: Any, gpus: Any, name: str, jobs: int) -> several.Done:
        asked.append((list(command), list(gpus), jobs))
        return several.Done(30.0 if name == "sweep_one" else 40.0, [], len(gpus))

    monkeypatch.setattr(several, "run", run)
    several.sweep(kit, ["0", "1", "2", "3"])
    assert [(gpus, jobs) for _, gpus, jobs in asked] == [(["0", "1", "2", "3"], 8), (["0"], 2)]
    assert "seed=0,1,2,3,4,5,6,7" in asked[0][0]
    number = kit.numbers["several/sweep"]
    assert number.ratio == pytest.approx((8 / 40) / (2 / 30))
    assert number.facts["jobs_per_gpu"] == 2
    assert kit.failures == []


def test_a_gpu_that_a_sweep_leaves_idle_is_a_failure(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(several, "run", lambda *_: several.Done(30.0, [], 1))
    several.sweep(kit, ["0", "1"])
    assert [failure["error"] for failure in kit.failures] == ["it used 1 of 2"]


def test_one_run_goes_in_one_process_in_several_and_on_a_shared_base(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, tuple[list[str], list[str]]] = {}

    def run(_: Kit, command: Any, gpus: Any, name: str, jobs: int) -> several.Done:
        asked[name] = (list(command), list(gpus))
        return several.Done(10.0, [SimpleNamespace(name=name)], None)  # type: ignore[list-item]

    monkeypatch.setattr(several, "run", run)
    monkeypatch.setattr(several, "mean_reward", lambda one: {"shared_base": 0.4}.get(one.name, 0.5))
    several.processes(kit, ["0", "1"])
    assert {name: gpus for name, (_, gpus) in asked.items()} == {
        "one_process": ["0"],
        "data_parallel": ["0", "1"],
        "shared_base": ["0", "1"],
    }
    assert ["hardware.shard_base=true" in command for command, _ in asked.values()] == [False, False, True]
    assert all("budget.training.batch_prompts=8" in command for command, _ in asked.values())
    assert kit.numbers["several/shared_base"].facts["reward_less_one_process"] == pytest.approx(-0.1)


def test_one_gpu_or_none_is_a_reason(kit: Kit) -> None:
    several.measure_several(kit)
    assert [entry["why"] for entry in kit.skipped] == ["torch sees 0 GPU(s)"]


def test_a_command_that_finishes_no_job_is_an_error(kit: Kit) -> None:
    with pytest.raises(AssertionError, match="quiet: ended with 0, 0 of 1 runs are done"):
        several.run(kit, ["true"], ["0"], "quiet", 1)
    kit._until = time.monotonic()
    with pytest.raises(AssertionError, match="slow: was stopped, 0 of 1 runs are done"):
        several.run(kit, [sys.executable, "-c", "import time; time.sleep(60)"], ["0"], "slow", 1)


def test_a_command_sees_its_gpus_alone() -> None:
    assert several.environment(["2", "5"])["CUDA_VISIBLE_DEVICES"] == "2,5"
