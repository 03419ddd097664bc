"""A decode is cut so that its keys and values fit into half of what is free, before anything is decoded."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import make_bank, shaken, word_prompts

from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Sampling
from emorl_bench.decoding import room
from emorl_bench.decoding.fused.rows import Rows
from emorl_bench.decoding.stepping import Start
from emorl_bench.decoding.stepping import groups as groups_of
from emorl_bench.models.causal import CausalBackbone

PROMPTS, SAMPLED = word_prompts(8), Sampling(20, temperature=1.0, samples_per_prompt=3)


def decoded(architecture: str, free: int | None, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[int], int]:
    """Answers, how many prompts each part has read, and the most bytes of keys and values that it has held."""
    bank = make_bank(architecture, dtype=torch.float64)
    parts: list[int] = []
    held = 0
    grow = Rows.move

    def move(self: Rows, moves: Any) -> None:
        nonlocal held
        grow(self, moves)
        own = sum(cache.tensor.nbytes for cache in (*self.keys, *self.values))
        held = max(held, own + self.prompts.bytes)

    monkeypatch.setattr(Rows, "move", move)
    only = type(bank.decoder)._decode

    def counted(self: Any, plan: Any, part: Any, *rest: Any) -> Any:
        parts.append(len(part.prompts))
        return only(self, plan, part, *rest)

    monkeypatch.setattr(type(bank.decoder), "_decode", counted)
    if free is not None:
        monkeypatch.setattr(room, "free_bytes", lambda device: free)
    rollout = shaken(bank, 1).generate(PROMPTS, SAMPLED, stream(0))
    monkeypatch.undo()
    return rollout, parts, held


def test_parts_fit_into_half_of_what_is_free_and_say_the_same(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts, needed = decoded(architecture, None, monkeypatch)
    assert parts == [8]
    said, parts, held = decoded(architecture, needed, monkeypatch)
    assert said.responses == whole.responses
    assert len(parts) > 1
    assert sum(parts) == 8
    assert 0 < held <= needed // 2


def test_one_row_is_decoded_however_little_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    assert decoded("gpt2", 1, monkeypatch)[1] == [1] * 8


def test_a_model_of_unknown_sizes_keeps_to_the_row_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    bank = make_bank("gpt2", max_rows=6)
    bank.backbone.shape = None
    monkeypatch.setattr(room, "free_bytes", lambda device: 1)
    read: list[int] = []
    inner = bank.decoder.fused.read
    monkeypatch.setattr(bank.decoder.fused, "read", lambda *a: (read.append(len(a[0])), inner(*a))[1])
    bank.new_policy("p").generate(PROMPTS, SAMPLED, stream(0))
    assert read == [2] * 4


def by_modules(free: int | None, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[int], int]:
    """The same as `decoded` through transformers' own modules: their cache has a copy of the prompt for each output."""
    bank = make_bank("llama", dtype=torch.float64)
    bank.decoder.fused = None
    parts: list[int] = []
    held = 0
    start, step = CausalBackbone.start, CausalBackbone.step

    def started(self: Any, prompts: Any, adapters: int) -> Any:
        parts.append(len(prompts))
        return start(self, prompts, adapters)

    def stepped(self: Any, state: Any, tokens_R: Any) -> Any:
        nonlocal held
        hidden = step(self, state, tokens_R)
        held = max(held, sum(layer.keys.nbytes + layer.values.nbytes for layer in state.cache.layers))
        return hidden

    monkeypatch.setattr(CausalBackbone, "start", started)
    monkeypatch.setattr(CausalBackbone, "step", stepped)
    if free is not None:
        monkeypatch.setattr(room, "free_bytes", lambda device: free)
    rollout = shaken(bank, 1).generate(PROMPTS, Sampling(20, temperature=1.0, samples_per_prompt=12), stream(0))
    monkeypatch.undo()
    return rollout, parts, held


def test_copies_of_prompts_are_planned_where_modules_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parts, needed = by_modules(None, monkeypatch)
    assert parts == [8]
    said, parts, held = by_modules(needed, monkeypatch)
    assert said.responses == whole.responses
    assert len(parts) > 1
    assert sum(parts) == 8
    assert 0 < held <= needed // 2


@pytest.mark.parametrize("architecture", ["t5", "gpt2", "llama"])
def test_prompts_are_read_in_passes_that_fit_the_budget(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bank, read = make_bank(architecture, dtype=torch.float64), []
    assert bank.decoder.fused is not None
    inner = bank.decoder.fused.read
    monkeypatch.setattr(bank.decoder.fused, "read", lambda *a: (read.append(len(a[0])), inner(*a))[1])
    policy, prompts = shaken(bank, 1), word_prompts(20)
    whole = policy.generate(prompts, SAMPLED, stream(0))
    assert read == [10, 10]  # a CPU reads eight at a time, or a few more
    longest = max(len(bank.backbone.prompt_ids(e.context)) for e in prompts)
    assert bank.backbone.shape is not None
    bank.decoder.memory.block_bytes = 3 * 8 * bank.backbone.shape.passing * longest  # three prompts in float64
    read.clear()
    assert policy.generate(prompts, SAMPLED, stream(0)).responses == whole.responses
    assert max(read) == 3
    assert sum(read) == 20
    bank.decoder.memory.block_bytes = 1
    read.clear()
    assert policy.generate(prompts, SAMPLED, stream(0)).responses == whole.responses
    assert read == [1] * 20


def test_a_gpu_reads_as_many_prompts_as_the_budget_allows() -> None:
    bank = make_bank("llama")
    start = Start([[4] * 10] * 100, (), None, 1)
    gpu = SimpleNamespace(shape=bank.backbone.shape, dtype=torch.bfloat16, device=torch.device("cuda"))
    assert groups_of(gpu, start) == 1
    assert groups_of(bank.backbone, start) == 12
    row = 2 * 10 * bank.backbone.shape.passing
    assert groups_of(gpu, replace(start, block_bytes=30 * row)) == 4
    assert groups_of(gpu, replace(start, block_bytes=1)) == 100
