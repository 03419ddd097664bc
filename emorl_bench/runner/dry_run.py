"""``emorl-bench --dry-run``: what a command would run, what of it exists already, and what it would spend.

Every job is composed and checked like one that runs. Nothing is trained and nothing is written. torch is not imported,
so data and weights are not read. The last part of a run directory's name is a hash of these too; it is known only where
the run exists.
"""

from __future__ import annotations

import json
import os
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.types import RunMode

from emorl_bench.config.checks import check
from emorl_bench.config.compose import Composed, conf_dir, every_job
from emorl_bench.config.hardware import CORRECTION, decided_on_cpu, may_have_gpu
from emorl_bench.config.schema import Config, what_decides
from emorl_bench.core.errors import UserError
from emorl_bench.core.words import counted
from emorl_bench.launch.slots import slots
from emorl_bench.progress import duration
from emorl_bench.runner import memory_plan
from emorl_bench.runner.forecast import Estimate, Names, Schedule, Timings, read_json
from emorl_bench.runner.provenance import assets_hash
from emorl_bench.runner.recorded import recorded_config
from emorl_bench.runner.status import stand_of

NAMED = ("task", "model", "method")  # the groups that name a run's place
TABLE = Path("results", "main_table", "table.csv")  # the main table of a checkout
OPEN = ("device", "dtype", *CORRECTION)  # keys of hardware that ``auto`` leaves open until the job starts
STATES = ("done", "unfinished", "running", "absent")


@dataclass(frozen=True)
class Planned:
    """One job, and what is known of it without running it."""

    job: Composed
    names: Names
    place: str
    """Its run directory, as far as it is known."""
    state: str
    """One of `STATES`."""
    remark: str
    estimate: Estimate | None

    @property
    def runs(self) -> bool:
        """Whether the command would do any work for this job."""
        return self.state != "done" or bool(self.job.settings["force"])


def dry_run(args: Namespace) -> None:
    """Print what ``args`` (arguments as Hydra parses them) would run.

    Raises:
        UserError: a job would be refused; the message is that of the job itself.
    """
    timings: dict[str, Timings] = {}
    planned: list[Planned] = []
    for job in every_job(args):
        check(job.settings)
        runs_dir = str(job.settings["runs_dir"])
        if runs_dir not in timings:
            check_could_write(runs_dir)
            timings[runs_dir] = Timings(Path(runs_dir).expanduser(), _table())
        planned.append(_plan(job, timings[runs_dir]))
    print("\n".join(_text(planned)))


def check_could_write(runs_dir: str | Path) -> None:
    """Like `checks.check_writable`, but creates no directory and no file.

    Raises:
        UserError: the directory could not be created or written.
    """
    directory = Path(runs_dir).expanduser().resolve()
    nearest = next(path for path in (directory, *directory.parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        why = "no permission" if nearest.is_dir() else f"{nearest} is a file"
        raise UserError(f"runs_dir={runs_dir}: cannot write there ({why}); choose another directory")


def _plan(job: Composed, timings: Timings) -> Planned:
    task, model, method = (job.names[name] for name in NAMED)
    names = (task, model, method)
    place, state, remark = _recorded(job, timings.runs_dir.joinpath(*names))
    return Planned(job, names, place, state, remark, timings.estimate(names, job.settings["budget"]["prompts"]))


def _recorded(job: Composed, parent: Path) -> tuple[str, str, str]:
    """Directory, state and remark of the run with this configuration; of several, the one with the latest heartbeat."""
    wanted = _decides(job.settings, job.names)
    found = [(path, read_json(path / "status.json") or {}) for path in parent.glob(f"s{job.settings['seed']}-*")]
    found = [(path, status) for path, status in found if _same(path, wanted) and _current(path, job.settings)]
    if not found:
        return f"{parent}/s{job.settings['seed']}-????????", "absent", ""
    path, status = max(found, key=lambda entry: entry[1].get("heartbeat", 0.0))
    several = f"; {len(found)} directories have this configuration, their data or weights differ"
    state, remark = stand_of(path, status)
    return str(path), state, remark + (several if len(found) > 1 else "")


def _decides(settings: Config, names: Mapping[str, str]) -> dict[str, Any]:
    """The part of the configuration that a run directory's hash covers.

    A job decides ``auto`` in ``hardware`` when it starts. On a machine that may have a GPU it is left open here.
    """
    hardware = settings["hardware"]
    open_keys = () if "auto" not in (hardware["device"], hardware["dtype"]) or not may_have_gpu() else OPEN
    known = {**settings, "hardware": decided_on_cpu(hardware)}
    decides: dict[str, Any] = json.loads(json.dumps(what_decides(known)))
    for key in open_keys:
        decides["hardware"].pop(key, None)
    return decides | {"names": [names[name] for name in NAMED]}


def _same(path: Path, wanted: Config) -> bool:
    """Whether the recorded configuration of a directory is the wanted one."""
    try:
        recorded = recorded_config(path)
        found = _decides(recorded, recorded["names"])
    except (UserError, KeyError, TypeError):
        return False  # the record is incomplete: the job will start again
    if "device" not in wanted["hardware"]:
        for key in OPEN:
            found["hardware"].pop(key, None)
    return bool(found == wanted)


def _current(path: Path, settings: Config) -> bool:
    """False where a finished run used other embedded assets than today's."""
    summary = read_json(path / "summary.json")
    return summary is None or summary.get("assets") in (None, assets_hash(settings))


def _table() -> Path | None:
    table = conf_dir().parent / TABLE
    return table if table.is_file() else None


def _text(planned: Sequence[Planned]) -> Iterator[str]:
    count = len(planned)
    yield f"dry run: {counted(count, 'job')}; nothing is trained, nothing is written"
    for state in STATES:
        if number := sum(plan.state == state for plan in planned):
            yield f"  {number} {state}"
    yield ""
    for plan in planned:
        force = ", begins afresh (force=true)" if plan.job.settings["force"] and plan.state != "absent" else ""
        remark = f" ({plan.remark})" if plan.remark else ""
        about = f", about {duration(plan.estimate.seconds)}" if plan.runs and plan.estimate else ""
        yield f"{plan.state:<10} {plan.place}{remark}{force}{about}"
    yield from _budgets(planned)
    yield from _memory(planned)
    yield from _time(planned)
    yield from (
        "",
        "Checked: what the configuration alone decides. A job checks the rest when it starts: keys of classes",
        "(_target_), data, model and scorer files, and whether these are still those of a recorded run.",
        "???????? stands for a hash that is not known before.",
    )


def _budgets(planned: Sequence[Planned]) -> Iterator[str]:
    """One entry for each budget and division of it, with the methods that have it."""
    methods: dict[tuple[str, ...], list[str]] = {}
    for plan in planned:
        chosen = methods.setdefault(tuple(_budget(plan.job.settings)), [])
        if plan.names[2] not in chosen:
            chosen.append(plan.names[2])
    yield from ("", "Budget of each run:")
    for lines, names in methods.items():
        yield f"  {', '.join(names)}"
        yield from (f"    {line}" for line in lines)


def _budget(settings: Config) -> Iterator[str]:
    budget, training, method = settings["budget"], settings["budget"]["training"], settings["method"]
    whole, select, experts = budget["prompts"], budget["select_prompts"], len(settings["task"].get("scorers") or {})
    answered = "no limit of prompts" if whole is None else f"{whole} prompts for training, validation and search"
    report = "all" if budget["report_prompts"] is None else budget["report_prompts"]
    yield f"{answered}; graded on {report} report prompts at {len(budget['ladder'])} share(s) of the budget"
    limits = [f"{key}={budget[key]}" for key in ("samples", "generated_tokens", "seconds") if budget[key] is not None]
    if limits:
        yield f"training also ends at {', '.join(limits)}"
    batch = training["batch_prompts"] * method.get("batches", 1)  # a method may have its own schedule, in these keys
    parts = {"batch": batch, "select": select, "every": method.get("validate_every") or training["validate_every"]}
    share = method.get("search_share")
    if share is None and "search" not in method:
        yield f"if one learner spends all: {_schedule(whole, parts)}"
        return
    searches = method.get("search", True) is not None  # null: weights are given, so nothing is searched
    searched = int(whole * share + 1e-6) if searches and whole is not None else 0
    each = budget["expert_prompts"] or (None if whole is None else (whole - searched) // max(1, experts))
    if searches:
        paid = "no limit of prompts" if whole is None else f"{searched} prompts (method.search_share={share})"
        yield f"search for all preferences together: {paid}"
    yield f"each of {experts} experts: {_schedule(each, parts)}"


def _schedule(prompts: int | None, parts: Mapping[str, int | None]) -> str:
    if prompts is None:
        return "no limit of prompts"
    batch, select, every = parts["batch"], parts["select"], parts["every"]
    if batch is None or select is None or every is None:
        return f"{prompts} prompts, in steps of {batch}; a validation is the whole select split (select_prompts=null)"
    plan = Schedule.of(prompts, batch=batch, select=select, every=every)
    if not plan.steps:
        return f"{prompts} prompts, too few for a step of {batch} and two validations of {select}: the job refuses this"
    return f"{prompts} prompts = {plan.steps} steps of {batch} and {plan.validations} validations of {select}, at most"


def _memory(planned: Sequence[Planned]) -> Iterator[str]:
    """One line for each planned peak, with the models and methods that have it."""
    names: dict[str, list[str]] = {}
    for plan in planned:
        size = memory_plan.plan(plan.job.settings)
        text = "not known: the model's config.json is not on this machine" if size is None else str(size)
        if (name := f"{plan.names[1]} {plan.names[2]}") not in (chosen := names.setdefault(text, [])):
            chosen.append(name)
    yield from ("", "Planned peak of memory of each run, if no answer ends early:")
    for text, chosen in names.items():
        yield from (f"  {', '.join(chosen)}", f"    {text}")


def _time(planned: Sequence[Planned]) -> Iterator[str]:
    yield ""
    waiting = [plan for plan in planned if plan.runs]
    if not waiting:
        yield "Time: none, all is done"
        return
    known = [plan.estimate for plan in waiting if plan.estimate]
    workers = _workers(planned[0].job, [plan.job.settings["hardware"] for plan in planned])
    if known:
        side = f", {workers} jobs at a time" if workers > 1 else ""
        unknown = len(waiting) - len(known)
        rest = f"; {unknown} of {len(waiting)} jobs have no estimate" if unknown else ""
        yield f"Time: about {duration(sum(e.seconds for e in known) / workers)}{side}{rest}"
        yield from (f"  from {source}" for source in dict.fromkeys(estimate.source for estimate in known))
    for names in dict.fromkeys(plan.names for plan in waiting if not plan.estimate):
        yield f"No estimate for method={names[2]} task={names[0]} model={names[1]}: no run of these is recorded"


def _workers(job: Composed, hardware: Sequence[Mapping[str, Any]]) -> int:
    """Number of jobs that a sweep runs at a time; 1 where the launcher does not say, or where there is no sweep."""
    launcher = job.hydra.launcher
    if job.hydra.mode == RunMode.RUN or "workers" not in launcher:
        return 1
    return len(slots(launcher.workers, launcher.workers_per_gpu, hardware))
