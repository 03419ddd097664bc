"""Training of one set of scorers, from labelled pairs and fluent text of one half of the training situations.

The two sets differ in data (no situation in common), seed and width. ``train`` is what methods optimise, ``held_out``
is met only in the report.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from emorl_bench.assets.scorer_nets import CausalNet, MatchNet, PhraseNet
from emorl_bench.assets.tokenizer import build_tokenizer
from emorl_bench.assets.world.corpus import Pair, fluent_texts, labelled_pairs

TWINS = {"train": {"half": 0, "seed": 11, "width": 48}, "held_out": {"half": 1, "seed": 23, "width": 40}}
PAIRS, FLUENT_TEXTS, BATCH, CLASSIFIER_EPOCHS, LANGUAGE_EPOCHS = 9000, 8000, 128, 3, 3
NETS: dict[str, Callable[[int, int], nn.Module]] = {"reflection": MatchNet, "empathy": PhraseNet, "fluency": CausalNet}
Progress = Callable[[str], None]


def encode(tokenizer: PreTrainedTokenizerFast, texts: list[str], end: bool = False) -> Tensor:
    """Right-padded ids (B, T), at least one column; ``end`` adds the end token."""
    rows = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    rows = [[*row, tokenizer.eos_token_id] for row in rows] if end else rows
    ids_BT = torch.zeros(len(rows), max([1, *map(len, rows)]), dtype=torch.long)
    for i, row in enumerate(rows):
        ids_BT[i, : len(row)] = torch.tensor(row, dtype=torch.long)
    return ids_BT


def build_scorers(twin: str, directory: Path, progress: Progress) -> None:
    """Train the three nets of one set and write them as ``<objective>.safetensors`` beside ``scorers.json``."""
    settings, tokenizer = TWINS[twin], build_tokenizer()
    torch.manual_seed(settings["seed"])
    nets = {name: build(len(tokenizer), settings["width"]) for name, build in NETS.items()}
    pairs = labelled_pairs(PAIRS, settings["seed"], settings["half"])
    texts = fluent_texts(FLUENT_TEXTS, settings["seed"], settings["half"])
    for name in ("reflection", "empathy"):
        fit_classifier(nets[name], tokenizer, pairs, name)
        progress(f"scorers/{twin}: {name} trained")
    fit_language_model(cast(CausalNet, nets["fluency"]), tokenizer, texts)
    progress(f"scorers/{twin}: fluency trained")
    for name, net in nets.items():
        save_file(net.state_dict(), directory / f"{name}.safetensors")
    (directory / "scorers.json").write_text(json.dumps(settings))
    tokenizer.save_pretrained(directory)


def load_net(directory: Path, name: str) -> nn.Module:
    weights = load_file(directory / f"{name}.safetensors")
    vocabulary, width = weights["embed.weight"].shape
    net = NETS[name](vocabulary, width)
    net.load_state_dict(weights)
    return net.eval().requires_grad_(False)


def fit_classifier(net: nn.Module, tokenizer: PreTrainedTokenizerFast, pairs: list[Pair], label: str) -> None:
    """Graded labels as soft targets of a cross-entropy: the score is calibrated, not merely ranked."""
    prompt_NS = encode(tokenizer, [p.prompt for p in pairs])
    response_NT = encode(tokenizer, [p.response for p in pairs])
    label_N = torch.tensor([getattr(p, label) for p in pairs])

    def loss(rows: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(net(prompt_NS[rows], response_NT[rows]), label_N[rows])

    descend(net, loss, len(pairs), CLASSIFIER_EPOCHS, 3e-3)


def fit_language_model(net: CausalNet, tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> None:
    response_NT = encode(tokenizer, texts, end=True)
    descend(net, lambda rows: net.nll(response_NT[rows]).mean(), len(texts), LANGUAGE_EPOCHS, 3e-3)


def descend(net: nn.Module, loss: Callable[[Tensor], Tensor], count: int, epochs: int, rate: float) -> None:
    """AdamW with a one-cycle schedule over shuffled minibatches."""
    optimiser = torch.optim.AdamW(net.parameters(), rate, weight_decay=0.01)
    steps = epochs * (count // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.randperm(count)[: count // BATCH * BATCH].split(BATCH):
            optimiser.zero_grad()
            loss(rows).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            schedule.step()
