"""The two tiny base models of `reflections`, trained on dialogues of mixed quality."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from emorl_bench.assets.tokenizer import build_tokenizer
from emorl_bench.assets.world.corpus import dialogue, lesson
from emorl_bench.building.fitting import ProgressCallback, Recipe, Rows, causal_batch, fit, seq2seq_batch, tokenised

BATCH, RATE, SEED = 32, 3e-3, 7
LISTENING = 0.2  # share of the steps
STEPS = {"tiny_t5": 5000, "tiny_gpt2": 5000}
WIDTH, HEADS = 64, 4


def new_t5(tokenizer: PreTrainedTokenizerFast) -> T5ForConditionalGeneration:
    """A new encoder-decoder, prepared to copy."""
    model = T5ForConditionalGeneration(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=WIDTH,
            d_kv=WIDTH // HEADS,
            num_heads=HEADS,
            d_ff=5 * WIDTH,
            num_layers=2,
            num_decoder_layers=2,
            dropout_rate=0.0,
            tie_word_embeddings=True,
            decoder_start_token_id=tokenizer.pad_token_id,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    prepare_to_copy_t5(model)
    return model


def new_gpt2(tokenizer: PreTrainedTokenizerFast) -> GPT2LMHeadModel:
    """A new decoder-only model, prepared to copy."""
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=256,
            n_embd=WIDTH,
            n_layer=4,
            n_inner=5 * WIDTH,
            n_head=HEADS,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.sep_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    prepare_to_copy_gpt2(model)
    return model


def prepare_to_copy_t5(model: T5ForConditionalGeneration) -> None:
    """Start cross-attention with the identity as value map, so that the model outputs the words that it attends to.

    Repeating the client's words is most of the task. From a random start a small model takes minutes to find that.
    """
    for block in model.decoder.block:
        attention = block.layer[1].EncDecAttention
        nn.init.eye_(attention.v.weight)
        nn.init.eye_(attention.o.weight)


def prepare_to_copy_gpt2(model: GPT2LMHeadModel) -> None:
    """The same for self-attention in the upper layers, with embeddings that are large enough to dominate there."""
    width = model.config.n_embd
    with torch.no_grad():
        model.transformer.wte.weight.mul_(4.0)
        for block in model.transformer.h[1:]:
            block.attn.c_attn.weight[:, 2 * width :] = torch.eye(width)
            block.attn.c_proj.weight.copy_(torch.eye(width))


MODELS = {"tiny_t5": (new_t5, seq2seq_batch), "tiny_gpt2": (new_gpt2, causal_batch)}


def build_base_model(name: str, directory: Path, progress: ProgressCallback) -> None:
    """Train ``tiny_t5`` or ``tiny_gpt2``, and write it with its tokenizer in the form of transformers."""
    torch.manual_seed(SEED)
    tokenizer = build_tokenizer()
    new_model, collate = MODELS[name]
    model, recipe = new_model(tokenizer), Recipe(STEPS[name], RATE, rise=0.15)
    rows = batches(tokenizer, recipe.steps)
    fit(model, rows, lambda rows: collate(rows, tokenizer), recipe, lambda at: progress(f"reflections/{name}: {at}"))
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def batches(tokenizer: PreTrainedTokenizerFast, steps: int) -> Iterator[Rows]:
    """Lessons in listening first, then dialogues of mixed quality. Every batch is new."""
    rng, listening = random.Random(f"dialogues/{SEED}"), int(LISTENING * steps)
    for step in range(steps):
        draw = lesson if step < listening else dialogue
        yield tokenised(tokenizer, [draw(rng) for _ in range(BATCH)])
