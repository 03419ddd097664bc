"""One job of a sweep as its launcher sees it: what tells it from the other jobs, and how far its run has come."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import filter_overrides
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict

from emorl_bench.config.compose import plain
from emorl_bench.config.once import Known, entry_of, seed_of
from emorl_bench.config.schema import what_decides
from emorl_bench.core.words import counted
from emorl_bench.launch.hooks import hooks

PLACE = ("task", "model", "method")  # the groups that name a run's place below runs_dir


@dataclass(frozen=True)
class SweepJob:
    """A job, its whole configuration, and its names."""

    number: int
    overrides: list[str]
    config: DictConfig
    label: str
    """The overrides by which it differs from the other jobs."""
    kind: str
    """The label without the seed: jobs of one kind take similar times."""
    expected: float | None
    """Seconds that it may take by earlier records; None: unknown."""


def announcement(overrides: Sequence[Sequence[str]], workers: int, logs: Path | None, gpus: int = 0) -> str:
    """The first line of a sweep, with the overrides that its jobs have in common, which no other line repeats.

    Args:
        overrides: those of each job.
        workers: jobs at a time.
        logs: the directory of their output; None: the terminal.
        gpus: how many GPUs they are spread over.
    """
    common = f", all with {' '.join(shared)}" if (shared := in_common(overrides)) else ""
    spread = f" on {counted(gpus, 'GPU')}" if gpus else ""
    count = counted(len(overrides), "job")
    return f"{count}, {workers} at a time{spread}{common}; their output: {'below' if logs is None else logs}"


def in_common(overrides: Sequence[Sequence[str]]) -> list[str]:
    """The overrides that all of several jobs have; none of a single job, which needs a label."""
    first = list(filter_overrides(overrides[0])) if len(overrides) > 1 else []
    return [line for line in first if all(line in own for own in overrides)]


def sweep_jobs(
    context: HydraContext, master: DictConfig, overrides: Sequence[Sequence[str]], first: int
) -> list[SweepJob]:
    """All jobs of a batch.

    Args:
        context: what Hydra has given to the launcher.
        master: the configuration of the sweep.
        overrides: the overrides of each job.
        first: the number of the first job.
    """
    common, jobs = in_common(overrides), []
    for number, own in enumerate(overrides, first):
        apart = [line for line in filter_overrides(own) if line not in common]
        kind = " ".join(line for line in apart if not line.startswith("seed="))
        config = sweep_config(context, master, own, number, hooks.composed)
        jobs.append(SweepJob(number, list(own), config, " ".join(apart), kind, hooks.seconds(config)))
    return jobs


def sweep_config(
    context: HydraContext, master: DictConfig, overrides: Sequence[str], number: int, known: Known
) -> DictConfig:
    """The whole configuration of one job, composed only where ``known`` does not have it."""
    composed = entry_of(master.hydra.overrides.hydra, overrides)
    if composed not in known:
        known[composed] = context.config_loader.load_sweep_config(master, list(overrides))
    config = copy.deepcopy(known[composed])
    OmegaConf.copy_cache(from_config=master, to_config=config)  # one time of day for all jobs
    with open_dict(config):
        if (seed := seed_of(overrides)) is not None:
            config.seed = seed
        config.hydra.overrides.task = list(filter_overrides(overrides))
        config.hydra.job.override_dirname = _dirname(overrides, config.hydra.job.config.override_dirname)
        config.hydra.job.id = str(number)
        config.hydra.job.num = number
    return config


def run_of(config: DictConfig) -> str:
    """What decides which run directory a job writes: two jobs with the same must not run at the same time.

    They may differ in what changes no number, such as ``hardware.threads``.
    """
    settings = plain(config)
    places = [settings.get(key) for key in ("runs_dir", "task", "model")]  # `what_decides` leaves paths out
    return json.dumps([what_decides(settings), places], sort_keys=True, default=str)


def _dirname(overrides: Sequence[str], form: DictConfig) -> str:
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    own = [override for override in parsed if not override.is_hydra_override()]
    return str(get_overrides_dirname(own, list(form.exclude_keys), form.item_sep, form.kv_sep))


def place(config: DictConfig) -> Path | None:
    """The directory that the run directory of this job is in; None where the configuration names none."""
    choices = config.hydra.runtime.choices
    names = [choices.get(name) for name in PLACE]
    return Path(str(config.runs_dir)).expanduser().joinpath(*names) if all(names) else None


def recorded(directory: Path, pid: int | None, since: float) -> Mapping[str, Any]:
    """``status.json`` of the run that a process has in hand; empty where it has opened no run directory yet.

    Args:
        directory: see `place`.
        pid: the process.
        since: seconds since the epoch at its start. An older record is of another process with the same number.
    """
    for path in directory.glob("s*-*/status.json"):
        try:
            status = json.loads(path.read_text(encoding="utf-8"))
            if status.get("pid") == pid and status.get("heartbeat", 0.0) >= since:
                return dict(status)
        except (OSError, ValueError, AttributeError):
            continue  # being replaced, or removed by force=true: the next look finds it
    return {}
