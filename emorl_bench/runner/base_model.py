"""The configured base model: where it is, its hash, its prompt format, and how it is loaded.

This file also checks that the model can express the answers of a task.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import lru_cache

import torch

from emorl_bench.assets.shipped import asset_dir
from emorl_bench.config.hardware import LOW_PRECISION
from emorl_bench.config.rollouts import uses_vllm
from emorl_bench.config.schema import Config
from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Task
from emorl_bench.core.ranks import Ranks
from emorl_bench.core.types import Correction
from emorl_bench.models.backbone import Backbone
from emorl_bench.models.loading import ModelSource, load_backbone
from emorl_bench.models.lora import AdapterSettings
from emorl_bench.models.prompting import PLACE, PromptFormat
from emorl_bench.models.sharding import shard
from emorl_bench.offline import Located
from emorl_bench.offline.content import content_hash
from emorl_bench.runner.directory import RunDirectory
from emorl_bench.runner.placement import torch_dtype
from emorl_bench.runner.provenance import with_model

log = logging.getLogger(__name__)

EMBEDDED = "embedded:"
CPU = torch.device("cpu")


def model_source(config: Config) -> ModelSource:
    """Where the base model is. Embedded models are files of this package."""
    names = {field.name for field in fields(ModelSource)}
    model = {k: v for k, v in config["model"].items() if k in names}
    if model["path"].startswith(EMBEDDED):
        model["path"] = str(asset_dir(model["path"].removeprefix(EMBEDDED)))
    return ModelSource(**model)


def locate_model(config: Config) -> Located:
    """The base model's directory and where it came from, in the words of the configuration."""
    path, located = config["model"]["path"], model_source(config).located()
    return replace(located, asked=path, source="this project") if path.startswith(EMBEDDED) else located


def prompt_format(config: Config, task: Task) -> PromptFormat:
    """How the task's prompts are presented to the model. A task may leave this open."""
    system, template = getattr(task, "system_prompt", None), getattr(task, "template", None)
    return PromptFormat(system, PLACE if template is None else template, config["model"].get("chat", "auto"))


def dtype_name(config: Config) -> str:
    """The base model's own dtype, or else the hardware's."""
    return str(config["model"].get("dtype") or config["hardware"]["dtype"])


def correction(config: Config) -> Correction | None:
    """What updates do about a sampler that rounds otherwise than the training pass; None where it does not matter."""
    how = config["hardware"].get(
        "sampler_correction", "none"
    )  # earlier runs, which `emorl-generate` loads, lack the key
    if not (dtype_name(config) in LOW_PRECISION or uses_vllm(config)) or how == "none":
        return None
    return Correction(how == "importance", config["hardware"]["importance_limit"])


def load_base(config: Config, task: Task, device: torch.device, ranks: Ranks) -> Backbone:
    """The base model, whole on this rank's device or divided among all ranks."""
    adapter = config["model"]["adapter"]
    targets = None if adapter["targets"] is None else tuple(adapter["targets"])
    backbone = load_backbone(
        model_source(config),
        AdapterSettings(**{**adapter, "targets": targets}),
        CPU if ranks.in_step else device,
        torch_dtype(dtype_name(config)),
        prompt_format(config, task),
        config["sampling"]["max_new_tokens"],
    )
    if ranks.in_step:
        shard(backbone, device)
    return backbone


def check_answer_room(task: Task, backbone: Backbone, new_tokens: int) -> None:
    """Check that the task's longest answer, with its end token, fits ``new_tokens`` tokens of this model.

    Raises:
        UserError: it does not, or it holds a word that the model's tokenizer does not know.
    """
    answer = task.longest_answer()
    if answer is None:
        return
    tokenizer = backbone.tokenizer
    ids = list(tokenizer(answer, add_special_tokens=False)["input_ids"])
    if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in ids:
        unknown = next((word for word in answer.split() if tokenizer.unk_token_id in _ids(tokenizer, word)), answer)
        raise UserError(
            f"model.path: this model has no word for '{unknown}', which answers of this task may need; "
            "use a larger model, or make the task easier (sums: task.levels, task.largest_term)"
        )
    if (needed := len(ids) + 1) > new_tokens:
        raise UserError(
            f"sampling.max_new_tokens={new_tokens}: the longest answer of this task takes {needed} tokens of this "
            f"model, its end included; give {needed} or more"
        )


def _ids(tokenizer: object, word: str) -> list[int]:
    return list(tokenizer(word, add_special_tokens=False)["input_ids"])  # type: ignore[operator]


@lru_cache(maxsize=4)  # a job calls this three times, and a real model has gigabytes
def weights_hash(located: Located) -> str:
    """Hash of all files that decide what a model says; for a snapshot of the hub, its name and commit."""
    if located.commit is not None:
        return f"{located.asked}@{located.commit}"
    return content_hash(located.directory)


def note_model(config: Config, directory: RunDirectory, truncated: Mapping[str, int]) -> None:
    """Log and record which model this is, and how many prompts of each split are longer than the model reads."""
    located, limit = locate_model(config), config["model"]["max_prompt_tokens"]
    log.info("model: %s", located)
    if any(truncated.values()):
        counts = ", ".join(f"{count} of {split}" for split, count in truncated.items())
        log.info("prompts longer than model.max_prompt_tokens=%d lose their beginning: %s", limit, counts)
    record = directory.read_json("provenance.json") or {"sessions": []}
    directory.write_json("provenance.json", with_model(record, located.record()))
