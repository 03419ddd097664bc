"""Trained reward heads and their card, which sets the shared encoder beside the full ensemble: size, memory, time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from emorl_bench.core.errors import UserError
from emorl_bench.scorer_training.artefacts import (
    WEIGHTS,
    Order,
    kept,
    place,
    read_card,
    sound,
    write_card,
    write_weights,
)
from emorl_bench.scorer_training.cards import card, machine, markdown
from emorl_bench.scorer_training.encoders import encoder_hash, load_encoder
from emorl_bench.scorer_training.loop import seconds_since, seeded
from emorl_bench.scorer_training.preference_heads import HeadSettings, RewardHeads, read, standardise
from emorl_bench.scorer_training.preference_training import fit
from emorl_bench.scorer_training.preferences import Preferences
from emorl_bench.scorer_training.study import Study

FORMS = ("shared", "full")


@dataclass(frozen=True)
class Heads:
    """What is to be trained: `Order` with settings of heads, and what from."""

    order: Order
    settings: HeadSettings
    subject: Preferences
    data: Mapping[str, Any]

    @property
    def form(self) -> str:
        return FORMS[self.settings.full]

    @property
    def directory(self) -> Path:
        return place(self.order, self.data["fingerprint"])

    def of_form(self, full: bool) -> Heads:
        settings = replace(self.settings, full=full)
        return replace(self, settings=settings, order=replace(self.order, settings=settings))


def ensure(heads: Heads, *, afresh: bool = False) -> Path:
    """The directory of trained heads; trains them where it is absent or damaged, or ``afresh``."""
    rows = sum(len(choices.pairs) for choices in heads.subject.train)
    return kept(heads.directory, heads.order.label, rows, lambda draft: _train(heads, draft), afresh=afresh)


def load(heads: Heads) -> tuple[RewardHeads, Any]:
    """Trained heads on their device, and their tokenizer.

    Raises:
        UserError: the weights do not fit the encoder.
    """
    directory = ensure(heads)
    net, tokenizer = _fresh(heads)
    weights = load_file(directory / WEIGHTS)
    if missing := set(net.learned()) ^ set(weights):
        raise UserError(f"{heads.order.label}: {directory} does not fit its encoder ({sorted(missing)[0]}); remove it")
    net.load_state_dict(weights, strict=False)
    return net.eval().requires_grad_(False), tokenizer


def sizes(encoder_parameters: int, width: int, heads: int) -> dict[str, int]:
    """Parameters by form: M + k L and k (M + L), with M of the encoder and L = width + 1 of a head."""
    return {
        "shared": encoder_parameters + heads * (width + 1),
        "full": heads * (encoder_parameters + width + 1),
    }


def forms(heads: Heads) -> dict[str, dict[str, float | None]]:
    """Parameters, bytes and training seconds of both forms; seconds None for a form that was not trained here."""
    record = read_card(heads.directory)
    return {form: numbers | {"train_seconds": _seconds(heads, form)} for form, numbers in record["forms"].items()}


def _seconds(heads: Heads, form: str) -> float | None:
    directory = heads.of_form(form == "full").directory
    return float(read_card(directory)["training"]["train_seconds"]) if sound(directory) else None


def _train(heads: Heads, draft: Path) -> None:
    order, settings, subject = heads.order, heads.settings, heads.subject
    started, busy = time.monotonic(), time.process_time()
    devices = [torch.device(order.device)] if order.device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices):
        seeded(settings.seed)
        net, tokenizer = _fresh(heads)
        losses = fit(net, tokenizer, subject, settings, order.label)
        standardise(net, tokenizer, subject.train_texts(), settings)
    seconds, cpu_seconds = round(time.monotonic() - started, 3), round(time.process_time() - busy, 1)
    verdict = subject.judge(read(net, tokenizer, subject.report_texts(), settings))
    digest = write_weights(draft, net.learned())
    record = card(
        {"name": order.name, "twin": order.twin, "key": draft.stem, "weights_sha256": digest},
        Study(subject, heads.data),
        settings,
        net,
        verdict,
        {
            "loss_by_epoch": losses,
            "train_seconds": seconds,
            "train_cpu_seconds": cpu_seconds,
            "seconds": seconds_since(started),
        },
        {"encoder_hash": encoder_hash(settings.encoder, settings.revision), "machine": machine(order.device)},
        tokenizer,
    )
    encoder = list(net.encoder.parameters())
    counts = sizes(sum(p.numel() for p in encoder), net.heads[0].in_features, settings.heads)
    record["forms"] = {form: {"parameters": n, "bytes": n * encoder[0].element_size()} for form, n in counts.items()}
    write_card(draft, record, markdown(record) + _compared(heads, record["forms"], seconds))


def _compared(heads: Heads, sizes: Mapping[str, Mapping[str, int]], seconds: float) -> str:
    lines = ["", "| form | parameters | bytes | training seconds |", "|:--|--:|--:|--:|"]
    for form, numbers in sizes.items():
        took = seconds if form == heads.form else _seconds(heads, form)
        shown = "not trained here" if took is None else f"{took:.1f}"
        lines.append(f"| {form} | {numbers['parameters']:,} | {numbers['bytes']:,} | {shown} |")
    return "\n".join([*lines, ""])


def _fresh(heads: Heads) -> tuple[RewardHeads, Any]:
    settings = heads.settings
    loaded = [load_encoder(settings.encoder, settings.revision) for _ in range(settings.heads if settings.full else 1)]
    net = RewardHeads([model for model, _ in loaded], settings.pooling, settings.heads, settings.freeze_layers)
    return net.to(heads.order.device), loaded[0][1]
