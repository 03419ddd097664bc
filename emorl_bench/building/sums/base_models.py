"""The two base models of the world of sums, trained on answers of mixed quality."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from emorl_bench.assets.sums.tokenizer import build_tokenizer
from emorl_bench.building.fitting import ProgressCallback, Recipe, Rows, causal_batch, fit, seq2seq_batch, tokenised
from emorl_bench.building.sums.habits import dialogue

WIDTH, HEADS = 64, 4
POSITIONS = 192  # a prompt of model.max_prompt_tokens and an answer
BATCH, RATE, SEED = 64, 3e-3, 7
STEPS = {"tiny_t5": 20000, "tiny_gpt2": 5000}
SHOWN_EVERY = 10  # one batch in this many has the prompt twice with another answer between, as CORY's observer reads it


def new_t5(tokenizer: PreTrainedTokenizerFast) -> T5ForConditionalGeneration:
    """A new encoder-decoder."""
    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=WIDTH,
            d_kv=WIDTH // HEADS,
            num_heads=HEADS,
            d_ff=4 * WIDTH,
            num_layers=2,
            num_decoder_layers=2,
            dropout_rate=0.0,
            tie_word_embeddings=True,
            relative_attention_num_buckets=64,  # each near position has its own bucket, because the order is essential
            relative_attention_max_distance=128,
            decoder_start_token_id=tokenizer.pad_token_id,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def new_gpt2(tokenizer: PreTrainedTokenizerFast) -> GPT2LMHeadModel:
    """A new decoder-only model."""
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=POSITIONS,
            n_embd=WIDTH,
            n_layer=3,
            n_inner=160,
            n_head=HEADS,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=tokenizer.sep_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


MODELS = {"tiny_t5": (new_t5, seq2seq_batch), "tiny_gpt2": (new_gpt2, causal_batch)}


def build(name: str, directory: Path, progress: ProgressCallback) -> None:
    """Train ``tiny_t5`` or ``tiny_gpt2``, and write it with its tokenizer in the form of transformers."""
    torch.manual_seed(SEED)
    tokenizer = build_tokenizer()
    new_model, collate = MODELS[name]
    model, recipe = new_model(tokenizer), Recipe(STEPS[name], RATE, rise=0.1, betas=(0.9, 0.98))
    rows = batches(tokenizer, recipe.steps)
    fit(model, rows, lambda rows: collate(rows, tokenizer), recipe, lambda at: progress(f"sums/{name}: {at}"))
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def batches(tokenizer: PreTrainedTokenizerFast, steps: int) -> Iterator[Rows]:
    """New dialogues for each step."""
    rng = random.Random(f"sums/{SEED}")
    for step in range(steps):
        shown = step % SHOWN_EVERY == SHOWN_EVERY - 1
        yield tokenised(tokenizer, [dialogue(rng, shown) for _ in range(BATCH)])
