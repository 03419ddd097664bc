"""What a sweep chooses from, and what Hydra's own node may say: checked before the first of many jobs is composed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from emorl_bench.core.errors import UserError

Swept = Mapping[str, Sequence[str]]
"""Key -> the overrides that a sweep chooses from, one of them where the key is not swept."""

MOST_JOBS = 10_000  # composing that many takes minutes, and running them years
NODES = ("launcher", "sweeper")


def swept(loader: ConfigLoaderImpl, lines: Sequence[str]) -> Swept:
    """What a command line sweeps. Where a key is overridden twice, the last override counts.

    Raises:
        UserError: something other than a list of values is swept, or there would be more than `MOST_JOBS` jobs.
    """
    values: dict[str, list[str]] = {}
    for override in OverridesParser.create(config_loader=loader).parse_overrides(list(lines)):
        key = override.get_key_element()
        values[key] = [f"{key}={value}" for value in _values(override)] or [str(override.input_line)]
    if (jobs := math.prod(map(len, values.values()))) > MOST_JOBS:
        raise UserError(f"this sweep has {jobs} jobs; give at most {MOST_JOBS} at once")
    return values


def _values(override: Override) -> list[str]:
    if override.is_delete() or not override.is_sweep_override():
        return []
    if not override.is_discrete_sweep():
        raise UserError(f"{override.input_line}: only lists of values can be swept, such as seed=0,1,2")
    values = list(itertools.islice(override.sweep_string_iterator(), MOST_JOBS + 1))
    if len(values) > MOST_JOBS:
        raise UserError(f"{override.input_line}: more than {MOST_JOBS} jobs; give fewer values")
    if not values:
        raise UserError(f"{override.input_line}: no value is left to sweep; give some")
    return values


def check_hydra(node: Any) -> None:
    """Check what a command line has changed in Hydra's own node, whose errors have a traceback.

    Raises:
        UserError: a launcher, a sweeper or a number of workers that cannot be used.
    """
    found = OmegaConf.to_container(node, resolve=False)
    assert isinstance(found, dict)
    for key in NODES:
        part = found.get(key)
        if not isinstance(part, dict) or not isinstance(part.get("_target_"), str):
            raise UserError(f"hydra.{key}={part}: names no class; say hydra/{key}=OPTION, or leave it out")
    for key in ("launcher.workers", "sweeper.max_batch_size"):
        outer, inner = key.split(".")
        value = found[outer].get(inner, 1)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise UserError(f"hydra.{key}={value}: give a whole number above 0")
    if not isinstance(chdir := found["job"].get("chdir"), bool | None):
        raise UserError(f"hydra.job.chdir={chdir}: give true or false")
