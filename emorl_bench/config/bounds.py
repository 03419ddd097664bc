"""Settings that cannot mean anything, refused from the configuration alone: in open groups, and sizes without bound.

``task``, ``method``, ``update`` and ``tracker`` are open to any key that their class knows. So their numbers are
checked by the name of the key, wherever it stands. A size has an upper bound because a wrong digit must not be noticed
by a machine that has run out of memory.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from emorl_bench.config.tree import leaves, values_of
from emorl_bench.core.errors import UserError

Condition = tuple[Callable[[Any], bool], str]

GROUPS = ("task", "method", "update", "tracker")
LARGEST = 10**12  # no setting of any experiment is larger, seeds included
POINTS = 10_000  # preferences that a method can be graded at
MOST = {
    "budget.training.batch_prompts": 100_000,
    "budget.training.samples_per_prompt": 10_000,
    "budget.training.window": 1_000_000,
    "sampling.max_new_tokens": 100_000,
    "sampling.temperature": 1_000,
    "model.max_prompt_tokens": 1_000_000,
    "model.adapter.rank": 10_000,
    "model.adapter.alpha": 100_000,
    "hardware.threads": 1_024,
    "hardware.max_rows": 1_000_000,
    "kl_coefficient": 1_000_000,
}
COLDEST = 1e-6  # below it, logits over the temperature leave the range of float32
SCORER_DEVICE = re.compile(r"cpu|cuda(:\d+)?")
HYDRA_KEYS = ("_partial_", "_args_")  # they change what a node builds, and no class here expects that
SHORTEST = 2  # answers to a prompt that can be compared with one another

_rate: Condition = (lambda v: 0 < v <= 1, "give a number above 0, at most 1")
_positive: Condition = (lambda v: v > 0, "give a number above 0")
_not_negative: Condition = (lambda v: v >= 0, "give 0 or more")
_share: Condition = (lambda v: 0 <= v <= 1, "give a number from 0 to 1")
_count: Condition = (lambda v: 0 < v <= 1_000_000, "give a whole number from 1 to 1000000")
BY_NAME: dict[str, Condition] = {
    **dict.fromkeys(("learning_rate", "value_learning_rate", "head_rate"), _rate),
    **dict.fromkeys(("weight_decay", "kl_coefficient", "value_coefficient", "replay_prompts"), _not_negative),
    **dict.fromkeys(("clip_norm", "clip", "value_clip", "ratio_limit"), _positive),
    **dict.fromkeys(("micro_batch", "epochs", "minibatches", "batch", "batch_tokens", "max_tokens"), _count),
    **dict.fromkeys(("levels", "iterations", "candidates", "swap_every", "members", "heads"), _count),
    **dict.fromkeys(("gamma", "lam", "rate", "search_share"), _share),
}
GROUP_RELATIVE = tuple(
    f"emorl_bench.rl.{rule}"
    for rule in (
        "scst.Scst", "rloo.Rloo", "grpo.Grpo", "agro.Agro", "jacobian.Mgda", "jacobian.CaGrad", "jacobian.UpGrad"
    )
)  # fmt: skip
"""Update rules that compare the answers to a prompt with one another."""
UNTRAINED = ("baselines.base.Base", "baselines.best_of_n.BestOfN")


def check_groups(config: Mapping[str, Any]) -> None:
    """Check that the groups are there and name a class. A scorer in a task is a group as well.

    Raises:
        UserError: the first that does not.
    """
    for key in GROUPS:
        check_node(config.get(key), key, f"say {key}=OPTION (emorl-bench list {key} shows them)")
    scorers = config["task"].get("scorers")
    if "scorers" in config["task"] and (not isinstance(scorers, Mapping) or not scorers):
        raise UserError(f"task.scorers={scorers}: a task needs scorers; leave the key out")
    for name, node in (scorers or {}).items():
        key = f"task.scorers.{name}"
        check_node(node, key, f"say +scorer@{key}=OPTION to add one, or ~{key} to take one away")


def check_bounds(config: Mapping[str, Any]) -> None:
    """Check sizes, rates, devices and whatever else no experiment can want.

    Raises:
        UserError: the first setting that cannot mean anything.
    """
    for key, value in leaves(config):
        if _is_number(value) and abs(value) > LARGEST:
            raise UserError(f"{key}={_short(value)}: give a number of at most {LARGEST:.0e}")
    for key, most in MOST.items():
        if (value := _at(config, key)) is not None and value > most:
            raise UserError(f"{key}={value}: give at most {most}")
    if (temperature := config["sampling"]["temperature"]) < COLDEST:
        raise UserError(f"sampling.temperature={temperature}: give {COLDEST:g} or more")
    if not str(config["runs_dir"]).strip():
        raise UserError("runs_dir= is empty; is a shell variable unset? say runs_dir=DIRECTORY")
    for key in GROUPS:
        check_open(config[key], key)
    _check_model(config["model"])
    _check_preferences(config)
    _check_scorer_device(config["hardware"]["scorer_device"])
    _check_samples(config)


def check_node(node: Any, key: str, remedy: str) -> None:
    """Check that a group is a mapping with a ``_target_``.

    Raises:
        UserError: it is not; the line ends with the remedy.
    """
    if not isinstance(node, Mapping) or not isinstance(node.get("_target_"), str):
        shown = "null" if node is None else "{}" if node == {} else _short(node)
        raise UserError(f"{key}={shown}: names no class; {remedy}")


def check_open(node: Any, where: str) -> None:
    """Check the numbers of an open node by the names of their keys.

    Raises:
        UserError: one is out of its bounds, or a key of Hydra's instantiation is there.
    """
    if not isinstance(node, Mapping):
        return
    for key, value in node.items():
        if key in HYDRA_KEYS:
            raise UserError(f"{where}.{key}={value}: cannot be used here; remove it")
        holds, remedy = BY_NAME.get(key, (None, ""))
        if holds is not None and _is_number(value) and not holds(value):
            raise UserError(f"{where}.{key}={value}: {remedy}")
        check_open(value, f"{where}.{key}")


def _check_model(model: Mapping[str, Any]) -> None:
    if model["adapter"]["targets"] == []:
        raise UserError("model.adapter.targets=[]: no layer would be trained; name some, or say null for all")
    path = model["path"]
    if model["revision"] is not None and isinstance(path, str) and path.startswith("embedded:"):
        raise UserError(f"model.revision={model['revision']}: {path} has no revisions; leave the key out")


def _check_preferences(config: Mapping[str, Any]) -> None:
    divisions, scorers = config["preferences"]["divisions"], config["task"].get("scorers") or {}
    objectives = max(2, len(scorers))
    points = math.comb(min(divisions, POINTS) + objectives - 1, objectives - 1)
    if points > POINTS:
        raise UserError(
            f"preferences.divisions={divisions}: more than {POINTS} preferences of {objectives} objectives; "
            "give a smaller number"
        )


def _check_scorer_device(device: Any) -> None:
    if device is not None and not SCORER_DEVICE.fullmatch(str(device)):
        raise UserError(f"hardware.scorer_device={device}: give cpu, cuda, cuda:NUMBER, or null for the policy's")


def _check_samples(config: Mapping[str, Any]) -> None:
    """One answer to a prompt has nothing to be compared with: every advantage is 0, and nothing is ever learnt."""
    samples = config["budget"]["training"]["samples_per_prompt"]
    if samples >= SHORTEST or config["method"]["_target_"] in UNTRAINED:
        return
    for key, target in (
        found for group in ("update", "method") for found in values_of("_target_", config[group], group)
    ):
        if target in GROUP_RELATIVE:
            where = key.removesuffix("._target_")
            raise UserError(
                f"budget.training.samples_per_prompt={samples}: {where} compares the answers to a prompt; "
                "give 2 or more, or say update=ppo"
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: Any) -> str:
    return f"{value:.3e}" if isinstance(value, int) and abs(value) < 10**300 else str(value)[:40]


def _at(config: Mapping[str, Any], key: str) -> Any:
    node: Any = config
    for part in key.split("."):
        node = node[part]
    return node
