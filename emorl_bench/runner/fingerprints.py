"""The configured task, and hashes of what a run, a comparison, a method and an expert depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any

from emorl_bench.config.hardware import CORRECTION
from emorl_bench.config.schema import Config, what_decides
from emorl_bench.config.targets import build
from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Scorer, Task
from emorl_bench.runner.base_model import dtype_name, locate_model, prompt_format, weights_hash


def build_task(config: Config) -> Task:
    """The configured task.

    Raises:
        UserError: it has no scorers, or a scorer's key is not its name.
    """
    task: Task = build(config["task"])
    if not task.scorers:
        raise UserError("task.scorers is empty: add an objective, such as +scorer@task.scorers.diversity_2=diversity_2")
    for key, scorer in task.scorers.items():
        if key != scorer.name:
            raise UserError(f"task.scorers.{key}: this scorer is named '{scorer.name}'; use that name as the key")
    return task


def fingerprint(config: Config) -> str:
    """Hash of data, scorers, gold and base model. Together with the configuration it decides every number of a run."""
    task = build_task(config)
    return _hash(*_trained_on(config, task), *_gold(task))


def _trained_on(config: Config, task: Task) -> list[Any]:
    scorers = [scorer.fingerprint() for scorer in task.scorers.values()]
    prompts = asdict(prompt_format(config, task))
    return [task.splits().fingerprint, scorers, weights_hash(locate_model(config)), prompts]


def _gold(task: Task) -> list[str]:
    """Names and settings of the gold scorers; empty without any.

    They grade and never train, so no expert depends on them.
    """
    gold = sorted(task.gold_scorers().items())
    return [f"{name}={scorer.fingerprint()}, {_settings(scorer)}" for name, scorer in gold]


def _settings(scorer: Scorer) -> dict[str, Any]:
    """The plain numbers and texts among a scorer's fields. The configuration need not show those of a gold scorer."""
    names: list[str] = [f.name for f in fields(scorer)] if is_dataclass(scorer) else []
    return {name: v for name in names if isinstance(v := getattr(scorer, name), str | int | float | tuple)}


def comparison_fingerprint(config: Config, known: str | None = None) -> str:
    """Hash of what must be equal for two runs to share a table: all but the method, its update rule and the seed.

    The ladder is left out, because it changes no number of a whole run. ``expert_prompts`` is left out, because it is
    part of a method. ``known``: the `fingerprint` of the configuration, where it is known already.
    """
    shared = ("sampling", "reward", "preferences", "decoding")
    budget = {k: v for k, v in config["budget"].items() if k not in ("ladder", "expert_prompts")}
    precision = [dtype_name(config), config["hardware"]["scorer_dtype"]]
    model = [config["model"][k] for k in ("adapter", "max_prompt_tokens")]
    if config["model"].get("quantisation") is not None:  # no part of the hash of runs from before this key
        model.append(config["model"]["quantisation"])
    apart = [model, precision, what_decides(config)["task"]["scorers"], budget]
    return _hash(known or fingerprint(config), *apart, *map(config.get, shared))


def method_settings_hash(config: Config) -> str:
    """Hash of the settings of a method and its update rule: equal for two runs that are seeds of one method.

    Seeds are left out (a search may follow the run's seed). So is the KL coefficient, because a method has a frontier
    along it.
    """
    return _hash(*(_without_axes(config[part]) for part in ("method", "update")), config["budget"]["expert_prompts"])


def _without_axes(settings: Any) -> Any:
    if not isinstance(settings, Mapping):
        return settings
    return {k: _without_axes(v) for k, v in settings.items() if k not in ("seed", "kl_coefficient")}


def expert_fingerprint(config: Config, task: Task) -> str:
    """Hash of what every single-objective expert depends on, whichever method asks for it.

    Its scorer (`scorer_fingerprints`), its seed and what it may spend are named separately. No other objective is part
    of it.
    """
    data = [task.splits().fingerprint, weights_hash(locate_model(config)), asdict(prompt_format(config, task))]
    schedule = {k: v for k, v in config["budget"]["training"].items() if k != "checkpoint_every"}
    shared = [what_decides(config)[k] for k in ("model", "update", "sampling", "reward")]
    hardware = [config["hardware"][k] for k in ("device", "dtype", "scorer_dtype")]
    deciding = what_decides(config)["hardware"]
    hardware += [deciding[k] for k in (*CORRECTION, "rollouts") if k in deciding]
    return _hash(*data, config["budget"]["select_prompts"], schedule, *shared, *hardware)


def scorer_fingerprints(config: Config, task: Task) -> dict[str, str]:
    """Objective -> hash of its scorer's settings and of what these do not show, such as weights."""
    settings = what_decides(config)["task"]["scorers"]
    return {name: _hash(settings[name], scorer.fingerprint()) for name, scorer in task.scorers.items()}


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
