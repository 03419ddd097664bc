"""Answers of an untrained base model, by transformers' own `generate`: independent of the policies it will carry."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedTokenizerFast

from emorl_bench.assets.cache import asset_dir

MAX_NEW_TOKENS = 24


def base_answers(name: str, prompts: Sequence[str], sample: bool, seed: int = 0) -> list[str]:
    """One answer to each prompt, greedy or sampled at temperature 1."""
    directory, seq2seq = asset_dir(name), name == "tiny_t5"
    tokenizer = PreTrainedTokenizerFast.from_pretrained(directory)
    model = (AutoModelForSeq2SeqLM if seq2seq else AutoModelForCausalLM).from_pretrained(directory).eval()
    end = tokenizer.eos_token_id if seq2seq else tokenizer.sep_token_id
    rows = [[*row, end] for row in tokenizer(list(prompts), add_special_tokens=False)["input_ids"]]
    width, pad = max(map(len, rows)), tokenizer.pad_token_id
    ids_BS = torch.tensor([[pad] * (width - len(row)) + row for row in rows])
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        out_BT = model.generate(
            input_ids=ids_BS,
            attention_mask=(ids_BS != pad).long(),
            max_new_tokens=MAX_NEW_TOKENS,
            do_sample=sample,
            top_k=0 if sample else None,
        )
    answers_BT = out_BT if seq2seq else out_BT[:, width:]
    return tokenizer.batch_decode(answers_BT, skip_special_tokens=True)
