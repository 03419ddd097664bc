"""One trial: a run is killed, the same command is given again until it is done, and every artefact is compared."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from emorl_bench.core.atomic import write_json
from emorl_bench.runner.identity import read_json
from studies.survival.compare import differences
from studies.survival.session import RUNS, Session, gone
from studies.survival.writes import Death

KINDS = ("single kill", "repeated kills", "signals", "torn writes", "full disk", "two terminals", "sweeps")
WRONG = 2  # the exit status of a program that says one line
SHOWN = 5  # lines of what is wrong that are kept


@dataclass(frozen=True)
class Trial:
    """What is done to one run.

    Attributes:
        kind: one of `KINDS`.
        method: the method, or "sweep".
        number: tells trials of one kind and method apart.
        how: what exactly is done, such as a signal or the point of a write.
        death: where the run dies by itself.
        kills: number of kills.
    """

    kind: str
    method: str
    number: int
    how: str = ""
    death: Death | None = None
    kills: int = 1

    @property
    def name(self) -> str:
        """The name of its directory and its record."""
        return f"{self.kind}-{self.method}-{self.number}".replace(" ", "_")


@dataclass
class Told:
    """What came of a trial.

    Attributes:
        kills: processes that a signal or a full disk has ended.
        sessions: how often the command was given.
        lost: why the run did not go on, or did not end.
        different: artefacts that differ from those of the reference.
        seconds: the wall time of the trial.
    """

    kills: int = 0
    sessions: int = 0
    lost: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class Subject:
    """The run that trials are made with, and its reference.

    Attributes:
        arguments: the command line.
        reference: the working directory of the uninterrupted run.
        seconds: the time that a session of it computes.
        patience: the wall time after which a session counts as hung.
    """

    arguments: Sequence[str]
    reference: Path
    seconds: float
    patience: float


Act = Callable[[Trial, Subject, Path, random.Random, Told], None]


def carry_out(trial: Trial, subject: Subject, place: Path, record: Path, seed: int, act: Act | None = None) -> Told:
    """Carry out a trial in a new directory, and write what came of it. The directory of a good one is removed."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    told, started = Told(), time.monotonic()
    rng = random.Random(f"{seed}/{trial.name}")
    (act or ACTS[trial.kind])(trial, subject, place, rng, told)
    if not told.lost:
        told.different = differences(subject.reference / RUNS, place / RUNS)[:SHOWN]
    told.seconds = time.monotonic() - started
    write_json(record, {**asdict(trial), **asdict(told)})
    if not told.lost and not told.different:
        shutil.rmtree(place)
    return told


def until_done(subject: Subject, place: Path, told: Told) -> None:
    """Give the command again, and leave it alone."""
    session = Session.start(place, subject.arguments)
    finish(session, subject, told, 0)


def finish(session: Session, subject: Subject, told: Told, *wanted: int) -> list[str]:
    """Wait for the end of a session, which must be one of the wanted ones.

    Returns:
        its output.
    """
    told.sessions += 1
    code = session.ended(subject.patience)
    if code is None:
        session.send(signal.SIGKILL)
        session.ended(float("inf"))
        told.lost.append(f"hung for more than {subject.patience:g} s")
    said = session.said()
    if code is not None and code not in wanted:
        told.lost += [f"exit status {code}", *said[-SHOWN:]]
    if any("Traceback" in line for line in said):
        told.lost.append("a traceback")
    return said


def killed(trial: Trial, subject: Subject, place: Path, rng: random.Random, told: Told) -> None:
    """SIGKILL at random moments of a run, once or again and again."""
    span = subject.seconds if trial.kills == 1 else subject.seconds * 2 / (1 + trial.kills)
    for _ in range(trial.kills):
        session = Session.start(place, subject.arguments)
        if not session.after(rng.uniform(0.0, span)):
            finish(session, subject, told, 0)
            return
        session.send(signal.SIGKILL)
        told.kills += finish_killed(session, subject, told, signal.SIGKILL)
    until_done(subject, place, told)


def finish_killed(session: Session, subject: Subject, told: Told, number: int) -> int:
    """Wait for the end of a session that was sent a signal; 1 if the signal has ended it, 0 if it was done."""
    told.sessions += 1
    code = session.ended(subject.patience)
    if code is None:
        told.lost.append(f"goes on after {signal.Signals(number).name}")
        session.send(signal.SIGKILL)
        session.ended(float("inf"))
    said = session.said()
    if any("Traceback" in line for line in said):
        told.lost += ["a traceback", *said[-SHOWN:]]
    return int(code != 0)


def signalled(trial: Trial, subject: Subject, place: Path, rng: random.Random, told: Told) -> None:
    """A signal that asks a run to end, at a random moment; the run records why it ended."""
    number = int(signal.Signals[trial.how])
    session = Session.start(place, subject.arguments)
    if not session.after(rng.uniform(0.0, subject.seconds)):
        finish(session, subject, told, 0)
        return
    session.send(number)
    ended = finish_killed(session, subject, told, number)
    told.kills += ended
    status = next((read_json(path) or {} for path in place.glob(f"{RUNS}/*/*/*/*/status.json")), {})
    if ended and status.get("state") == "running":
        told.lost.append(f"{trial.how}: the record still says that it runs")
    until_done(subject, place, told)


def torn(trial: Trial, subject: Subject, place: Path, rng: random.Random, told: Told) -> None:
    """Death at a point of one write."""
    session = Session.start(place, subject.arguments, trial.death)
    told.kills += finish_killed(session, subject, told, signal.SIGKILL)
    until_done(subject, place, told)


def full(trial: Trial, subject: Subject, place: Path, rng: random.Random, told: Told) -> None:
    """No room in the middle of one write: the run says one line, and goes on when there is room."""
    session = Session.start(place, subject.arguments, trial.death)
    said = finish(session, subject, told, 0, WRONG)
    told.kills += any("File too large" in line for line in said)
    until_done(subject, place, told)


def twice(trial: Trial, subject: Subject, place: Path, rng: random.Random, told: Told) -> None:
    """The same command in two terminals: one says a line, and the other goes on."""
    first = Session.start(place, subject.arguments)
    while not any(place.glob(f"{RUNS}/*/*/*/*/status.json")):
        if first.ended() is not None:
            told.lost.append("ended before it began")
            return
        time.sleep(0.01)
    second = Session.start(place, subject.arguments)
    said = [line for line in finish(second, subject, told, WRONG) if line.strip()]
    if len(said) != 1 or "is in use by another run" not in said[0]:
        told.lost += ["the second terminal does not say one line", *said[-SHOWN:]]
    finish(first, subject, told, 0)


ACTS: dict[str, Act] = {
    "single kill": killed,
    "repeated kills": killed,
    "signals": signalled,
    "torn writes": torn,
    "full disk": full,
    "two terminals": twice,
}


def processes(place: Path) -> list[int]:
    """The processes that the runs of a directory name, as far as they still run."""
    told: list[Any] = [(read_json(path) or {}).get("pid") for path in place.glob(f"{RUNS}/*/*/*/*/status.json")]
    return [pid for pid in told if isinstance(pid, int) and not gone(pid)]
