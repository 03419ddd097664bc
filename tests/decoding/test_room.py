"""A decode is cut so that its keys and values fit into half of what is free, before anything is decoded."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import make_bank, shaken, word_prompts

from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Sampling
from emorl_bench.decoding import room
from emorl_bench.decoding.fused.rows import Rows

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
