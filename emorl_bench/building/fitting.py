"""Supervised training of a small base model on written dialogues, and the batches that it reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

IGNORE = -100
SHOWN_EVERY = 250  # steps
ProgressCallback = Callable[[str], None]
Rows = list[tuple[list[int], list[int]]]  # prompt ids, response ids with the end token


@dataclass(frozen=True)
class Recipe:
    """AdamW with a one-cycle schedule of ``steps`` steps, whose learning rate rises over the share ``rise`` of them."""

    steps: int
    rate: float
    rise: float
    betas: tuple[float, float] = (0.9, 0.999)


def fit(
    model: PreTrainedModel,
    batches: Iterable[Rows],
    collate: Callable[[Rows], dict[str, Tensor]],
    recipe: Recipe,
    progress: ProgressCallback,
) -> None:
    """Train on ``recipe.steps`` batches, in one pass."""
    optimiser = torch.optim.AdamW(model.parameters(), recipe.rate, betas=recipe.betas, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.rate, total_steps=recipe.steps, pct_start=recipe.rise
    )
    model.train()
    for step, rows in enumerate(batches, start=1):
        loss = model(**collate(rows)).loss
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % SHOWN_EVERY == 0:
            progress(f"step {step} of {recipe.steps}, loss {loss.item():.3f}")
    model.eval()


def tokenised(tokenizer: PreTrainedTokenizerFast, dialogues: Sequence[tuple[str, str]]) -> Rows:
    """Ids of prompts and of responses; responses end with the end token."""
    prompts, responses = (
        tokenizer(list(part), add_special_tokens=False)["input_ids"] for part in zip(*dialogues, strict=True)
    )
    end = tokenizer.eos_token_id
    return [(prompt, [*response, end]) for prompt, response in zip(prompts, responses, strict=True)]


def seq2seq_batch(rows: Rows, tokenizer: PreTrainedTokenizerFast) -> dict[str, Tensor]:
    """Inputs and labels for an encoder-decoder."""
    prompt_BS = padded([[*prompt, tokenizer.eos_token_id] for prompt, _ in rows], tokenizer.pad_token_id)
    labels_BT = padded([response for _, response in rows], IGNORE)
    return {"input_ids": prompt_BS, "attention_mask": (prompt_BS != 0).long(), "labels": labels_BT}


def causal_batch(rows: Rows, tokenizer: PreTrainedTokenizerFast) -> dict[str, Tensor]:
    """``prompt <sep> response </s>``, with the loss on the response only."""
    ids_BS = padded([[*prompt, tokenizer.sep_token_id, *response] for prompt, response in rows], tokenizer.pad_token_id)
    labels_BS = padded([[IGNORE] * (len(prompt) + 1) + response for prompt, response in rows], IGNORE)
    return {"input_ids": ids_BS, "attention_mask": (ids_BS != 0).long(), "labels": labels_BS}


def padded(rows: list[list[int]], fill: int) -> Tensor:
    """(B, T) ids, ``fill`` after the end of each row."""
    width = max(map(len, rows))
    return torch.tensor([row + [fill] * (width - len(row)) for row in rows])
