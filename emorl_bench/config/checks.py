"""Checks that need only the configuration. Each error is one line.

The command line runs these checks before it starts anything. Every job runs them again.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_type_hints

from emorl_bench.config.bounds import check_bounds, check_groups
from emorl_bench.config.extras import check_extras
from emorl_bench.config.hardware import check_device
from emorl_bench.config.quantisation import KINDS, check_quantisation
from emorl_bench.config.rollouts import OWN, VLLM, check_rollouts
from emorl_bench.config.schema import RootConfig
from emorl_bench.config.tree import leaves
from emorl_bench.config.types import fits, in_words, is_unicode
from emorl_bench.core.errors import UserError, did_you_mean
from emorl_bench.offline.locating import OFFLINE, is_local, resolve
from emorl_bench.offline.model_files import conversion

MISSING = "???"
FLASH = "flash_attention_2"
Condition = tuple[Callable[[Any], bool], str]

OPEN_KEYS = {"names"}  # keys that a job adds to its own configuration
SMALLEST_BLOCK = 1 << 20  # bytes; one position of 150,000 words takes two thirds of it
CHOICES = {
    "reward": ("linear", "log"),
    "model.family": ("seq2seq", "causal"),
    "model.dtype": (None, "float32", "bfloat16"),
    "model.quantisation": (None, *KINDS),
    "model.attention": (None, "eager", "sdpa", "flash_attention_2"),
    "model.chat": ("auto", "on", "off"),
    "hardware.dtype": ("auto", "float32", "tf32", "bfloat16", "float64"),
    "hardware.rollouts": (OWN, VLLM),
    "hardware.joint_experts": ("auto", True, False),
    "hardware.graphs": ("auto", True, False),
    "hardware.sampler_correction": ("recompute", "importance", "none"),
    "hardware.scorer_dtype": ("float32", "bfloat16"),
}
_positive: Condition = (lambda v: v > 0, "give a number above 0")
_limit: Condition = (lambda v: v is None or v > 0, "give a number above 0, or null for no limit")
_not_negative: Condition = (lambda v: v >= 0, "give 0 or more")
RULES: dict[str, Condition] = {
    "seed": (lambda v: 0 <= v < 2**31, "give a whole number from 0 to 2147483647"),
    **{f"budget.{k}": _limit for k in ("prompts", "samples", "generated_tokens", "seconds")},
    **{f"budget.{k}": _limit for k in ("select_prompts", "report_prompts", "expert_prompts")},
    **{f"budget.training.{k}": _positive for k in ("batch_prompts", "samples_per_prompt", "validate_every")},
    "budget.training.checkpoint_every": _positive,
    "budget.training.window": (lambda v: v >= 2, "give 2 or more: a spread needs two values"),
    "budget.training.variation": _not_negative,
    "kl_coefficient": _not_negative,
    "sampling.max_new_tokens": _positive,
    "sampling.temperature": (lambda v: v > 0, "give a number above 0: greedy rollouts cannot be learnt from"),
    "preferences.divisions": _not_negative,
    "hardware.threads": (lambda v: v is None or v > 0, "give a number above 0, or null for a share of the cores"),
    "hardware.importance_limit": (lambda v: v >= 1, "give 1 or more: equal probabilities have weight 1"),
    "hardware.max_rows": _positive,
    "hardware.check_every": (lambda v: v is None or v > 0, "give a number above 0, or null for the device's own"),
    "hardware.vllm_memory": (lambda v: 0 < v < 1, "give a share of the GPU's memory, above 0 and below 1"),
    "hardware.block_bytes": (
        lambda v: v is None or v >= SMALLEST_BLOCK,
        f"give {SMALLEST_BLOCK} (1 MiB) or more, or null for a share of the free memory",
    ),
    "hardware.max_corpus_mb": _positive,
    "model.max_prompt_tokens": _positive,
    "model.adapter.rank": _positive,
    "model.adapter.alpha": _positive,
    "model.adapter.dropout": (lambda v: 0 <= v < 1, "give a number from 0 to below 1"),
}


def check(config: Mapping[str, Any]) -> None:
    """Raise the first `UserError` that is found in a plain, resolved configuration."""
    _check_keys(config, RootConfig, "")
    check_values(config)
    check_groups(config)
    check_device(config["hardware"]["device"])
    for key, known in CHOICES.items():
        if (value := _at(config, key)) not in known:
            raise UserError(f"{key}={value}: unknown{did_you_mean(str(value), [str(k) for k in known if k])}")
    for key, (holds, remedy) in RULES.items():
        if not holds(value := _at(config, key)):
            raise UserError(f"{key}={value}: {remedy}")
    check_bounds(config)
    _check_decoding(config["decoding"])
    _check_budget(config["budget"])
    _check_weights(config["method"], "method")
    check_model(config["model"])
    check_attention(config["model"], config["hardware"])
    check_quantisation(config)
    if config["hardware"]["shard_base"] and launched() == 1:
        raise UserError(
            "hardware.shard_base=true: one process has nobody to share with; "
            "start several with torchrun or accelerate launch (docs/distributed.md)"
        )
    check_rollouts(config, launched())
    check_data(config["task"])
    check_extras({key: value for key, value in config.items() if key != "names"})


def check_values(config: Mapping[str, Any]) -> None:
    """Check that no value is missing and that all numbers are finite.

    Raises:
        UserError: a value is missing (``???``), infinite or NaN.
    """
    for key, value in leaves(config):
        if value == MISSING:
            raise UserError(f"{key} is missing: say {key}=VALUE")
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{key}={value}: give a finite number")


def launched() -> int:
    """Number of processes that ``accelerate launch`` or ``torchrun`` has started for this run, from the environment."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_RANK" in os.environ else 1


def check_writable(runs_dir: str | Path) -> None:
    """Check before the training, and not after an hour of it, that results can be written.

    Raises:
        UserError: the directory cannot be created or written, or its name into a record.
    """
    directory = Path(runs_dir).expanduser()
    if not is_unicode(str(directory.absolute())):
        raise UserError(f"runs_dir={runs_dir}: {str(directory.absolute())!r} is not UTF-8; choose another directory")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise UserError(
            f"runs_dir={runs_dir}: cannot write there ({error.strerror}); choose another directory"
        ) from None


def _check_keys(node: Mapping[str, Any], schema: type, where: str) -> None:
    """``+key=value`` can add keys to a typed node although Hydra knows its type. Such keys are refused here."""
    known = get_type_hints(schema)
    if missing := [key for key in known if key not in node]:
        raise UserError(f"{where}{missing[0]} is missing: say {where}{missing[0]}=VALUE, and do not remove it with ~")
    for key, value in node.items():
        if where == "" and key in OPEN_KEYS:
            continue
        if key not in known:
            raise UserError(f"{where}{key}={value}: unknown key{did_you_mean(str(key), known)}")
        if is_dataclass(known[key]) and isinstance(value, Mapping):
            _check_keys(value, known[key], f"{where}{key}.")
        elif value != MISSING and not fits(value, known[key]):  # an interpolation can bring a value of another type
            raise UserError(f"{where}{key}={value}: wrong type; give {in_words(known[key])}")


def _check_decoding(decoding: list[str]) -> None:
    for name in decoding:
        if name not in ("greedy", "sampled"):
            raise UserError(f"decoding={decoding}: unknown '{name}'{did_you_mean(name, ('greedy', 'sampled'))}")
    if not decoding or len(set(decoding)) < len(decoding):
        raise UserError(f"decoding={decoding}: name greedy, sampled or both, each once")


def check_hardware(config: Mapping[str, Any]) -> None:
    """Check device, threads and ``force`` of a program that has ``hardware`` but is not a run.

    Raises:
        UserError: one of them has a value that is not allowed.
    """
    check_device(config["hardware"]["device"])
    threads = config["hardware"]["threads"]
    if threads is not None and (not isinstance(threads, int) or threads < 1):
        raise UserError(f"hardware.threads={threads}: give a whole number above 0, or null for a share of the cores")
    if not isinstance(config["force"], bool):
        raise UserError(f"force={config['force']}: give true or false")


def check_data(task: Mapping[str, Any]) -> None:
    """Check that the data directory exists, where a task reads one. The task itself looks for its file in it.

    Raises:
        UserError: the directory is not given or does not exist.
    """
    if "data_dir" not in task or task.get("hub") is not None:
        return
    data_dir = task["data_dir"]
    if data_dir is None:
        raise UserError(
            f"task.data_dir is missing: say task.data_dir=DIRECTORY with {task.get('file', 'the corpus')} in it "
            "(docs/tasks.md says where to get it)"
        )
    if not Path(data_dir).expanduser().is_dir():
        raise UserError(f"task.data_dir={data_dir}: there is no such directory")


def _check_budget(budget: Mapping[str, Any]) -> None:
    limits = ("prompts", "samples", "generated_tokens", "seconds")
    if all(budget[limit] is None for limit in limits) and not budget["training"]["stop_when_converged"]:
        raise UserError(
            "budget.prompts=null: nothing would end training; give a limit, or say "
            "budget.training.stop_when_converged=true"
        )
    ladder = budget["ladder"]
    rises = all(low < high for low, high in zip([0.0, *ladder], ladder, strict=False))
    if not ladder or not rises or ladder[-1] != 1:
        raise UserError(f"budget.ladder={ladder}: give shares of the budget that rise to 1, such as [0.25,0.5,1.0]")


def _check_weights(node: Any, where: str) -> None:
    """Check that weights anywhere in a method are a point of the simplex.

    Their number is checked when the method is built.
    """
    if not isinstance(node, Mapping):
        return
    for key, value in node.items():
        if key in ("weights", "preference") and value is not None:
            if not isinstance(value, list) or not all(isinstance(w, int | float) for w in value):
                raise UserError(f"{where}.{key}={value}: give a list of numbers, such as [0.5,0.3,0.2], or null")
            if min(value, default=-1) < 0 or abs(sum(value) - 1) > 1e-6:
                raise UserError(f"{where}.{key}={value}: weights must be 0 or more and sum to 1, not {sum(value):g}")
        _check_weights(value, f"{where}.{key}")


def check_model(model: Mapping[str, Any]) -> None:
    """Check what can be known quickly of a model's path. Its files are read when a job starts (`offline.model_files`).

    Raises:
        UserError: there is no path, or no model directory at it.
    """
    path, fallback = model["path"], model["fallback"]
    if path is None:
        raise UserError(f"model.path is missing: say model.path=DIRECTORY with a {model['family']} model in it")
    if fallback is not None and not fallback.startswith(OFFLINE):
        raise UserError(f"model.fallback={fallback}: give offline:NAME, or null")
    if path.startswith("embedded:"):
        return
    directory = Path(resolve(path)).expanduser()
    if not directory.exists():
        if is_local(path):
            raise UserError(f"model.path={path}: there is no such directory")
        return  # it may be a name on the hub
    if not (directory / "config.json").is_file():
        raise UserError(f"model.path={path}: no config.json in it; give the directory of a transformers model")
    if not any(directory.glob("*.safetensors")):
        raise UserError(f"model.path={path}: no *.safetensors in it; only safetensors are loaded: {conversion(path)}")


def check_attention(model: Mapping[str, Any], hardware: Mapping[str, Any]) -> None:
    """Check that the attention that is asked for can be used; ``auto`` in ``hardware`` may still allow it.

    transformers' eager attention computes its softmax in float32, where the mask of float64 is infinite, so that rows
    with padding become NaN.

    Raises:
        UserError: eager attention in float64; or FlashAttention-2 without a GPU, bfloat16 or its package.
    """
    dtype = model["dtype"] or hardware["dtype"]
    if model["attention"] == "eager" and dtype == "float64":
        raise UserError("model.attention=eager: padding becomes NaN in hardware.dtype=float64; say sdpa")
    if model["attention"] != FLASH:
        return
    if hardware["device"] == "cpu" or dtype not in ("auto", "bfloat16"):
        raise UserError(f"model.attention={FLASH}: needs hardware=cuda and model.dtype=bfloat16; say sdpa")
    if find_spec("flash_attn") is None:
        raise UserError(f"model.attention={FLASH}: needs the package flash-attn; install it for your GPU, or say sdpa")


def _at(config: Mapping[str, Any], key: str) -> Any:
    node: Any = config
    for part in key.split("."):
        node = node[part]
    return node
