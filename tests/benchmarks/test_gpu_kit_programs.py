"""Other programs that the GPU kit runs, without a GPU: vLLM's side, and sweeps and runs on several devices."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.gpu_kit import new_kit

from benchmarks.gpu import several, vllm_side
from benchmarks.gpu.kit import Kit, Settings


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    return new_kit(tmp_path)


@pytest.fixture
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Settings, "dtype", torch.float32)


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
