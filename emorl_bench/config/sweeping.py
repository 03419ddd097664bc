"""What a sweep chooses from, and what Hydra's own node may say: checked before the first of many jobs is composed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, RangeSweep
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
    if _length(override) > MOST_JOBS:
        raise UserError(f"{override.input_line}: more than {MOST_JOBS} jobs; give fewer values")
    values = list(dict.fromkeys(override.sweep_string_iterator()))  # equal jobs would write one run directory
    if not values:
        raise UserError(f"{override.input_line}: no value is left to sweep; give some")
    return values


def _length(override: Override) -> float:
    """Number of values of a range, which Hydra would write out; 0 for what is written out already."""
    swept_range = override.value()
    if not isinstance(swept_range, RangeSweep):
        return 0
    start, stop, step = (float(part or 0) for part in (swept_range.start, swept_range.stop, swept_range.step))
    return max(0.0, (stop - start) / step) if step else math.inf


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
    for key in ("launcher.workers", "launcher.workers_per_gpu", "sweeper.max_batch_size"):
        outer, inner = key.split(".")
        value = found[outer].get(inner, 1)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise UserError(f"hydra.{key}={value}: give a whole number above 0")
    for key in ("run.dir", "sweep.dir"):
        if not isinstance(OmegaConf.select(node, key, throw_on_missing=False), str):
            raise UserError(f"hydra.{key}: give a directory, or leave it out")
    directory = Path(node.run.dir)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"hydra.run.dir={directory}: cannot write there ({error.strerror}); leave it out") from error
