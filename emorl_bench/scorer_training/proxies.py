"""Proxies of a gold scorer that are small enough to be over-optimised: networks that learn from its preferences.

A proxy consists of units. A unit is one encoder with one or more linear heads, trained with the Bradley-Terry loss
(`preference_training`). ``k`` units with one head each are a full ensemble (Coste et al., arXiv 2310.02743). Its first
unit alone is the single proxy. One unit with ``k`` heads is the shared form (arXiv 2406.01013). So a larger full
ensemble contains the smaller ones, and is trained once. Units of one ensemble learn from the same pairs and the same
wrong labels; each has its own initial weights and its own order of the data.

Against the papers: encoders are initialised at random and not pre-trained, so members of a full ensemble differ more
than fine-tuned copies of one model would. They are trained for several epochs, because they are small.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerFast

from emorl_bench.assets.reader import PAD_ID
from emorl_bench.assets.scoring import SCORERS
from emorl_bench.assets.shipped import asset_dir, content_key
from emorl_bench.core.seeds import seed_for
from emorl_bench.offline.fetching import cache_root
from emorl_bench.scorer_training.artefacts import WEIGHTS, kept, read_card, write_card, write_weights
from emorl_bench.scorer_training.gold_preferences import GoldPairs
from emorl_bench.scorer_training.nets import Text
from emorl_bench.scorer_training.preference_heads import HeadSettings, RewardHeads, read_near, standardise
from emorl_bench.scorer_training.preference_training import fit
from emorl_bench.scorer_training.preferences import Choices, Preferences
from emorl_bench.scorer_training.proxy_encoder import MatchEncoder

REVISION = 2  # increase it where the same settings would train other weights
JUDGED_PAIRS = 256
REMEMBERED = 100_000  # texts


@dataclass(frozen=True)
class Unit:
    """One encoder with its heads. ``member`` is the encoder's number in the ensemble."""

    data: GoldPairs
    heads: int
    member: int
    width: int
    epochs: int
    batch: int
    """Pairs that a step of the encoder reads, whatever the number of heads."""
    rate: float

    @property
    def label(self) -> str:
        """The name in messages."""
        return f"proxy, noise {self.data.label_noise:g}, member {self.member}, {self.heads} head(s)"

    @property
    def directory(self) -> Path:
        """Where weights and card are, or will be; the name is a hash of all that decides them."""
        parts = [REVISION, asdict(self), content_key()]
        return cache_root() / "proxies" / hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def settings(self) -> HeadSettings:
        """The settings of the training."""
        return HeadSettings(
            encoder="",
            pooling="",
            reads="pair",
            freeze_layers=0,
            max_tokens=0,
            epochs=self.epochs,
            batch=max(1, self.batch // self.heads),
            rate=self.rate,
            head_rate=self.rate,
            dtype="float32",
            seed=seed_for(self.data.seed, "proxy", self.member),
            heads=self.heads,
            full=False,
            label_noise=self.data.label_noise,
            statistic="mean",
            uncertainty_weight=0.0,
        )


class ProxyHeads(RewardHeads):
    """Linear heads on a `MatchEncoder`, which includes the pooling."""

    def features(self, inputs: dict[str, Tensor], member: int) -> Tensor:
        """(B, H) features of texts from one encoder."""
        hidden_BH: Tensor = self.encoders[member](**inputs)
        return hidden_BH


class Words:
    """A tokenizer of prompts (B, S) and responses (B, T), in the form that `fit` and `read` call. Nothing is cut.

    Every text is read often, by all members in every epoch, so its ids are cached.
    """

    def __init__(self) -> None:
        """The tokenizer of the shipped scorers."""
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(asset_dir(SCORERS))
        self.ids = lru_cache(maxsize=REMEMBERED)(self._ids)

    def __call__(self, prompts: Sequence[str], responses: Sequence[str], **_: Any) -> dict[str, Tensor]:
        """Padded ids of prompts and responses."""
        return {"prompt_BS": self._padded(prompts), "response_BT": self._padded(responses)}

    def _ids(self, text: str) -> Tensor:
        return torch.tensor(self.tokenizer(text, add_special_tokens=False)["input_ids"], dtype=torch.long)

    def _padded(self, texts: Sequence[str]) -> Tensor:
        ids_BT = pad_sequence([self.ids(text) for text in texts], batch_first=True, padding_value=PAD_ID)
        return ids_BT if ids_BT.shape[1] else torch.full((len(texts), 1), PAD_ID)


@lru_cache(maxsize=1)
def _words() -> Words:
    return Words()


def ensure(unit: Unit) -> Path:
    """The directory of a trained unit. It is trained first where it is absent or damaged."""
    return kept(unit.directory, unit.label, unit.data.pairs, lambda draft: _train(unit, draft))


def card(unit: Unit) -> dict[str, Any]:
    """The card of a trained unit: its size, seconds of training, and agreement with gold."""
    return read_card(ensure(unit))


def size(width: int, heads: int = 1) -> int:
    """Number of parameters of a unit."""
    net = ProxyHeads([MatchEncoder(len(_words().tokenizer), width)], "", heads)
    return sum(p.numel() for p in net.parameters())


@torch.no_grad()
def rewards(unit: Unit, texts: list[Text], device: str = "cpu") -> Tensor:
    """(B, heads) rewards on the CPU, in standard deviations of the training texts.

    They are computed in float64 and rounded to float32, so those of a text depend on no other text.
    """
    net, words = _loaded(unit, device)
    return read_near(net, words, texts, unit.settings)


@lru_cache(maxsize=32)
def _loaded(unit: Unit, device: str) -> tuple[ProxyHeads, Words]:
    directory = ensure(unit)
    net, words = _fresh(unit)
    net.load_state_dict(load_file(directory / WEIGHTS))
    return net.to(device, torch.float64).eval().requires_grad_(False), words


def _fresh(unit: Unit) -> tuple[ProxyHeads, Words]:
    words = _words()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(unit.settings.seed)
        return ProxyHeads([MatchEncoder(len(words.tokenizer), unit.width)], "", unit.heads), words


def _train(unit: Unit, draft: Path) -> None:
    learnt = Preferences(unit.data.labelled(), (), unit.heads, 0.0)
    net, words = _fresh(unit)
    started, busy = time.monotonic(), time.process_time()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(unit.settings.seed)
        losses = fit(net, words, learnt, unit.settings, unit.label)
        standardise(net, words, learnt.train_texts(), unit.settings)
    seconds, cpu_seconds = time.monotonic() - started, time.process_time() - busy
    parameters = sum(p.numel() for p in net.parameters())
    record = {
        "unit": asdict(unit),
        "weights_sha256": write_weights(draft, net.learned()),
        "parameters": parameters,
        "bytes": sum(p.numel() * p.element_size() for p in net.parameters()),
        "train_seconds": round(seconds, 3),
        "train_cpu_seconds": round(cpu_seconds, 3),
        "loss_by_epoch": losses,
        "agreement_with_gold": _agreement(net, words, unit),
    }
    shown = ("parameters", "train_cpu_seconds", "agreement_with_gold")
    lines = [f"# {unit.label}", "", *(f"- {key.replace('_', ' ')}: {record[key]}" for key in shown), ""]
    write_card(draft, record, "\n".join(lines))


def _agreement(net: ProxyHeads, words: Words, unit: Unit) -> float:
    """Share of other, correctly labelled pairs that the mean of the heads has in gold's order."""
    judged: list[Choices] = unit.data.judged_on(JUDGED_PAIRS)
    texts = [text for choice in judged for text in choice.texts]
    reward_P2 = read_near(net.eval(), words, texts, unit.settings).mean(1).view(-1, 2)
    better_P, worse_P = torch.tensor([choice.pairs[0] for choice in judged]).T
    rows_P = torch.arange(len(judged))
    return (reward_P2[rows_P, better_P] > reward_P2[rows_P, worse_P]).double().mean().item()
