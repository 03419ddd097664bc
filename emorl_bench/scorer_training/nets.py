"""The network of every trained scorer: an encoder, pooling, a small head, and ordered thresholds.

The head is that of PAIR's cross-encoder (Min et al., EMNLP 2022): W2 ELU(W1 h), 768 -> 512 -> 1; here its width is two
thirds of the encoder's. Its value f becomes cumulative logits P(level > k) = sigmoid(f - b_k) with b_0 < b_1 < ...
(proportional odds; McCullagh 1980). There is one logit where there are two levels or only a rank to learn. The score is
the expected level divided by the highest: the mean of those probabilities.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emorl_bench.core.memory import LARGEST
from emorl_bench.models.shape import tokens_within
from emorl_bench.scorer_training.encoders import freeze
from emorl_bench.scorer_training.shapes import fixed_batches

HEAD_SHARE = 2 / 3  # of the encoder's width: 512 of RoBERTa-base's 768

FIRST_STEP = 2.0  # initial step between thresholds, before softplus; below 1.4 no middle level can be the most likely

Text = tuple[str, str]  # a prompt, a response


class ScorerNet(nn.Module):
    """Gives ``outputs`` cumulative logits for each text (see the module's docstring)."""

    def __init__(self, encoder: Any, pooling: str, outputs: int, freeze_layers: int = 0) -> None:
        """A new head on an encoder, of which the first ``freeze_layers`` blocks are frozen."""
        super().__init__()
        width = encoder.config.hidden_size
        hidden = round(width * HEAD_SHARE)
        freeze(encoder, freeze_layers)
        self.encoder, self.pooling = encoder, pooling
        self.head = nn.Sequential(nn.Linear(width, hidden), nn.ELU(), nn.Linear(hidden, 1))
        self.threshold_steps_O = nn.Parameter(torch.tensor([0.0] + [FIRST_STEP] * (outputs - 1)))

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """(B, O) float32 logits. ``inputs`` are tensors (B, T) from the encoder's tokenizer."""
        states_BTH = self.encoder(**inputs).last_hidden_state
        pooled_BH = states_BTH[:, 0] if self.pooling == "cls" else _mean(states_BTH, inputs["attention_mask"])
        value_B1: Tensor = self.head(pooled_BH)
        return value_B1.float() - self.thresholds()

    def thresholds(self) -> Tensor:
        """(O,) strictly increasing."""
        steps_O = self.threshold_steps_O
        return torch.cat([steps_O[:1], F.softplus(steps_O[1:])]).cumsum(0)

    def learned(self) -> dict[str, Tensor]:
        """Name -> what training changes."""
        return {name: tensor for name, tensor in self.named_parameters() if tensor.requires_grad}


def scores(logits_BO: Tensor) -> Tensor:
    """(B,) float64 in [0, 1]: the expected level divided by the highest.

    In float32 the last elements of a tensor are computed by other instructions than the rest.
    """
    return torch.sigmoid(logits_BO.double()).mean(1)


def tokenise(
    tokenizer: Any, texts: Sequence[Text], reads: str, max_tokens: int, *, padding: bool = True
) -> dict[str, Any]:
    """Padded ids (B, T) and what else the encoder reads, as tensors; without ``padding`` lists of B rows.

    Of a pair that is too long, the longer segment is cut.
    """
    prompts, responses = [p for p, _ in texts], [r for _, r in texts]
    options = {"truncation": "longest_first", "max_length": max_tokens}
    options |= {"padding": True, "return_tensors": "pt"} if padding else {}
    if reads == "pair":
        return dict(tokenizer(prompts, responses, **options))
    return dict(tokenizer(responses if reads == "response" else concatenated(texts), **options))


def fixed_inputs(
    tokenizer: Any,
    texts: Sequence[Text],
    reads: str,
    max_tokens: int,
    encoder: Any,
    block_bytes: int | None = None,
) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
    """The indices of some texts, and the inputs of a complete batch (`shapes`) whose first rows are these texts.

    ``block_bytes`` bounds what a batch makes in a layer of the encoder (`models.shape`); None: the largest block of a
    run.
    """
    device = next(encoder.parameters()).device
    fit = tokens_within(block_bytes or LARGEST, encoder.config.to_dict(), encoder.dtype.itemsize)
    encoded = tokenise(tokenizer, texts, reads, max_tokens, padding=False)
    lengths = list(map(len, encoded["input_ids"]))
    for indices, own, width in fixed_batches(lengths, max_tokens, device.type, fit):
        rows = {name: [values[i] for i in indices] for name, values in encoded.items()}
        padded = tokenizer.pad(rows, padding="max_length", max_length=width, return_tensors="pt")
        yield indices[:own], {name: tensor.to(device) for name, tensor in padded.items()}


def concatenated(texts: Sequence[Text]) -> list[str]:
    """Prompt and response of each text as one text."""
    return [f"{prompt} {response}".strip() for prompt, response in texts]


def _mean(states_BTH: Tensor, mask_BT: Tensor) -> Tensor:
    weights_BT1 = mask_BT[..., None].to(states_BTH.dtype)
    return (states_BTH * weights_BT1).sum(1) / weights_BT1.sum(1)
