"""Trained weights and their card, kept by content: whoever asks first trains, everybody else reads.

``<cache>/scorers/<key>/`` holds ``model.safetensors`` (what training changed; the rest is the encoder, whose hash is in
the key), ``card.json`` and ``card.md``. It is written beside and renamed, so a training that is interrupted leaves
nothing that looks whole; two processes that want the same scorer wait for each other.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file

from emorl_bench.core.errors import UserError
from emorl_bench.offline.fetching import cache_root
from emorl_bench.scorer_training.cards import card, machine, markdown
from emorl_bench.scorer_training.encoders import encoder_hash, load_encoder
from emorl_bench.scorer_training.loop import fit, read, seconds_since, seeded
from emorl_bench.scorer_training.nets import ScorerNet
from emorl_bench.scorer_training.settings import Settings
from emorl_bench.scorer_training.study import Study

REVISION = 1  # raise where the same settings and data would train other weights
WEIGHTS, CARD, CARD_TEXT = "model.safetensors", "card.json", "card.md"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Order:
    """What is to be trained: under which name, for which twin, how, on a device."""

    name: str
    twin: str
    settings: Settings
    device: str

    @property
    def label(self) -> str:
        return f"scorer {self.name} ({self.twin})"


def key(order: Order, data_fingerprint: str) -> str:
    """16 hex digits of settings, data, twin and encoder: equal where the same scorer would be trained."""
    settings = order.settings
    encoder = encoder_hash(settings.encoder, settings.revision)
    parts = [REVISION, order.name, order.twin, settings.trained_by(), data_fingerprint, encoder]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def place(order: Order, data_fingerprint: str) -> Path:
    return cache_root() / "scorers" / key(order, data_fingerprint)


def sound(directory: Path) -> bool:
    """Whether the weights are those that the card describes."""
    return (directory / CARD).is_file() and _matches(directory, _stamp(directory / WEIGHTS))


def ensure(order: Order, study: Study, *, afresh: bool = False) -> Path:
    """The directory of a trained scorer; trains it where it is absent or damaged, or ``afresh``.

    Raises:
        UserError: the cache cannot be written, or what `fit` and `load_encoder` raise.
    """
    directory = place(order, study.data["fingerprint"])
    rows = study.subject.units
    return kept(directory, order.label, rows, lambda draft: _train(order, study, draft), afresh=afresh)


def kept(directory: Path, label: str, rows: int, train: Callable[[Path], None], *, afresh: bool = False) -> Path:
    """The directory, sound; where it is not, or ``afresh``, ``train`` fills an empty draft that then takes its name.

    Raises:
        UserError: the cache cannot be written, or what ``train`` raises.
    """
    if sound(directory) and not afresh:
        return directory
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(directory.with_suffix(".lock"))
        with lock:
            if afresh or not sound(directory):  # another process may have trained it by now
                log.info("%s is not trained yet: training on %d rows, kept in %s", label, rows, directory)
                draft = directory.with_suffix(".draft")
                shutil.rmtree(draft, ignore_errors=True)
                draft.mkdir()
                with torch.enable_grad():  # whoever asks may be in the middle of scoring
                    train(draft)
                shutil.rmtree(directory, ignore_errors=True)
                draft.rename(directory)
    except OSError as error:
        raise UserError(
            f"{label}: cannot be kept in {directory.parent} ({error.strerror or error}); "
            "set EMORL_BENCH_CACHE to a directory that can be written"
        ) from error
    return directory


def _train(order: Order, study: Study, draft: Path) -> None:
    started, busy, settings = time.monotonic(), time.process_time(), order.settings
    devices = [torch.device(order.device)] if order.device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices):
        seeded(settings.seed)
        net, tokenizer = _fresh(order, study.subject.outputs)
        losses = fit(net, tokenizer, study.subject, settings, order.label)
    seconds, cpu_seconds = seconds_since(started), round(time.process_time() - busy, 1)
    verdict = study.subject.judge(read(net, tokenizer, study.subject.report_texts(), settings))
    digest = write_weights(draft, net.learned())
    record = card(
        {"name": order.name, "twin": order.twin, "key": draft.stem, "weights_sha256": digest},
        study,
        settings,
        net,
        verdict,
        {
            "loss_by_epoch": losses,
            "train_seconds": seconds,
            "train_cpu_seconds": cpu_seconds,  # less than those of the clock where others use the machine too
            "seconds": seconds_since(started),
        },
        {"encoder_hash": encoder_hash(settings.encoder, settings.revision), "machine": machine(order.device)},
        tokenizer,
    )
    write_card(draft, record, markdown(record))


def write_weights(draft: Path, weights: Mapping[str, torch.Tensor]) -> str:
    """Returns the file's hash, which the card must name as ``weights_sha256``."""
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, draft / WEIGHTS)
    return _digest(draft / WEIGHTS)


def write_card(draft: Path, record: Mapping[str, Any], text: str) -> None:
    (draft / CARD).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (draft / CARD_TEXT).write_text(text, encoding="utf-8")


def read_card(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / CARD).read_text(encoding="utf-8"))
    return found


def load_net(order: Order, directory: Path, outputs: int) -> tuple[ScorerNet, Any]:
    """A trained net on its device, and its tokenizer.

    Raises:
        UserError: the weights do not fit the encoder.
    """
    with torch.random.fork_rng(devices=[]):  # a head is drawn, and then overwritten
        net, tokenizer = _fresh(order, outputs)
    weights: Mapping[str, torch.Tensor] = load_file(directory / WEIGHTS)
    missing = set(net.learned()) ^ set(weights)
    if missing:
        raise UserError(f"{order.label}: {directory} does not fit its encoder ({sorted(missing)[0]}); remove it")
    net.load_state_dict(weights, strict=False)
    return net.eval().requires_grad_(False), tokenizer


def _fresh(order: Order, outputs: int) -> tuple[ScorerNet, Any]:
    settings = order.settings
    model, tokenizer = load_encoder(settings.encoder, settings.revision)
    positions = getattr(model.config, "max_position_embeddings", settings.max_tokens)
    if settings.max_tokens > positions:
        raise UserError(
            f"scorer {order.name}: max_tokens={settings.max_tokens}: the encoder reads {positions} tokens at most"
        )
    net = ScorerNet(model, settings.pooling, outputs, settings.freeze_layers)
    return net.to(order.device), tokenizer


def _stamp(path: Path) -> tuple[int, int]:
    """What changes when a file does: hashing 90 MB for every question would be slow."""
    return (path.stat().st_mtime_ns, path.stat().st_size) if path.is_file() else (0, 0)


@lru_cache(maxsize=32)
def _matches(directory: Path, stamp: tuple[int, int]) -> bool:
    try:
        return stamp != (0, 0) and read_card(directory)["weights_sha256"] == _digest(directory / WEIGHTS)
    except (ValueError, KeyError):
        return False


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
