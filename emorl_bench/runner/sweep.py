"""What a sweep knows of runs without importing torch: which are done, how long one may take, and what came of all."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus
from hydra.utils import get_object
from omegaconf import DictConfig

from emorl_bench.config.compose import chosen, plain
from emorl_bench.launch.hooks import hooks
from emorl_bench.launch.run_value import RunValue
from emorl_bench.runner import finished
from emorl_bench.runner.forecast import Timings
from emorl_bench.runner.identity import NAMED, read_json


def register() -> None:
    """Give the launchers of this process what they cannot know."""
    hooks.done_before, hooks.seconds, hooks.modules, hooks.ended = done_before, seconds, modules, ended


def done_before(configs: Sequence[DictConfig]) -> list[RunValue | None]:
    """The values of jobs that were done before; None where that is not certain (`finished`)."""
    now = finished.code()
    return [
        finished.recall({**plain(config), "names": chosen(config.hydra.runtime.choices)}, now) for config in configs
    ]


def seconds(config: DictConfig) -> float | None:
    """Seconds that a job takes by finished runs of its method, task and model in the same ``runs_dir``."""
    names = chosen(config.hydra.runtime.choices)
    task, model, method = (names[name] for name in NAMED)
    found = _timings(str(config.runs_dir)).estimate((task, model, method), config.budget.prompts)
    return None if found is None else found.seconds


def modules(configs: Sequence[DictConfig]) -> list[str]:
    """What the trackers of these jobs import when they open."""
    targets = {str(config.tracker["_target_"]) for config in configs}
    return sorted({name for target in targets for name in getattr(get_object(target), "modules", ())})


def ended(jobs: Sequence[JobReturn]) -> None:
    """Print the headline table of the runs of a sweep, and the commands that look further."""
    values = [job._return_value for job in jobs if job.status == JobStatus.COMPLETED]
    paths = [Path(value.path) for value in values if isinstance(value, RunValue)]
    print("\n".join(["", *shown(paths)]), flush=True)


def scores(path: Path) -> list[str]:
    """The scores of one run, and the next commands."""
    from emorl_bench.runner.headline import Finished, scores

    run = Finished.read(path)
    return [*(scores(run) if run else []), "", *_next([path])]


def shown(paths: Iterable[Path]) -> list[str]:
    """Headline table and next commands for these run directories; a line that says so where there are none."""
    from emorl_bench.runner.headline import Finished, headline  # takes scipy, which takes half a second

    paths = sorted(set(paths))
    if not paths:
        return ["no run is done, so there is no table"]
    return [*headline([run for path in paths if (run := Finished.read(path))]), "", *_next(paths)]


def _next(paths: Sequence[Path]) -> list[str]:
    """Commands for what one does next with these runs."""
    places = dict.fromkeys(_short(path.parents[3]) for path in paths)
    commands = [f"emorl-report {place} --out report" for place in places]
    offline = list(dict.fromkeys(_short(found) for path in paths for found in _unsent(path)))
    if offline:
        commands.append(f"wandb sync {' '.join(offline[:3])}{' ...' if len(offline) > 3 else ''}")
    if len(paths) == 1:
        commands.append(f"emorl-generate {_short(paths[0])}")
    return ["next:", *(f"  {command}" for command in commands)]


def _unsent(run: Path) -> Iterable[Path]:
    """The records of W&B that wait to be sent: those of the run directory, or all of its ``runs_dir``."""
    status = read_json(run / "status.json") or {}
    if status.get("tracker") != "ok":
        return []
    if any((run / "wandb").glob("offline-run-*")):
        return [run / "wandb" / "offline-run-*"]
    if any((run.parents[3] / "wandb").glob("offline-run-*")):
        return [run.parents[3] / "wandb" / "offline-run-*"]
    return []


def _short(path: Path) -> str:
    """A path as one would type it here."""
    here = Path.cwd()
    shorter = path.relative_to(here) if path.is_relative_to(here) else path
    return str(shorter) if "*" in path.name else shlex.quote(str(shorter))


@lru_cache(maxsize=8)
def _timings(runs_dir: str) -> Timings:
    return Timings(Path(runs_dir).expanduser(), None)
