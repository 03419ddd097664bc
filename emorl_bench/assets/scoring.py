"""The grades of the shipped scorers: loaded once in a process, in batches, without gradient.

The networks compute in float64, and the grades are rounded to float32. The other texts of a batch, padding and the
number of threads move a float64 grade by about 1e-15, which rounding removes. So the grade of a text depends on the
text alone, and a resumed run, whose batches differ, has the scores of a run that was never stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from emorl_bench.assets.ngrams import NGrams
from emorl_bench.assets.reader import Reader, encode
from emorl_bench.assets.shipped import asset_dir

SCORERS, READER, NGRAMS = "reflections/scorers", "reader.safetensors", "ngrams.safetensors"
TWINS = ("train", "held_out")
BATCH = 512


def grades(twin: str, device: str, prompts: Sequence[str], responses: Sequence[str]) -> Tensor:
    """The grades of reflection, empathy and fluency by one set of scorers; an empty answer scores 0.

    Args:
        twin: one of `TWINS`: "train" scorers are trained against, "held_out" scorers only report.
        device: where the scorers lie.
        prompts: B prompts.
        responses: B responses to them.

    Returns:
        (B, K) in [0, 1], on the CPU.
    """
    return _grades(twin, device, tuple(prompts), tuple(responses))


@lru_cache(maxsize=8)  # the three objectives ask about the same texts, one after the other
def _grades(twin: str, device: str, prompts: tuple[str, ...], responses: tuple[str, ...]) -> Tensor:
    blocks = [torch.zeros(0, 3)]
    with torch.no_grad():
        for at in range(0, len(responses), BATCH):
            part = prompts[at : at + BATCH], responses[at : at + BATCH]
            logits_BK = _read(device, *part) if twin == "train" else ngrams(device)(*part)
            said_B1 = torch.tensor([[bool(response.strip())] for response in part[1]])
            blocks.append(torch.sigmoid(logits_BK).float().cpu() * said_B1)
    return torch.cat(blocks)


def _read(device: str, prompts: Sequence[str], responses: Sequence[str]) -> Tensor:
    net, tokenizer = reader(device)
    logits_BK: Tensor = net(encode(tokenizer, prompts).to(device), encode(tokenizer, responses).to(device))
    return logits_BK


@lru_cache(maxsize=4)
def reader(device: str) -> tuple[Reader, PreTrainedTokenizerFast]:
    """The shipped `Reader` in float64 and its tokenizer, loaded once for each device.

    Raises:
        UserError: a file is missing or damaged.
    """
    directory = asset_dir(SCORERS)
    weights = load_file(directory / READER)
    net = Reader(*weights["embed.weight"].shape)
    net.load_state_dict(weights)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(directory)
    return net.to(device, torch.float64).eval().requires_grad_(False), tokenizer


@lru_cache(maxsize=4)
def ngrams(device: str) -> NGrams:
    """The shipped `NGrams` in float64, loaded once for each device.

    Raises:
        UserError: a file is missing or damaged.
    """
    net = NGrams()
    net.load_state_dict(load_file(asset_dir(SCORERS) / NGRAMS))
    return net.to(device, torch.float64).eval().requires_grad_(False)
