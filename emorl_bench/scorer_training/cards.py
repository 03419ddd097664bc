"""The model card of a trained scorer: what it learned from, how good it is, and what the measures say little about."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
import transformers

from emorl_bench.scorer_training.nets import Text, concatenated
from emorl_bench.scorer_training.settings import Settings
from emorl_bench.scorer_training.study import Study, Verdict

CARD_VERSION = 1


class Net(Protocol):
    """A trained network, as far as its card needs it."""

    @property
    def encoder(self) -> Any:
        """The encoder."""

    def learned(self) -> Mapping[str, torch.Tensor]:
        """Name -> what training has changed."""

    def parameters(self) -> Iterable[torch.Tensor]:
        """All parameters."""


def card(
    identity: Mapping[str, Any],
    study: Study,
    settings: Settings,
    net: Net,
    verdict: Verdict,
    training: Mapping[str, Any],
    circumstances: Mapping[str, Any],
    tokenizer: Any,
) -> dict[str, Any]:
    """Everything that is known of a trained scorer, ready for JSON."""
    encoder: Any = net.encoder
    config, learned = encoder.config, net.learned()
    texts = study.subject.report_texts()
    return {
        "schema_version": CARD_VERSION,
        **identity,
        "data": dict(study.data),
        "report": {"texts": len(texts), "groups": verdict.groups, "truncated": truncated(tokenizer, texts, settings)},
        "encoder": {
            "given": settings.encoder,
            "revision": settings.revision,
            "hash": circumstances["encoder_hash"],
            "architecture": config.model_type,
            "width": config.hidden_size,
            "layers": config.num_hidden_layers,
        },
        "parameters": {
            "trained": sum(p.numel() for p in learned.values()),
            "all": sum(p.numel() for p in net.parameters()),
        },
        "settings": settings.trained_by(),
        "training": {"units": study.subject.units, **training},
        "metrics": {name: dict(value) for name, value in verdict.metrics.items()},
        "calibration": dict(verdict.calibration),
        "machine": circumstances["machine"],
    }


def truncated(tokenizer: Any, texts: list[Text] | Any, settings: Settings) -> float:
    """Share of the texts that are longer than ``max_tokens``."""
    responses = [response for _, response in texts]
    if settings.reads == "pair":
        rows = tokenizer([prompt for prompt, _ in texts], responses, verbose=False)["input_ids"]
    else:
        rows = tokenizer(responses if settings.reads == "response" else concatenated(texts), verbose=False)["input_ids"]
    return sum(len(row) > settings.max_tokens for row in rows) / max(1, len(rows))


def machine(device: str) -> dict[str, Any]:
    """The machine and the versions of this process."""
    processor = torch.cuda.get_device_name() if device.startswith("cuda") else platform.processor()
    return {
        "system": platform.platform(),
        "processor": processor or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "made": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def markdown(record: Mapping[str, Any]) -> str:
    """The card as text for readers."""
    data, encoder, training = record["data"], record["encoder"], record["training"]
    calibration, machine_ = record["calibration"], record["machine"]
    lines = [
        f"# Scorer {record['name']}, twin {record['twin']}",
        "",
        f"Trained on part `{data['part']}` of {data['corpus']} (fingerprint {data['fingerprint']}), judged on "
        f"{record['report']['texts']} texts in {record['report']['groups']} groups of {data['judged_on']}, which "
        "neither twin has seen.",
        "",
        f"- Rows: {_pairs(data['rows'])}; near-duplicates removed: {_pairs(data['removed'])}.",
        f"- Encoder: {encoder['given']} ({encoder['architecture']}, {encoder['layers']} layers of width "
        f"{encoder['width']}, hash {encoder['hash']}); {record['parameters']['trained']:,} of "
        f"{record['parameters']['all']:,} parameters trained.",
        f"- Settings: {_pairs(record['settings'])}.",
        f"- Training: {training['units']} units an epoch, loss by epoch "
        f"{', '.join(f'{loss:.3f}' for loss in training['loss_by_epoch'])}; {training['train_seconds']} s, of "
        f"which {training['train_cpu_seconds']} s on the processor "
        f"({training['seconds']} s with the report).",
        f"- Longer than the encoder was let read: {record['report']['truncated']:.1%} of the report texts.",
        f"- Machine: {_pairs(machine_)}.",
        f"- Weights: sha256 {record['weights_sha256']}, key {record['key']}.",
        "",
        "| measure | value | 95 % interval | n |",
        "|:--|--:|:--|--:|",
        *(_row(name, value) for name, value in record["metrics"].items()),
        "",
        "Intervals resample groups (1,000 times). Matched length: the two responses differ by at most 3 words.",
        "",
        f"Calibration: expected calibration error {calibration['ece']:.3f} of {calibration['of']}.",
        "",
        "| probability | frequency | rows |",
        "|--:|--:|--:|",
        *(f"| {b['probability']:.3f} | {b['frequency']:.3f} | {b['rows']} |" for b in calibration["bins"]),
        "",
    ]
    return "\n".join(lines)


def _row(name: str, value: Mapping[str, float]) -> str:
    between = f"{value['low']:.3f} to {value['high']:.3f}" if "low" in value else ""
    return f"| {name} | {value['value']:.3f} | {between} | {value['n']} |"


def _pairs(mapping: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in mapping.items())
