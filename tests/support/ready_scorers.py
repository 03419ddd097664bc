"""Tiny random models that scorers with a ready model load, and what they return as numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tiny_model, word_tokenizer
from transformers import BertConfig, BertForSequenceClassification, BertModel, GPT2Config, GPT2ForSequenceClassification

from emorl_bench.core.protocols import Scores
from emorl_bench.core.types import Example

CHAT = "{% for m in messages %}<sep> {{ m.role }} : {{ m.content }} {% endfor %}</s>"


def examples(prompts: Sequence[str], answer: str | None = "7") -> list[Example]:
    return [Example(str(i), prompt, answer=answer) for i, prompt in enumerate(prompts)]


def saved(directory: Path, model: Any, chat: str | None = None) -> str:
    tokenizer = word_tokenizer()
    tokenizer.chat_template = chat
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return str(directory)


def bert(heads: int | None, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    shape = {"vocab_size": 40, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3}
    config = BertConfig(**shape, intermediate_size=32, initializer_range=0.3, max_position_embeddings=64)
    if heads is None:
        return BertModel(config, add_pooling_layer=False)
    config.num_labels = heads
    return BertForSequenceClassification(config)


def judge() -> Any:
    torch.manual_seed(3)
    shape = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "vocab_size": 40, "initializer_range": 0.2}
    return GPT2ForSequenceClassification(GPT2Config(**shape, num_labels=1, pad_token_id=0, eos_token_id=1))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("models")
    return {
        "causal": saved(root / "causal", tiny_model("gpt2")),
        "other": saved(root / "other", tiny_model("gpt2", seed=5)),
        "encoder": saved(root / "encoder", bert(None)),
        "pairs": saved(root / "pairs", bert(1)),
        "labels": saved(root / "labels", bert(3)),
        "chat": saved(root / "chat", judge(), CHAT),
    }


def numbers(scores: Scores) -> np.ndarray:
    """As an array, NaN where a scorer does not apply; a NaN of its own is an error."""
    if isinstance(scores, torch.Tensor):
        assert scores.dtype == torch.float32
        assert not scores.isnan().any()
        return scores.numpy()
    return np.array([math.nan if score is None else score for score in scores], dtype=np.float64)
