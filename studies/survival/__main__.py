"""Kill runs of several methods in every way, go on with them, and compare every artefact with a run left alone.

``survival.yaml`` says what is run. Each method has a reference run, in a process of its own, whose writes are recorded.
Then runs are killed: at random moments, once and again and again; by signals; inside of every kind of write that was
recorded; by a full disk; while a second terminal asks for the same run; and as jobs of a sweep. A command that is
repeated goes on with the trials that are missing. It needs Linux.

    python -m studies.survival                                              # 100 kills and all the rest: about an hour
    python -m studies.survival --methods emorl --kinds "single kill" --kills 10
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from benchmarks.timing import say
from emorl_bench.config.compose import conf_dir
from emorl_bench.core.atomic import write_json
from emorl_bench.core.errors import UserError
from emorl_bench.runner import finished
from emorl_bench.runner.identity import read_json
from studies.survival.plan import SWEEP, Plan, trials
from studies.survival.session import Session, warm
from studies.survival.sweeps import swept
from studies.survival.tables import counted, write_tables
from studies.survival.trials import KINDS, Subject, Told, Trial, carry_out, finish
from studies.survival.writes import recorded

TOLD = Path(__file__).with_name("survival.yaml")
TICK = 0.1  # seconds between two looks at the trials that run


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out all trials that are missing, and write the tables.

    Returns:
        the exit status: 1 if a run was lost or different.
    """
    plan = parsed(argv)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    warm()
    place = plan.runs / _key(plan)
    subjects = {method: reference(plan, method, place) for method in plan.methods}
    if "sweeps" in plan.kinds:
        subjects[SWEEP] = reference(plan, SWEEP, place)
    writes = {method: recorded(place / "references" / f"{method}.writes") for method in plan.methods}
    wanted = trials(plan, writes)
    _carry_out(plan, wanted, subjects, place)
    rows = [row for trial in wanted if (row := read_json(_record(place, trial))) is not None]
    write_tables(rows, plan.out, [*plan.told["common"], *plan.overrides])
    total = counted(rows)
    say(f"wrote {plan.out}/survival.md and survival.csv: {', '.join(f'{n} {name}' for name, n in total.items())}")
    return int(total["continued"] < len(wanted))


def parsed(argv: Sequence[str] | None) -> Plan:
    """Parse the command line.

    Raises:
        UserError: a method or a kind is unknown, or a count is too small.
    """
    told: Any = OmegaConf.to_container(OmegaConf.load(TOLD))
    parser = argparse.ArgumentParser(prog="python -m studies.survival", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="at random moments, at least")
    parser.add_argument("--methods", default=",".join(told["methods"]), help="names, with commas")
    parser.add_argument("--kinds", default=",".join(KINDS), help="of trials, with commas")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="trials at a time")
    parser.add_argument("--most", type=int, help="trials of each kind, at most")
    parser.add_argument("--runs", type=Path, default=Path("runs/survival"), help="where runs are kept, to be resumed")
    parser.add_argument("--out", type=Path, default=Path("results/survival"), help="where the tables go")
    parser.add_argument("overrides", nargs="*", help="of every run, such as budget.prompts=100")
    given = parser.parse_args(argv)
    if given.kills < 0 or given.jobs < 1:
        raise UserError(f"--kills {given.kills} --jobs {given.jobs}: give 0 kills or more, and 1 job or more")
    methods, kinds = ([name.strip() for name in text.split(",")] for text in (given.methods, given.kinds))
    known = {path.stem for path in (conf_dir() / "method").glob("*.yaml")}
    if unknown := [name for name in methods if name not in known]:
        raise UserError(f"--methods {unknown[0]}: there is no such method")
    if unknown := [name for name in kinds if name not in KINDS]:
        raise UserError(f"--kinds {unknown[0]}: give some of {', '.join(KINDS)}")
    out, runs = given.out.resolve(), given.runs.resolve()
    return Plan(given.kills, methods, kinds, given.seed, given.jobs, runs, out, given.most, told, given.overrides)


def reference(plan: Plan, method: str, place: Path) -> Subject:
    """The run that is left alone. It is kept, and made again where it did not end.

    Raises:
        UserError: the run fails.
    """
    here, written = place / "references" / method, place / "references" / f"{method}.json"
    arguments, patience = plan.arguments(method), float(plan.told["patience"])
    if (done := read_json(written)) is None:
        say(f"reference: {method}")
        shutil.rmtree(here, ignore_errors=True)
        here.mkdir(parents=True)
        spans = [_timed(here, arguments, patience, place / "references" / f"{method}.writes", sweep=method == SWEEP)]
        if method != SWEEP:  # a fork has no imports to do, so its time is another one
            spare = place / "references" / f"{method}.fork"
            spare.mkdir(exist_ok=True)
            spans.append(_timed(spare, arguments, patience, None, sweep=False))
            shutil.rmtree(spare)
        done = {"seconds": spans[-1]}
        write_json(written, done)
    return Subject(arguments, here, done["seconds"], patience)


def _timed(here: Path, arguments: Sequence[str], patience: float, record: Path | None, *, sweep: bool) -> float:
    """Run to the end. Returns the seconds that it has computed; those of the wall for a sweep."""
    before, started = os.times(), time.monotonic()
    if sweep:
        session = Session.sweep(here, arguments)
    else:
        session = Session.start(here, arguments) if record is None else Session.apart(here, arguments, record)
    told = Told()
    finish(session, Subject(arguments, here, 0.0, patience), told, 0)
    if told.lost:
        raise UserError(f"the reference in {here} fails: {'; '.join(told.lost)}")
    now = os.times()
    computed = now.children_user + now.children_system - before.children_user - before.children_system
    return time.monotonic() - started if sweep else computed


def _carry_out(plan: Plan, wanted: Sequence[Trial], subjects: Mapping[str, Subject], place: Path) -> None:
    """Carry out what is missing, ``plan.jobs`` trials at a time, each in a process of its own."""
    missing = [trial for trial in wanted if read_json(_record(place, trial)) is None]
    (place / "trials").mkdir(parents=True, exist_ok=True)
    started, running, ended = time.monotonic(), dict[int, Trial](), 0
    while missing or running:
        while missing and len(running) < plan.jobs:
            trial = missing.pop(0)
            running[_start(plan, trial, subjects[trial.method], place)] = trial
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid in running:
            trial, ended = running.pop(pid), ended + 1
            if status or read_json(_record(place, trial)) is None:
                raise UserError(f"trial {trial.name} itself failed; its directory is {place / 'trials' / trial.name}")
            _tell(place, wanted, trial, ended, len(missing) + len(running), time.monotonic() - started)
        elif not pid:
            time.sleep(TICK)


def _start(plan: Plan, trial: Trial, subject: Subject, place: Path) -> int:
    sys.stderr.flush()
    if pid := os.fork():
        return pid
    code = 1
    try:
        act = swept if trial.method == SWEEP else None
        carry_out(trial, subject, place / "trials" / trial.name, _record(place, trial), plan.seed, act)
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    finally:
        sys.stderr.flush()
        os._exit(code)


def _tell(place: Path, wanted: Sequence[Trial], last: Trial, ended: int, left: int, seconds: float) -> None:
    rows = [row for trial in wanted if (row := read_json(_record(place, trial))) is not None]
    now, row = counted(rows), read_json(_record(place, last)) or {}
    how = f"{last.kind} {last.method} {last.how}".strip()
    came = "LOST" if row["lost"] else "DIFFERENT" if row["different"] else "continued"
    rate = f"{60 * ended / seconds:.1f} trials a minute, about {seconds / ended * left / 60:.0f} min left"
    say(
        f"{now['trials']} of {len(wanted)} trials, {now['kills']} kills, {now['lost']} lost, "
        f"{now['different']} different; {how}: {came}; {rate}"
    )


def _record(place: Path, trial: Trial) -> Path:
    return place / "records" / f"{trial.name}.json"


def _key(plan: Plan) -> str:
    """What a trial's result depends on: other code, settings or seeds have records of their own."""
    told = json.dumps([plan.told, list(plan.overrides), plan.seed, plan.kills, sorted(plan.methods)], sort_keys=True)
    return hashlib.sha256(f"{finished.code()}{told}".encode()).hexdigest()[:12]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"studies.survival: {error}")
