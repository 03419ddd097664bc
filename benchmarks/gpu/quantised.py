"""Bases in 4 bits beside bfloat16: memory and time of a decode and of a training step.

The model has random weights and the shape of Llama-3.2-1B. It is written to a directory and read as a run reads it, so
``model.quantisation`` is what is measured.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import torch

from benchmarks.gpu.choices import as_runs_decode
from benchmarks.gpu.kit import Kit, Number
from benchmarks.models import NEVER, RANK, SHAPES, Setting, Shape, micro, word_prompts, word_tokenizer
from benchmarks.timing import Timing, interleaved, timed
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Rollout, Sampling
from emorl_bench.decoding.decode import Decoder
from emorl_bench.models.loading import ModelSource, load_backbone
from emorl_bench.models.lora import AdapterSettings
from emorl_bench.policies.adapter_policy import AdapterBank

SHAPE, ROWS = "llama_1b", 64
BITS = "4bit"
PACKAGE = "bitsandbytes"
STEP = "quantised"
SIDES = {"bfloat16": None, BITS: BITS}


def measure_quantised(kit: Kit) -> None:
    """Measure both bases one after the other, each with the whole card, then in turns."""
    if find_spec(PACKAGE) is None:
        kit.skip(f"a base in {BITS}", f"{PACKAGE} is not installed")
    elif kit.wants(f"a base in {BITS}", STEP, 0.0 if kit.settings.quick else 30.0):
        with kit.attempt(f"a base in {BITS}", STEP), tempfile.TemporaryDirectory() as directory:
            compare(kit, Path(directory))


@dataclass
class Base:
    """One base model with one adapter.

    Attributes:
        setting: the model and its policy.
        weights: bytes that the model and the adapter hold; 0 without a GPU.
        rollout: answers that a training step learns from.
        peaks: bytes that were held at most by a decode and by a training step, beside nothing else; 0 without a GPU.
    """

    setting: Setting
    weights: int
    rollout: Rollout
    peaks: dict[str, int]

    def decode(self) -> Callable[[], object]:
        """A greedy decode of new prompts."""
        examples, greedy = self.setting.prompts(), Sampling(self.setting.new_tokens, temperature=0.0)
        return lambda: self.setting.experts[0].generate(examples, greedy, stream(0))

    def train(self) -> Callable[[], object]:
        """Log-probabilities of the rollout, and their gradients."""
        policy = self.setting.experts[0]

        def act() -> None:
            policy.logprobs(self.rollout).sum().backward()  # type: ignore[no-untyped-call]
            for parameter in policy.parameters():
                parameter.grad = None

        return act


def compare(kit: Kit, directory: Path) -> None:
    """Load both bases, take their peaks while each is alone, and time them in turns."""
    shape = micro(SHAPES[SHAPE]) if kit.settings.quick else replace(SHAPES[SHAPE], prompts=ROWS)
    shape.model().to(kit.settings.dtype).save_pretrained(directory)
    word_tokenizer(shape.vocabulary).save_pretrained(directory)
    peaks = {side: loaded(kit, shape, directory, bits).peaks for side, bits in SIDES.items()}
    kit.tidy()
    bases = {side: loaded(kit, shape, directory, bits) for side, bits in SIDES.items()}
    for what in ("decode", "train"):
        acts = {side: timed(getattr(base, what), kit.device) for side, base in bases.items()}
        timings = interleaved(f"{what}, {' and '.join(SIDES)}", acts, kit.settings.repeats)
        record(
            kit, shape, what, timings, {side: {**own, "weights": bases[side].weights} for side, own in peaks.items()}
        )


def loaded(kit: Kit, shape: Shape, directory: Path, bits: str | None) -> Base:
    """Read a base model as a run does, and use it once."""
    before = held(kit.device)
    source = ModelSource("causal", str(directory), max_prompt_tokens=shape.prompt_tokens[1], quantisation=bits)
    adapter = AdapterSettings(rank=RANK, alpha=4.0 * RANK)
    backbone = load_backbone(source, adapter, kit.device, kit.settings.dtype)
    backbone.eos, backbone.other_ends = NEVER, []
    ledger = Ledger(kit.device)
    bank = AdapterBank(Decoder(backbone, ledger), seed=0)
    as_runs_decode(bank.decoder)
    policy = bank.new_policy("policy")
    setting = Setting(shape.name, shape.model, bank, [policy], shape.new_tokens, lambda c, n: word_prompts(shape, c, n))
    weights = held(kit.device) - before
    rollout = policy.generate(setting.prompts(), Sampling(shape.new_tokens, 1.0), stream(0, "rollout"))
    base = Base(setting, weights, rollout, {})
    for what in ("decode", "train"):
        act = getattr(base, what)()
        reset(kit.device)
        act()
        base.peaks[what] = most(kit.device) - before
    return base


def record(kit: Kit, shape: Shape, what: str, timings: dict[str, Timing], bytes_: dict[str, dict[str, int]]) -> None:
    """Record time and memory of one kind of work in 4 bits beside bfloat16."""
    plain, small = timings["bfloat16"], timings[BITS]
    facts = {"bfloat16_s": plain.median, "spread": small.spread}
    if kit.device.type == "cuda":
        for kind in (what, "weights"):
            facts |= {f"{side}_{kind}_GB": own[kind] / 1e9 for side, own in bytes_.items()}
    name = {"decode": "decode of", "train": "forward and backward of"}[what]
    number = Number(
        "quantised", f"{shape.name}, {shape.prompts} rows, {name} one policy on a base in 4 bits", small.median, "s",
        small.median / plain.median, "4 bits over bfloat16, time", facts, small.raw,
    )  # fmt: skip
    kit.number(f"quantised/{what}", number)


def held(device: torch.device) -> int:
    """Bytes that are given out now; 0 without a GPU."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def most(device: torch.device) -> int:
    """The most bytes that were given out since `reset`; 0 without a GPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def reset(device: torch.device) -> None:
    """Begin to take the peak."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
