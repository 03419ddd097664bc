"""A whole run with rollouts from an engine of vLLM's interface, from the command to its summary."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import standin_vllm
from support.composing import composed

from emorl_bench.config import rollouts
from emorl_bench.runner.job import run

NAMES = {"task": "reflections", "model": "tiny_gpt2", "method": "x"}
SMALL = (
    "model=tiny_gpt2", "hardware=cpu", "hardware.rollouts=vllm", "tracker=local", "update=grpo", "budget=smoke",
    "budget.prompts=60", "budget.ladder=[1.0]", "budget.select_prompts=4", "budget.report_prompts=4",
    "budget.training.batch_prompts=4", "budget.training.samples_per_prompt=2", "preferences.divisions=1",
    "sampling.max_new_tokens=32",
)  # fmt: skip


@pytest.mark.parametrize("method", ["weighted_ppo", "param_merge"])
def test_a_run_ends_with_a_summary(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    standin_vllm.install(monkeypatch)
    monkeypatch.setattr(rollouts, "WITH_ADAPTERS", (*rollouts.WITH_ADAPTERS, "gpt2"))  # the embedded model
    chosen = (*SMALL, f"method={method}", f"runs_dir={tmp_path}")
    run(composed(*chosen), chosen, {**NAMES, "method": method})
    (summary,) = tmp_path.glob("reflections/*/*/*/summary.json")
    found = json.loads(summary.read_text())
    assert 0 <= found["mean_reward"] <= 1
    rows = [json.loads(line) for line in (summary.parent / "metrics.jsonl").read_text().splitlines()]
    gaps = [value for row in rows for key, value in row.items() if key.endswith("/sampler_mismatch")]
    assert gaps
    assert min(gaps) > 0
