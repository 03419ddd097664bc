"""Presets with random weights: the model's shape, the update rule, rows and lengths that a run would have."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from benchmarks.benches import WordShare
from benchmarks.gpu.choices import as_runs_decode
from benchmarks.models import BACKBONES, NEVER, word_prompts, word_tokenizer
from benchmarks.models import Shape as Work
from emorl_bench.assets.shipped import SHIPPED
from emorl_bench.config import schema
from emorl_bench.config.compose import conf_dir, plain
from emorl_bench.config.targets import build
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.memory import LARGEST, Memory
from emorl_bench.core.protocols import Policy
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Example, Rollout, Sampling
from emorl_bench.decoding.decode import Decoder
from emorl_bench.models.backbone import Backbone
from emorl_bench.models.loading import ModelSource, load_backbone
from emorl_bench.models.lora import AdapterSettings
from emorl_bench.policies.adapter_policy import AdapterBank
from emorl_bench.policies.together import generate_together
from emorl_bench.rl.update import Updater
from emorl_bench.runner.memory_plan import EMBEDDED, Plan, known_shapes, learners_of, plan
from emorl_bench.runner.placement import torch_dtype

EXPERIMENTS = ("cory_gsm8k", "offline_pair", "emorl_pair")
COMMON = ("method=weighted_ppo", "sampling.max_new_tokens=64")  # what docs/models.md plans every model with
REWARD = WordShare("even", 0, 2)
KINDS: dict[str, tuple[Any, Any]] = {
    "t5": (T5ForConditionalGeneration, partial(T5Config, decoder_start_token_id=0, dropout_rate=0.0)),
    "gpt2": (GPT2LMHeadModel, partial(GPT2Config, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config),
    "llama": (LlamaForCausalLM, LlamaConfig),
}


@dataclass(frozen=True)
class Preset:
    """What one preset asks for.

    Attributes:
        name: of the experiment, or of the model.
        settings: the whole plain configuration.
        plan: the memory that is planned for it.
        dims: the sizes of its model, by transformers' names.
    """

    name: str
    settings: dict[str, Any]
    plan: Plan
    dims: Mapping[str, Any]

    @property
    def packed(self) -> str | None:
        """``model.quantisation``."""
        found: str | None = self.settings["model"]["quantisation"]
        return found

    @property
    def kind(self) -> str:
        """The architecture, a key of `KINDS`."""
        if "d_kv" in self.dims:
            return "t5"
        if "n_embd" in self.dims:
            return "gpt2"
        qwen = self.dims.get("model_type") == "qwen2" or "Qwen" in self.settings["model"]["path"]
        return "qwen2" if qwen else "llama"


def presets(*overrides: str) -> list[Preset]:
    """The three experiments with a model of real size, then every base model that is known here, small ones first.

    Args:
        overrides: of the configuration, for all of them.
    """
    asked = [(name, (f"experiment={name}", "task.data_dir=.")) for name in EXPERIMENTS]
    files = sorted((conf_dir() / "model").glob("*.yaml"))
    models = [(file.stem, (f"model={file.stem}", *COMMON)) for file in files]
    found = [composed(name, *own, "hardware=cuda", *overrides) for name, own in [*asked, *models]]
    known = [preset for preset in found if preset is not None]
    return known[: len(asked)] + sorted(known[len(asked) :], key=lambda preset: preset.plan.peak)


def composed(name: str, *overrides: str) -> Preset | None:
    """The preset that a command line asks for; None where the sizes of its model are not known here."""
    schema.register()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        settings = plain(compose("config", overrides=list(overrides)))
    planned = plan(settings)
    return None if planned is None else Preset(name, settings, planned, sizes(settings["model"]["path"]))


def sizes(path: str) -> dict[str, Any]:
    """The ``config.json`` at a model's path, or what is known of a model of the hub."""
    place = SHIPPED / path.removeprefix(EMBEDDED) if path.startswith(EMBEDDED) else Path(path)
    file = place / "config.json"
    return dict(json.loads(file.read_text(encoding="utf-8")) if file.exists() else known_shapes()[path])


@dataclass
class Built:
    """Policies of a preset on a model with random weights, and what is done with them.

    No token ends an answer and every prompt is as long as the model reads, as the plan has it.
    """

    preset: Preset
    policies: list[Policy]
    learners: list[Any]
    ledger: Ledger

    def prompts(self, times: int = 1) -> list[Example]:
        """The prompts of a rollout, or ``times`` as many."""
        settings, training = self.preset.settings, self.preset.settings["budget"]["training"]
        longest = settings["model"]["max_prompt_tokens"]
        count = times * training["batch_prompts"] * settings["method"].get("batches", 1)
        work = Work("preset", "", {"vocab_size": self.preset.dims["vocab_size"]}, count, (longest, longest))
        return word_prompts(work, 0)

    def rollout(self) -> list[Rollout]:
        """One rollout of every policy: experts together on the same prompts, CORY's agents in turn.

        CORY's observer reads a prompt of its own for each answer of the pioneer.
        """
        given, each = self.preset.settings["sampling"], self.preset.settings["budget"]["training"]["samples_per_prompt"]
        sampling = Sampling(given["max_new_tokens"], given["temperature"], samples_per_prompt=each)
        rngs = [stream(i, "rollout") for i in range(len(self.policies))]
        if "swap_every" not in self.preset.settings["method"]:
            return generate_together(self.policies, self.prompts(), sampling, rngs)
        pioneer, observer = self.policies
        said = pioneer.generate(self.prompts(), sampling, rngs[0])
        return [said, observer.generate(self.prompts(each), replace(sampling, samples_per_prompt=1), rngs[1])]

    def update(self, rollouts: list[Rollout], *, joint: bool) -> bool:
        """One update of every policy.

        Args:
            rollouts: one for each policy.
            joint: whether they may share passes.

        Returns:
            whether they did until the end: a lack of memory ends it.
        """
        rewards: list[Tensor] = [torch.tensor(REWARD.of_texts(rollout.responses)) for rollout in rollouts]
        rngs = [stream(i, "update") for i in range(len(self.learners))]
        updater = Updater(self.ledger, joint=joint)
        updater.update(self.learners, rollouts, rewards, rngs)
        return updater.stacking.joint


def built(preset: Preset, device: torch.device) -> Built:
    """Make model, adapters and learners of a preset on a device."""
    settings, ledger = preset.settings, Ledger(device)
    backbone = new_backbone(preset, device)
    backbone.eos, backbone.other_ends = NEVER, []
    if settings["model"]["gradient_checkpointing"]:
        backbone.checkpoint_gradients()
    memory = Memory(settings["hardware"]["block_bytes"] or LARGEST)
    bank = AdapterBank(Decoder(backbone, ledger, settings["hardware"]["max_rows"], memory=memory), seed=0)
    as_runs_decode(bank.decoder)
    policies: list[Policy] = [bank.new_policy(f"learner{i}") for i in range(learners_of(settings))]
    rule = build(settings["update"])
    return Built(preset, policies, [rule.learner(policy, ledger) for policy in policies], ledger)


def new_backbone(preset: Preset, device: torch.device) -> Backbone:
    """The preset's base model with random weights, packed if it asks for that."""
    asked, kind, (model, config) = preset.settings["model"], preset.kind, KINDS[preset.kind]
    targets = None if asked["adapter"]["targets"] is None else tuple(asked["adapter"]["targets"])
    adapter = AdapterSettings(**{**asked["adapter"], "targets": targets})
    dtype, longest = torch_dtype(asked["dtype"] or preset.settings["hardware"]["dtype"]), asked["max_prompt_tokens"]
    torch.manual_seed(0)
    with device:
        base = model(config(**plain_sizes(preset.dims), pad_token_id=0, bos_token_id=1, eos_token_id=1))
    base, tokenizer = base.to(device, dtype).eval(), word_tokenizer(preset.dims["vocab_size"])
    if not preset.packed:
        return BACKBONES["seq2seq" if kind == "t5" else "causal"](base, tokenizer, adapter, longest)
    with tempfile.TemporaryDirectory() as directory:  # weights are packed as they are read, and in no other way
        base.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
        source: dict[str, Any] = {"max_prompt_tokens": longest, "quantisation": preset.packed}
        del base
        return load_backbone(ModelSource("causal", directory, **source), adapter, device, dtype)


def plain_sizes(dims: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes alone, without what a file says beside them, such as ids and a dtype."""
    left_out = ("model_type", "architectures", "dtype", "torch_dtype", "transformers_version")
    return {k: v for k, v in dims.items() if k not in left_out and "token_id" not in k and "drop" not in k}
