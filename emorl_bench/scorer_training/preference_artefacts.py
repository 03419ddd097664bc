"""Trained reward heads and their card, which compares shared encoder and full ensemble in size, memory and time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from emorl_bench.scorer_training.artefacts import (
    Order,
    kept,
    place,
    read_card,
    sound,
    trained,
    with_weights,
    write_card,
)
from emorl_bench.scorer_training.cards import markdown
from emorl_bench.scorer_training.encoders import load_encoder
from emorl_bench.scorer_training.preference_heads import HeadSettings, RewardHeads, read, standardise
from emorl_bench.scorer_training.preference_training import fit
from emorl_bench.scorer_training.preferences import Preferences
from emorl_bench.scorer_training.study import Study

FORMS = ("shared", "full")


@dataclass(frozen=True)
class Heads:
    """What is to be trained: an `Order` with settings of heads, and its data."""

    order: Order
    settings: HeadSettings
    subject: Preferences
    data: Mapping[str, Any]

    @property
    def form(self) -> str:
        """``shared`` or ``full``."""
        return FORMS[self.settings.full]

    @property
    def directory(self) -> Path:
        """Where weights and card are, or will be."""
        return place(self.order, self.data["fingerprint"])

    def of_form(self, full: bool) -> Heads:
        """The same heads in the named form."""
        settings = replace(self.settings, full=full)
        return replace(self, settings=settings, order=replace(self.order, settings=settings))


def ensure(heads: Heads, *, afresh: bool = False) -> Path:
    """The directory of trained heads. They are trained first where it is absent or damaged, or with ``afresh``."""
    rows = sum(len(choices.pairs) for choices in heads.subject.train)
    return kept(heads.directory, heads.order.label, rows, lambda draft: _train(heads, draft), afresh=afresh)


def load(heads: Heads) -> tuple[RewardHeads, Any]:
    """Trained heads on their device, and their tokenizer.

    Raises:
        UserError: the weights do not fit the encoder.
    """
    directory = ensure(heads)
    net, tokenizer = _fresh(heads)
    return with_weights(net, directory, heads.order.label), tokenizer


def sizes(encoder_parameters: int, width: int, heads: int) -> dict[str, int]:
    """Parameters by form: M + k L and k (M + L), with M of the encoder and L = width + 1 of a head."""
    return {
        "shared": encoder_parameters + heads * (width + 1),
        "full": heads * (encoder_parameters + width + 1),
    }


def forms(heads: Heads) -> dict[str, dict[str, float | None]]:
    """Parameters, bytes and training seconds of both forms; seconds are None for a form that was not trained here."""
    record = read_card(heads.directory)
    return {form: numbers | {"train_seconds": _seconds(heads, form)} for form, numbers in record["forms"].items()}


def _seconds(heads: Heads, form: str) -> float | None:
    directory = heads.of_form(form == "full").directory
    return float(read_card(directory)["training"]["train_seconds"]) if sound(directory) else None


def _train(heads: Heads, draft: Path) -> None:
    order, settings, subject = heads.order, heads.settings, heads.subject

    def learn(net: RewardHeads, tokenizer: Any) -> list[float]:
        losses = fit(net, tokenizer, subject, settings, order.label)
        standardise(net, tokenizer, subject.train_texts(), settings)
        return losses

    net, record = trained(draft, order, Study(subject, heads.data), lambda: _fresh(heads), learn, read)
    encoder = list(net.encoder.parameters())
    counts = sizes(sum(p.numel() for p in encoder), net.heads[0].in_features, settings.heads)
    record["forms"] = {form: {"parameters": n, "bytes": n * encoder[0].element_size()} for form, n in counts.items()}
    seconds = record["training"]["train_seconds"]
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
