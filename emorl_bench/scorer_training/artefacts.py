"""Trained weights and their card, found by a hash: whoever asks first trains them, everybody else reads them.

``<cache>/scorers/<key>/`` holds ``model.safetensors`` (what training has changed; the rest is the encoder, whose hash
is part of the key), ``card.json`` and ``card.md``. The directory is written under another name and then renamed, so an
interrupted training leaves nothing that looks complete. Two processes that want the same scorer wait for each other.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file
from torch import Tensor

from emorl_bench.core.damage import reading
from emorl_bench.core.errors import UserError
from emorl_bench.offline.fetching import cache_root
from emorl_bench.scorer_training.cards import card, machine, markdown
from emorl_bench.scorer_training.encoders import encoder_hash, load_encoder
from emorl_bench.scorer_training.loop import fit, read, seeded
from emorl_bench.scorer_training.nets import ScorerNet, Text
from emorl_bench.scorer_training.preference_heads import RewardHeads
from emorl_bench.scorer_training.settings import Settings
from emorl_bench.scorer_training.study import Study

REVISION = 1  # increase it where the same settings and data would train other weights
WEIGHTS, CARD, CARD_TEXT = "model.safetensors", "card.json", "card.md"

log = logging.getLogger(__name__)

N = TypeVar("N", ScorerNet, RewardHeads)


@dataclass(frozen=True)
class Order:
    """What is to be trained: name, twin, settings and device."""

    name: str
    twin: str
    settings: Settings
    device: str

    @property
    def label(self) -> str:
        """The name in messages."""
        return f"scorer {self.name} ({self.twin})"


def key(order: Order, data_fingerprint: str) -> str:
    """16 hex digits of settings, data, twin and encoder, which are equal where the same scorer would be trained."""
    settings = order.settings
    encoder = encoder_hash(settings.encoder, settings.revision)
    parts = [REVISION, order.name, order.twin, settings.trained_by(), data_fingerprint, encoder]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def place(order: Order, data_fingerprint: str) -> Path:
    """The directory of a trained scorer."""
    return cache_root() / "scorers" / key(order, data_fingerprint)


def sound(directory: Path) -> bool:
    """Whether the weights are those that the card describes."""
    return (directory / CARD).is_file() and _matches(directory, _stamp(directory / WEIGHTS))


def ensure(order: Order, study: Study, *, afresh: bool = False) -> Path:
    """The directory of a trained scorer. It is trained first where it is absent or damaged, or with ``afresh``.

    Raises:
        UserError: the cache cannot be written, or `fit` or `load_encoder` raises it.
    """
    directory = place(order, study.data["fingerprint"])
    rows = study.subject.units
    return kept(directory, order.label, rows, lambda draft: _train(order, study, draft), afresh=afresh)


def kept(directory: Path, label: str, rows: int, train: Callable[[Path], None], *, afresh: bool = False) -> Path:
    """A directory that is complete.

    Where it is not, or with ``afresh``, ``train`` fills an empty draft, which is then renamed.

    Raises:
        UserError: the cache cannot be written, or ``train`` raises it.
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
                with torch.enable_grad():  # the caller may be scoring, without gradients
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
    settings = order.settings

    def learn(net: ScorerNet, tokenizer: Any) -> list[float]:
        return fit(net, tokenizer, study.subject, settings, order.label)

    _, record = trained(draft, order, study, lambda: _fresh(order, study.subject.outputs), learn, read)
    write_card(draft, record, markdown(record))


def trained(
    draft: Path,
    order: Order,
    study: Study,
    fresh: Callable[[], tuple[N, Any]],
    learn: Callable[[N, Any], list[float]],
    read: Callable[[N, Any, Sequence[Text], Settings], Tensor],
) -> tuple[N, dict[str, Any]]:
    """Train a net, judge it, and write its weights into ``draft``.

    Args:
        draft: an empty directory, named after the key of what is trained.
        order: what is to be trained.
        study: what it learns from and is judged by.
        fresh: a new net and its tokenizer; drawn with the seed of ``order``.
        learn: trains them in place and returns the mean loss of each epoch.
        read: (N, O) outputs of the net for texts.

    Returns:
        The net, and its card.
    """
    started, busy, settings = time.monotonic(), time.process_time(), order.settings
    devices = [torch.device(order.device)] if order.device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices):
        seeded(settings.seed)
        net, tokenizer = fresh()
        losses = learn(net, tokenizer)
    seconds, cpu_seconds = round(time.monotonic() - started, 3), round(time.process_time() - busy, 1)
    verdict = study.subject.judge(read(net, tokenizer, study.subject.report_texts(), settings))
    digest = write_weights(draft, net.learned())
    training = {
        "loss_by_epoch": losses,
        "train_seconds": seconds,
        "train_cpu_seconds": cpu_seconds,  # less than wall seconds where other programs use the machine
        "seconds": round(time.monotonic() - started, 1),
    }
    identity = {"name": order.name, "twin": order.twin, "key": draft.stem, "weights_sha256": digest}
    encoder = encoder_hash(settings.encoder, settings.revision)
    circumstances = {"encoder_hash": encoder, "machine": machine(order.device)}
    return net, card(identity, study, settings, net, verdict, training, circumstances, tokenizer)


def write_weights(draft: Path, weights: Mapping[str, torch.Tensor]) -> str:
    """Write the weights, and return the file's hash, which the card must state as ``weights_sha256``."""
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, draft / WEIGHTS)
    return _digest(draft / WEIGHTS)


def write_card(draft: Path, record: Mapping[str, Any], text: str) -> None:
    """Write the card as JSON and as Markdown."""
    (draft / CARD).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (draft / CARD_TEXT).write_text(text, encoding="utf-8")


def read_card(directory: Path) -> dict[str, Any]:
    """The card of a trained scorer."""
    found: dict[str, Any] = json.loads((directory / CARD).read_text(encoding="utf-8"))
    return found


def load_net(order: Order, directory: Path, outputs: int) -> tuple[ScorerNet, Any]:
    """A trained network on its device, and its tokenizer.

    Raises:
        UserError: the weights do not fit the encoder.
    """
    with torch.random.fork_rng(devices=[]):  # a random head is made, and then overwritten
        net, tokenizer = _fresh(order, outputs)
    return with_weights(net, directory, order.label), tokenizer


def with_weights(net: N, directory: Path, label: str) -> N:
    """A net with the weights in a directory, in evaluation mode and without gradients.

    Raises:
        UserError: the weights do not fit the encoder.
    """
    with reading(directory / WEIGHTS, f"remove {directory} to train it again"):
        weights = load_file(directory / WEIGHTS)
    if missing := set(net.learned()) ^ set(weights):
        raise UserError(f"{label}: {directory} does not fit its encoder ({sorted(missing)[0]}); remove it")
    with reading(directory / WEIGHTS, f"remove {directory} to train it again"):
        net.load_state_dict(weights, strict=False)
    net.eval().requires_grad_(False)
    return net


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
    """Time and size of a file, to notice changes: hashing 90 MB at each call would be slow."""
    return (path.stat().st_mtime_ns, path.stat().st_size) if path.is_file() else (0, 0)


@lru_cache(maxsize=32)
def _matches(directory: Path, stamp: tuple[int, int]) -> bool:
    try:
        return stamp != (0, 0) and read_card(directory)["weights_sha256"] == _digest(directory / WEIGHTS)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # a damaged card: it is trained again
        return False


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
