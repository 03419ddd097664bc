"""Sweeps that are killed: the sweep itself, one of its jobs, or both; and the same sweep again."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

from studies.survival.session import Session
from studies.survival.trials import Subject, Told, Trial, finish, processes

VICTIMS = ("sweep", "job", "job and sweep")
ORPHANS = 60.0  # seconds in which jobs of a killed sweep must have ended
TICK = 0.05


def swept(trial: Trial, subject: Subject, place: Path, rng: random.Random, told: Told) -> None:
    """Kill what ``trial.how`` names at a random moment of a sweep, and give the command again."""
    session = Session.sweep(place, subject.arguments)
    moment = time.monotonic() + rng.uniform(0.0, subject.seconds)
    while time.monotonic() < moment and session.alive:
        time.sleep(TICK)
    if "job" in trial.how:
        told.kills += _kill_job(session, place, rng, subject.patience)
    if "sweep" in trial.how and session.alive:
        os.kill(session.pid, signal.SIGKILL)
        told.kills += 1
    told.sessions += 1
    if session.ended(subject.patience) is None:
        session.send(signal.SIGKILL)
        session.ended(float("inf"))
        told.lost.append("the sweep hangs after a kill")
    _without_orphans(place, told)
    session.said()
    again = Session.sweep(place, subject.arguments)
    finish(again, subject, told, 0)


def _kill_job(session: Session, place: Path, rng: random.Random, patience: float) -> int:
    """Kill a job that runs; wait for one where none does."""
    deadline = time.monotonic() + patience
    while session.alive and time.monotonic() < deadline:
        if jobs := processes(place):
            with suppress(ProcessLookupError):
                os.kill(rng.choice(jobs), signal.SIGKILL)
                return 1
        time.sleep(TICK)
    return 0


def _without_orphans(place: Path, told: Told) -> None:
    deadline = time.monotonic() + ORPHANS
    while jobs := processes(place):
        if time.monotonic() > deadline:
            told.lost.append(f"{len(jobs)} jobs go on without their sweep")
            for pid in jobs:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return
        time.sleep(TICK)
