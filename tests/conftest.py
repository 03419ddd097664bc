"""Tiny random models of a few architectures, and a bench around them that needs no assets."""

from __future__ import annotations

import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from emorl_bench.core.ledger import Ledger
from emorl_bench.core.protocols import Bench, Runtime
from emorl_bench.core.types import Budget, Example, Sampling, Training
from emorl_bench.decoding.decode import Decoder
from emorl_bench.models.backbone import Backbone
from emorl_bench.models.causal import CausalBackbone
from emorl_bench.models.lora import AdapterSettings
from emorl_bench.models.seq2seq import Seq2SeqBackbone
from emorl_bench.policies.adapter_policy import AdapterBank, AdapterPolicy
from emorl_bench.rl.scst import Scst
from emorl_bench.scorers.panel import ScorerPanel

torch.set_num_threads(1)

CPU = torch.device("cpu")
VOCABULARY = 40
SPREAD = 0.2  # of random weights: with the usual 0.02 the frozen head could not express a preference
ARCHITECTURES = ("t5", "gpt2", "llama")


def word_tokenizer() -> PreTrainedTokenizerFast:
    words = {"<pad>": 0, "</s>": 1, "<unk>": 2, "<sep>": 3, **{f"w{i}": i for i in range(4, VOCABULARY)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "sep_token": "<sep>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def tiny_model(architecture: str, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    ids = {"pad_token_id": 0, "eos_token_id": 1}
    if architecture == "t5":
        shape = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
        return T5ForConditionalGeneration(T5Config(vocab_size=VOCABULARY, decoder_start_token_id=0, **shape, **ids))
    if architecture == "gpt2":
        shape = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "initializer_range": SPREAD}
        return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, bos_token_id=1, **shape, **ids))
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    if architecture == "qwen":
        shape |= {"num_key_value_heads": 2, "vocab_size": VOCABULARY}
        return Qwen2ForCausalLM(Qwen2Config(initializer_range=SPREAD, bos_token_id=1, **shape, **ids))
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY, initializer_range=SPREAD, num_key_value_heads=2, bos_token_id=1, **shape, **ids
        )
    )


def make_bank(
    architecture: str,
    *,
    dtype: torch.dtype = torch.float32,
    rank: int = 4,
    max_rows: int = 4096,
    device: torch.device = CPU,
) -> AdapterBank:
    family: type[Backbone] = Seq2SeqBackbone if architecture == "t5" else CausalBackbone
    model = tiny_model(architecture).to(device, dtype)
    backbone = family(model, word_tokenizer(), AdapterSettings(rank=rank, alpha=8.0), 64)
    return AdapterBank(Decoder(backbone, Ledger(device), max_rows), seed=0)


def shaken(bank: AdapterBank, seed: int, strength: float = 0.3) -> AdapterPolicy:
    """A policy whose adapter is random in both factors, so it differs from the base and from other seeds."""
    policy = bank.new_policy(f"expert{seed}")
    rng = torch.Generator().manual_seed(seed)
    noise = {k: strength * torch.randn(v.shape, generator=rng) for k, v in policy.adapter().items()}
    policy.load_adapter({k: v + noise[k].to(v.device) for k, v in policy.adapter().items()})
    return policy


def word_prompts(count: int) -> list[Example]:
    return [Example(str(i), " ".join(f"w{4 + (7 * i + 3 * j) % 36}" for j in range(3 + i % 5))) for i in range(count)]


@dataclass(frozen=True)
class WordShare:
    """Share of a response's words whose number is ``remainder`` modulo ``of``: a reward that any policy can learn."""

    name: str
    remainder: int
    of: int = 2
    bounds: tuple[float, float] = (0.0, 1.0)

    def score(self, examples: Sequence[Example], responses: Sequence[str]) -> Tensor:
        hits = [[int(w[1:]) % self.of == self.remainder for w in r.split() if w[0] == "w"] for r in responses]
        return torch.tensor([sum(h) / max(len(r.split()), 1) for h, r in zip(hits, responses, strict=True)])


@dataclass
class MemoryTracker:
    rows: list[dict[str, Any]] = field(default_factory=list)

    def log(self, metrics: Any, *, step: int) -> None:
        self.rows.append({"step": step, **metrics})

    def table(self, name: str, rows: Any) -> None: ...

    def again(self) -> None: ...

    def close(self, status: str) -> None: ...


def make_bench(tmp_path: Path, architecture: str = "t5", *, steps: int = 4, **changes: Any) -> Bench:
    bank = changes.pop("bank", None) or make_bank(architecture)
    ledger = bank.decoder.ledger
    scorers = [WordShare("even", 0), WordShare("odd", 1)]
    panel = ScorerPanel(changes.pop("scorers", scorers), ledger)
    training = Training(batch_prompts=6, samples_per_prompt=4, validate_every=4, window=50, checkpoint_every=2)
    given: dict[str, Any] = {
        "train": word_prompts(24),
        "select": word_prompts(8),
        "objectives": panel.objectives,
        "score": panel.score,
        "new_policy": bank.new_policy,
        "update": Scst(learning_rate=2e-2, kl_coefficient=0.0),
        "reward": "linear",
        "training": training,
        "budget": Budget(samples=6 * 4 * steps),  # of training alone: validations and searches are free
        "sampling": Sampling(8, samples_per_prompt=4),
        "tracker": MemoryTracker(),
        "ledger": ledger,
        "seed": 0,
        "dir": tmp_path / "run",
    }
    runtime = {"experts_dir": tmp_path / "experts", "fingerprint": architecture}
    runtime |= {f.name: changes.pop(f.name) for f in fields(Runtime) if f.name in changes}
    bank.decoder.ranks = runtime.get("ranks", bank.decoder.ranks)
    (tmp_path / "run").mkdir(exist_ok=True)
    return Bench(**{**given, **changes}, runtime=Runtime(**runtime))


@pytest.fixture(params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Start the ``main`` of a program that must refuse its arguments; returns the one line that it says."""

    def told(main: Callable[[], object], *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["emorl-bench", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        line = capsys.readouterr().err
        assert (ended.value.code, line.count("\n")) == (2, 1), line
        return line

    return told


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., Bench]:
    return lambda *args, **changes: make_bench(tmp_path, *args, **changes)
