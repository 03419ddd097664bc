"""Perplexity in blocks of a large vocabulary: the same numbers, and nothing larger than the budget."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import tiny_model, word_tokenizer
from support.allocations import Allocations
from transformers import LlamaConfig, LlamaForCausalLM

from emorl_bench.core.types import Example
from emorl_bench.scorers.fluency import Fluency

PROMPTS = [Example(str(i), " ".join(f"w{4 + (i + j) % 30}" for j in range(3 + i))) for i in range(4)]
RESPONSES = ["w5 w6", "w9", "w8 w7 w6 w5 w4", ""]
WORDS, BUDGET = 60_000, 2 << 20


def kept(path: Path, model: object) -> str:
    model.save_pretrained(path)  # type: ignore[attr-defined]
    word_tokenizer().save_pretrained(path)
    return str(path)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@pytest.mark.parametrize("form", ["log", "paper"])
def test_blocks_change_no_perplexity(tmp_path: Path, architecture: str, form: str) -> None:
    scorer = Fluency(model=kept(tmp_path / "model", tiny_model(architecture)), form=form)
    whole_B = scorer.nll(PROMPTS, RESPONSES)
    torch.testing.assert_close(scorer.within(1).nll(PROMPTS, RESPONSES), whole_B, atol=1e-6, rtol=1e-6)


def test_logits_that_are_scaled_after_the_head_are_taken_as_the_model_gives_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = Fluency(model=kept(tmp_path / "model", tiny_model("llama")))
    model = scorer.loaded().model
    forward = model.forward

    def scaled(*args: object, **kwargs: object) -> object:
        out = forward(*args, **kwargs)
        out.logits = out.logits / 3
        return out

    monkeypatch.setattr(model, "forward", scaled)
    scorer.loaded().__dict__.pop("ends_in_its_head", None)
    whole_B = scorer.nll(PROMPTS, RESPONSES)
    torch.testing.assert_close(scorer.within(1).nll(PROMPTS, RESPONSES), whole_B, atol=1e-6, rtol=1e-6)


def test_nothing_is_larger_than_the_budget(tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=WORDS, pad_token_id=0, eos_token_id=1, bos_token_id=1, **shape)
    scorer = Fluency(model=kept(tmp_path / "model", LlamaForCausalLM(config)))
    scorer.prepare()
    with Allocations() as seen:
        whole_B = scorer.nll(PROMPTS, RESPONSES)
    assert seen.largest > BUDGET
    with Allocations() as seen:
        found_B = scorer.within(BUDGET).nll(PROMPTS, RESPONSES)
    torch.testing.assert_close(found_B, whole_B, atol=1e-5, rtol=1e-5)
    assert 0 < seen.peak <= BUDGET
