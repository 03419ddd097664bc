"""The settings of a run as flat keys, such as ``update.learning_rate``: what rows are named, chosen and grouped by."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from emorl_bench.config.hardware import CORRECTION, low_precision
from emorl_bench.core.errors import UserError, did_you_mean
from emorl_bench.runner.recorded import load_yaml

Keys = Mapping[str, Any]

CHOICES = ("update", "budget")  # groups of the configuration whose file is named by a key of its own
SHORT = {"update.learning_rate": "lr", "update.kl_coefficient": "KL"}  # names in labels
ALIASES = {short: key for key, short in SHORT.items()}
OF_METHOD = ("method", "update", "settings")
SETTINGS = "settings"  # the hash of all settings, where a record has no configuration
UNSET = "unset"
QUANTISATION = "model.quantisation"  # records from before this key have plain weights too

# What changes no number of a whole run, and what a table averages over.
IGNORED = (
    "seed", "*.seed", "runs_dir", "force", "tracker.*", "hydra.*", "kl_coefficient", "decoding*", "names.*",
    "model.path", "model.revision", "model.fallback", "hardware.device", "hardware.threads", "hardware.max_rows",
    "hardware.block_bytes", "hardware.max_corpus_mb", "hardware.shard_base", "hardware.joint_experts",
    "hardware.scorer_device", "hardware.check_every", "hardware.graphs", "hardware.vllm_memory",
    "budget.ladder*", "budget.training.checkpoint_every", "task.data_dir", "task.scorers.*.data_dir",
)  # fmt: skip
# What answers are graded on and by: runs that differ here are never in one table.
GRADED_BY = ("task.*", "preferences.*", "budget.report_prompts")


def read_keys(dir: Path, summary: Mapping[str, Any]) -> dict[str, Any]:
    """The flat keys of a run directory. A record without ``config.yaml`` has the few that its summary shows."""
    names = summary["names"]
    keys: dict[str, Any] = {name: names[name] for name in ("task", "model", "method")} | {"seed": summary["seed"]}
    path = dir / "config.yaml"
    config = load_yaml(path) if path.exists() else None
    if summary.get("kl_coefficient") is not None:
        keys["update.kl_coefficient"] = float(summary["kl_coefficient"])
    if summary.get("settings") is not None:
        keys[SETTINGS] = str(summary["settings"])
    if isinstance(config, dict):
        chosen = config.get("names") or {}
        keys |= {name: chosen[name] for name in CHOICES if chosen.get(name)} | dict(_flat(config))
        if not low_precision(config):  # records from before these keys are no other settings
            keys = {key: value for key, value in keys.items() if key.removeprefix("hardware.") not in CORRECTION}
        if keys.get(QUANTISATION) is None:
            keys.pop(QUANTISATION, None)
    return keys


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict):
            yield from _flat(value, f"{key}.")
        elif not any(fnmatchcase(key, pattern) for pattern in IGNORED):
            yield key, json.dumps(value) if isinstance(value, list) else value


def grades(key: str) -> bool:
    """Whether a key says what answers are graded on, or by."""
    return any(fnmatchcase(key, pattern) for pattern in GRADED_BY)


def belongs(key: str) -> bool:
    """Whether a key is a setting of a method or its update rule; all others are shared by what a table compares."""
    return key.partition(".")[0] in OF_METHOD or key == "budget.expert_prompts"


def find(name: str, known: Iterable[str], option: str) -> str:
    """The full key for a name: itself, a short name, or the end of one key, such as ``learning_rate``.

    Raises:
        UserError: no run has it, or several keys end so.
    """
    keys = set(known)
    if (full := ALIASES.get(name, name)) in keys:
        return full
    ends = sorted(key for key in keys if key.endswith(f".{full}"))
    if len(ends) > 1:
        raise UserError(f"{option} {name}: several keys end so; write one of {', '.join(ends)}")
    if not ends:
        raise UserError(f"{option} {name}: no run has this key{did_you_mean(name, keys | set(ALIASES))}")
    return ends[0]


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Full key -> its name in a label: the last part, unless two of the keys end alike."""
    wanted = list(dict.fromkeys(keys))
    last = {key: SHORT.get(key, key.rpartition(".")[2]) for key in wanted}
    return {key: name if list(last.values()).count(name) == 1 else key for key, name in last.items()}


def value_text(value: Any) -> str:
    """A value in a label: ``1e-3``, ``0.02``, ``true``, ``null``."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float):
        plain = f"{value:g}"
        mantissa, _, exponent = f"{value:.5e}".partition("e")
        scientific = f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
        return scientific if len(scientific) < len(plain) else plain
    return str(value)
