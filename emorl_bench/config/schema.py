"""The typed root of every configuration: an unknown key, or a value of another type, is an error.

The YAML files in ``conf`` hold the numbers; this file holds names and types. ``task``, ``method``, ``update`` and
``tracker`` are open on purpose: they may contain what the signature of their ``_target_`` allows
(`emorl_bench.config.targets`).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from emorl_bench.config.hardware import CORRECTION, low_precision
from emorl_bench.config.rollouts import OWN, uses_vllm

Config = Mapping[str, Any]
"""A plain, resolved configuration: nested mappings and lists."""

NON_SEMANTIC_KEYS = (
    "kl_coefficient",
    "tracker",
    "runs_dir",
    "force",
    "names",
    "hardware.threads",
    "hardware.max_rows",
    "hardware.block_bytes",
    "hardware.max_corpus_mb",
    "hardware.vllm_memory",
    "hardware.shard_base",
    "hardware.joint_experts",
    "hardware.check_every",
    "hardware.graphs",
    "hardware.scorer_device",
    "task.data_dir",
    "task.scorers.*.data_dir",
    "model.path",
    "model.fallback",
)
"""What does not change a run's numbers; ``*`` is any key. Data and model are hashed by content instead of by place.
The KL coefficient of the root acts through the update rules that take it, where it is decided."""


@dataclass
class AdapterConfig:
    """The LoRA adapter of a policy."""

    rank: int = MISSING
    alpha: float = MISSING
    dropout: float = MISSING
    targets: list[str] | None = None
    """Names of the layers that get an adapter; null: every linear layer but the head."""


@dataclass
class ModelConfig:
    """The base model."""

    family: str = MISSING
    """``seq2seq`` or ``causal``."""
    path: str | None = None
    """A local directory, a name on the hub, ``embedded:NAME`` or ``offline:NAME``."""
    revision: str | None = None
    fallback: str | None = None
    """``offline:NAME``, which is used where the hub cannot be reached."""
    trust_remote_code: bool = False
    max_prompt_tokens: int = MISSING
    dtype: str | None = None
    """``float32`` or ``bfloat16``; null: ``hardware.dtype``."""
    quantisation: str | None = None
    """``4bit`` or ``8bit``: linear layers but the head are quantised as the weights are read."""
    attention: str | None = None
    """``eager``, ``sdpa`` or ``flash_attention_2``; null: the choice of transformers."""
    gradient_checkpointing: bool = False
    """Whether training computes each block again in the backward pass, to save memory."""
    chat: str = "auto"
    """``on``, ``off``, or ``auto``: use the model's chat template where it has one."""
    adapter: AdapterConfig = field(default_factory=AdapterConfig)


@dataclass
class TrainingConfig:
    """The training schedule (`core.types.Training`)."""

    batch_prompts: int = MISSING
    samples_per_prompt: int = MISSING
    validate_every: int = MISSING
    window: int = MISSING
    variation: float = MISSING
    stop_when_converged: bool = MISSING
    checkpoint_every: int = MISSING


@dataclass
class BudgetConfig:
    """Limits of what a method may spend (`core.types.Budget`), and the sizes of the splits."""

    prompts: int | None = None
    samples: int | None = None
    generated_tokens: int | None = None
    seconds: float | None = None
    expert_prompts: int | None = None
    """Prompts of each expert; null: an even share."""
    ladder: list[float] = MISSING
    """Shares of the budget at which a run is graded; the last one is 1."""
    select_prompts: int | None = None
    report_prompts: int | None = None
    training: TrainingConfig = field(default_factory=TrainingConfig)


@dataclass
class HardwareConfig:
    """Device, precision and division of the work.

    Numbers depend on device, dtypes and rollouts and, in bfloat16 or with vLLM, on `CORRECTION`.
    """

    device: str = MISSING
    """``auto``, ``cpu``, ``cuda`` or ``cuda:NUMBER``."""
    dtype: str = MISSING
    """``auto``, ``float32``, ``tf32`` (products rounded), ``bfloat16``; ``float64`` to compare machines."""
    threads: int | None = MISSING
    """Null: the job's share of the cores."""
    max_rows: int = MISSING
    """Rows that are decoded at once."""
    block_bytes: int | None = None
    """Bytes of what is made of logits at a time; null: a share of the free memory."""
    max_corpus_mb: int = MISSING
    """The most megabytes that one file of a corpus may hold, unpacked."""
    scorer_device: str | None = None
    """Null: the policy's device."""
    scorer_dtype: str = MISSING
    """``float32`` or ``bfloat16``."""
    joint_experts: bool | str = MISSING
    """Whether experts share decodes and passes: ``auto`` where it saves time; false: they are trained in turn."""
    check_every: int | None = None
    """Tokens between two looks for ends of answers; null: 1 on a CPU, more on a GPU."""
    graphs: bool | str = MISSING
    """Whether decode steps are recorded as CUDA graphs: ``auto`` where it saves time."""
    shard_base: bool = MISSING
    """Whether the base model's blocks are divided among the processes of a distributed run."""
    sampler_correction: str = MISSING
    """What updates do about another sampler (`rl.sampler_mismatch`): ``recompute``, ``importance``, ``none``."""
    importance_limit: float = MISSING
    """The largest importance weight of a token."""
    rollouts: str = MISSING
    """Who decodes single policies and merges: ``own`` or ``vllm``."""
    vllm_memory: float = MISSING
    """The share of the GPU's memory that vLLM takes."""


@dataclass
class SamplingConfig:
    """How training rollouts, and sampled answers of the report, are decoded."""

    max_new_tokens: int = MISSING
    temperature: float = MISSING


@dataclass
class PreferencesConfig:
    """The preferences that a method is graded at."""

    divisions: int = MISSING
    """Steps of the grid along each edge of the simplex; 0: the centre alone."""


@dataclass
class RootConfig:
    """The configuration of a run."""

    task: Any = MISSING
    model: ModelConfig = field(default_factory=ModelConfig)
    update: Any = MISSING
    method: Any = MISSING
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    tracker: Any = MISSING
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    preferences: PreferencesConfig = field(default_factory=PreferencesConfig)
    decoding: list[str] = MISSING
    """The decodings that a method is graded with: ``greedy``, ``sampled``."""
    kl_coefficient: float = MISSING
    """Reward that one nat of KL to the base model costs. Every update rule takes it."""
    reward: str = MISSING
    """``linear`` or ``log``: the shape of a score inside a reward."""
    seed: int = MISSING
    runs_dir: str = MISSING
    force: bool = MISSING


def what_decides(config: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a plain configuration without `NON_SEMANTIC_KEYS`: what can change the numbers of a run."""
    kept = copy.deepcopy(dict(config))
    for key in NON_SEMANTIC_KEYS:
        _drop(kept, key.split("."))
    if isinstance(model := kept.get("model"), dict) and model.get("quantisation") is None:
        model.pop("quantisation", None)  # runs from before this key keep their hash
    hardware = kept.get("hardware")
    if isinstance(hardware, dict):
        if hardware.get("rollouts") == OWN:  # the value of all runs that have no such key
            del hardware["rollouts"]
        for key in CORRECTION if not (low_precision(config) or uses_vllm(config)) else ():
            hardware.pop(key, None)
    return kept


def _drop(node: Any, path: Sequence[str]) -> None:
    if not isinstance(node, dict):
        return
    first, rest = path[0], path[1:]
    for key in list(node) if first == "*" else [first]:
        if rest:
            _drop(node.get(key), rest)
        else:
            node.pop(key, None)


def register() -> None:
    """Make ``schema`` known to Hydra. It may be called again."""
    ConfigStore.instance().store(name="schema", node=RootConfig, provider="emorl_bench")
