"""The two tiny base models of `reflections`, warm-started by supervised training on dialogues of mixed quality."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from emorl_bench.assets.tokenizer import build_tokenizer
from emorl_bench.assets.world.corpus import dialogue, lesson

BATCH, RATE, SEED, IGNORE = 32, 3e-3, 7, -100
LISTENING = 0.2  # share of the steps
STEPS = {"tiny_t5": 5000, "tiny_gpt2": 5000}
WIDTH, HEADS = 64, 4
Progress = Callable[[str], None]
Rows = list[tuple[list[int], list[int]]]  # prompt ids, response ids with the end token


def new_t5(tokenizer: PreTrainedTokenizerFast) -> T5ForConditionalGeneration:
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


def seq2seq_batch(rows: Rows, tokenizer: PreTrainedTokenizerFast) -> dict[str, Tensor]:
    prompt_BS = padded([[*prompt, tokenizer.eos_token_id] for prompt, _ in rows], tokenizer.pad_token_id)
    labels_BT = padded([response for _, response in rows], IGNORE)
    return {"input_ids": prompt_BS, "attention_mask": (prompt_BS != 0).long(), "labels": labels_BT}


def causal_batch(rows: Rows, tokenizer: PreTrainedTokenizerFast) -> dict[str, Tensor]:
    """``prompt <sep> response </s>``, the loss on the response."""
    ids_BS = padded([[*prompt, tokenizer.sep_token_id, *response] for prompt, response in rows], tokenizer.pad_token_id)
    labels_BS = padded([[IGNORE] * (len(prompt) + 1) + response for prompt, response in rows], IGNORE)
    return {"input_ids": ids_BS, "attention_mask": (ids_BS != 0).long(), "labels": labels_BS}


def prepare_to_copy_t5(model: T5ForConditionalGeneration) -> None:
    """Start cross-attention with the identity as value map: what is attended to is what is said.

    Giving back the client's words is most of the task; from a random start a small model takes minutes to find it.
    """
    for block in model.decoder.block:
        attention = block.layer[1].EncDecAttention
        nn.init.eye_(attention.v.weight)
        nn.init.eye_(attention.o.weight)


def prepare_to_copy_gpt2(model: GPT2LMHeadModel) -> None:
    """The same for self-attention in the upper layers, with embeddings large enough to be heard through it."""
    width = model.config.n_embd
    with torch.no_grad():
        model.transformer.wte.weight.mul_(4.0)
        for block in model.transformer.h[1:]:
            block.attn.c_attn.weight[:, 2 * width :] = torch.eye(width)
            block.attn.c_proj.weight.copy_(torch.eye(width))


MODELS = {"tiny_t5": (new_t5, seq2seq_batch), "tiny_gpt2": (new_gpt2, causal_batch)}


def build_base_model(name: str, directory: Path, progress: Progress) -> None:
    torch.manual_seed(SEED)
    tokenizer = build_tokenizer()
    new_model, collate = MODELS[name]
    model = new_model(tokenizer)
    fit(model, lambda rows: collate(rows, tokenizer), tokenizer, STEPS[name], lambda at: progress(f"{name}: {at}"))
    model.eval().save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def fit(
    model: PreTrainedModel,
    collate: Callable[[Rows], dict[str, Tensor]],
    tokenizer: PreTrainedTokenizerFast,
    steps: int,
    progress: Progress,
) -> None:
    """AdamW with a one-cycle schedule; one pass over fresh dialogues."""
    optimiser = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps, pct_start=0.15)
    model.train()
    for step, rows in enumerate(batches(tokenizer, steps), start=1):
        loss = model(**collate(rows)).loss
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 100 == 0:
            progress(f"step {step} of {steps}, loss {loss.item():.2f}")


def batches(tokenizer: PreTrainedTokenizerFast, steps: int) -> Iterator[Rows]:
    """Lessons in listening first, then dialogues of mixed quality; every batch is fresh."""
    rng, listening = random.Random(f"dialogues/{SEED}"), int(LISTENING * steps)
    for step in range(steps):
        draw = lesson if step < listening else dialogue
        prompts, responses = zip(*(draw(rng) for _ in range(BATCH)), strict=True)
        ids = tokenizer(list(prompts), add_special_tokens=False)["input_ids"]
        answers = tokenizer(list(responses), add_special_tokens=False)["input_ids"]
        yield [(prompt, [*answer, tokenizer.eos_token_id]) for prompt, answer in zip(ids, answers, strict=True)]


def padded(rows: list[list[int]], fill: int) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [fill] * (width - len(row)) for row in rows])
