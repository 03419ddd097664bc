"""What every part of the kit is given: its share of the time, and a record that is on disk after every number.

Each part gets a share of the minutes that are left, by its weight among the parts that have not begun. What a part
leaves over goes to the next ones. A failure is recorded, its traceback goes to ``log.txt``, and the other measurements
go on. What an earlier visit has measured is not measured again (`benchmarks.gpu.earlier`).
"""

from __future__ import annotations

import gc
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.goals import reached
from benchmarks.gpu.table import table
from emorl_bench.core.atomic import write_json, write_text

FORMAT = 2  # version of the format of gpu.json
DONE = "done"
VISIT = ("started", "command", "commit", "card", "machine", "versions")  # what is kept of every visit


@dataclass(frozen=True)
class Settings:
    """The command line.

    Attributes:
        minutes: the time of all parts together.
        out: the directory of the record.
        runs: runs_dir of the study.
        device: what is measured.
        quick: whether sizes are micro.
        again: whether everything is measured again, whatever earlier visits have measured.
    """

    minutes: float
    out: Path
    runs: Path
    device: torch.device
    quick: bool
    again: bool = False

    @property
    def dtype(self) -> torch.dtype:
        """That of the base weights."""
        return torch.bfloat16

    @property
    def repeats(self) -> int:
        """The rounds of every timed thing; figures are medians."""
        return 1 if self.quick else 3


@dataclass(frozen=True)
class Number:
    """One figure.

    Attributes:
        part: the part that it belongs to.
        what: its name.
        value: in ``unit``.
        unit: the unit.
        ratio: the figure beside another thing that was measured in the same turns.
        over: what the ratio is of, and over what.
        facts: more numbers.
        raw: seconds of every repeat.
        visit: the visit that measured it; the record has machine, commit and command of every visit.
    """

    part: str
    what: str
    value: float
    unit: str
    ratio: float | None = None
    over: str = ""
    facts: Mapping[str, float] = field(default_factory=dict)
    raw: Sequence[float] = ()
    visit: int = 0


@dataclass(frozen=True)
class Part:
    """One part of the kit.

    Attributes:
        name: its name.
        weight: its weight in sharing the time.
        least: the seconds that it needs at least.
        run: does the work.
        goes_on: whether every visit runs it, because it has a record of its own of what is left to do.
    """

    name: str
    weight: float
    least: float
    run: Callable[[Kit], None]
    goes_on: bool = False


@dataclass
class Kit:
    """A visit to a GPU and what it has found.

    Attributes:
        settings: the command line.
        about: card, versions, commit.
        parts: state and seconds by part.
        numbers: figures by key.
        tables: small tables by title, for what does not fit the one table.
        skipped: what was left out, and why.
        failures: what failed.
        started: the clock at the beginning.
        part: the name of the running part.
        visits: machine, commit, command and time of each visit whose numbers are kept; this one is the last.
        steps: the measurements that are whole, by name, with the visit that made them.
    """

    settings: Settings
    about: Mapping[str, Any]
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    numbers: dict[str, Number] = field(default_factory=dict)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    skipped: list[dict[str, str]] = field(default_factory=list)
    failures: list[dict[str, str]] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    part: str = ""
    visits: list[dict[str, Any]] = field(default_factory=lambda: [{}])
    steps: dict[str, int] = field(default_factory=dict)
    _cut: bool = False  # whether the running part has left something out for want of time
    _until: float = 0.0  # when the running part has to end

    @property
    def left(self) -> float:
        """The seconds that are left for the running part."""
        return self._until - time.monotonic()

    @property
    def device(self) -> torch.device:
        """What is measured."""
        return self.settings.device

    def run(self, parts: Sequence[Part]) -> None:
        """Run all parts that no earlier visit has finished, each within its share of the time."""
        end = self.started + 60 * self.settings.minutes
        waiting = [part for part in parts if part.goes_on or self.parts.get(part.name, {}).get("state") != DONE]
        for i, part in enumerate(waiting):
            whole = end - time.monotonic()
            share = whole * part.weight / sum(later.weight for later in waiting[i:])
            self.part, self._until, self._cut = part.name, time.monotonic() + share, False
            begun, visit = time.monotonic(), len(self.visits) - 1
            if share < part.least:
                self.parts[part.name] = {"state": "skipped", "seconds": 0.0, "share": share, "visit": visit}
                self.skip("all of it", f"{share:.0f} s are left for it, and it needs {part.least:.0f}")
                continue
            self.parts[part.name] = {"state": "running", "seconds": 0.0, "share": share, "visit": visit}
            self.say(f"=== {part.name}: {share:.0f} s")
            before = len(self.failures)
            with self.attempt("the part"):
                part.run(self)
            state = "with failures" if len(self.failures) > before else "cut short" if self._cut else DONE
            self.parts[part.name] |= {"state": state, "seconds": time.monotonic() - begun}
            self.save()

    @contextmanager
    def attempt(self, what: str, step: str = "") -> Iterator[None]:
        """Record whatever fails inside this context, and go on after it.

        Args:
            what: what is attempted, in words.
            step: the name of a measurement that later visits need not make again if nothing has failed.
        """
        try:
            yield
        except Exception as error:
            self.fail(what, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", traceback.format_exc())
        else:
            if step:
                self.steps[step] = len(self.visits) - 1
                self.save()
        self.tidy()

    def tidy(self) -> None:
        """Free the memory that nothing uses any more."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def affords(self, what: str, seconds: float) -> bool:
        """Whether so many seconds are left of this part; if not, what is left out is recorded."""
        if self.left >= seconds:
            return True
        self.short_of(what, f"would take about {seconds:.0f} s, {max(self.left, 0):.0f} are left")
        return False

    def short_of(self, what: str, why: str) -> None:
        """Record that something is left out for want of time, so that a later visit makes up for it."""
        self._cut = True
        self.skip(what, why)

    def wants(self, what: str, step: str, seconds: float = 0.0) -> bool:
        """Whether a measurement is still to be made, and the time that is left suffices for it."""
        return step not in self.steps and self.affords(what, seconds)

    def number(self, key: str, number: Number) -> None:
        """Record a figure under its key."""
        self.numbers[key] = replace(number, visit=len(self.visits) - 1)
        beside = "" if number.ratio is None else f", {number.over} {number.ratio:.3g}"
        self.say(f"{key}: {number.value:.4g} {number.unit}{beside}")
        self.save()

    def skip(self, what: str, why: str) -> None:
        """Record that something is left out."""
        self.skipped.append({"part": self.part, "what": what, "why": why})
        self.say(f"skipped: {what}: {why}")

    def fail(self, what: str, error: str, detail: str = "") -> None:
        """Record a failure; ``detail``, such as a traceback, goes to ``log.txt``."""
        self.failures.append({"part": self.part, "what": what, "error": error})
        self.say(f"FAILED: {what}: {error}")
        self.log(detail)
        self.save()

    def say(self, line: str) -> None:
        """Print a line of progress to stderr and to ``log.txt``."""
        print(f"[{time.monotonic() - self.started:4.0f} s] {line}", file=sys.stderr, flush=True)
        self.log(line)

    def log(self, text: str) -> None:
        """Append a text to ``log.txt``."""
        if text:
            with (self.settings.out / "log.txt").open("a", encoding="utf-8") as file:
                file.write(f"[{time.monotonic() - self.started:6.1f} s] {text.rstrip()}\n")

    def contents(self) -> dict[str, Any]:
        """What gpu.json holds; the table is made from it."""
        numbers = {key: asdict(number) for key, number in self.numbers.items()}
        seconds = time.monotonic() - self.started
        visit = {name: self.about[name] for name in VISIT if name in self.about}
        self.visits[-1] = {**visit, "minutes": self.settings.minutes, "seconds": seconds}
        return {
            "format": FORMAT,
            **self.about,
            "minutes": self.settings.minutes,
            "quick": self.settings.quick,
            "seconds": seconds,
            "visits": self.visits,
            "parts": self.parts,
            "goals": reached(numbers, quick=self.settings.quick),
            "numbers": numbers,
            "steps": self.steps,
            "tables": self.tables,
            "skipped": self.skipped,
            "failures": self.failures,
        }

    def save(self) -> str:
        """Write gpu.json and gpu.md.

        Returns:
            the table.
        """
        contents = self.contents()
        write_json(self.settings.out / "gpu.json", contents)
        text = table(contents)
        write_text(self.settings.out / "gpu.md", text)
        return text
