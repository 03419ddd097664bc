"""A benchmark's options, its table, and its record: what is needed to judge a ratio and to measure it again."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.bounds import Peaks, measured_peaks
from benchmarks.timing import Timing, say
from emorl_bench.core.atomic import write_json
from emorl_bench.core.errors import UserError
from emorl_bench.runner.provenance import code_diff, installed_version, provenance

RESULTS = Path("results/performance")
DTYPES = ("float32", "bfloat16", "float64")


@dataclass(frozen=True)
class Options:
    """The command line of a benchmark.

    Attributes:
        name: the benchmark.
        threads: threads of torch; None takes what suits each shape.
        repeats: rounds; figures are medians over them.
        out: where the record goes.
        quick: whether sizes are micro.
        device: where models lie.
        dtype: that of the base weights.
        extra: the benchmark's own options.
    """

    name: str
    threads: int | None
    repeats: int
    out: Path
    quick: bool
    device: torch.device
    dtype: torch.dtype
    extra: Mapping[str, str]


def options(
    name: str, doc: str | None, argv: Sequence[str] | None, extra: Mapping[str, tuple[str, str]], repeats: int = 3
) -> Options:
    """Parse a command line.

    Args:
        name: the benchmark.
        doc: its docstring, whose first line is the description.
        argv: the arguments; None takes those of the process.
        extra: (default, help) of the benchmark's own options.
        repeats: the default number of rounds.

    Raises:
        UserError: there is no such device, or a count is below 1.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=(doc or "").splitlines()[0])
    parser.add_argument("--threads", type=int, help="threads of torch (default: 1, and 2 for small and larger)")
    parser.add_argument(
        "--repeats", type=int, default=repeats, help=f"rounds; a figure is their median (default {repeats})"
    )
    parser.add_argument("--out", type=Path, default=RESULTS / f"{name}.json", help="where the record goes")
    parser.add_argument("--quick", action="store_true", help="micro sizes: does it run? its numbers mean nothing")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    for option, (default, text) in extra.items():
        parser.add_argument(f"--{option}", default=default, help=f"{text} (default {default})")
    given = parser.parse_args(argv)
    for count in ("threads", "repeats"):
        if getattr(given, count) is not None and getattr(given, count) < 1:
            raise UserError(f"--{count}={getattr(given, count)}: must be at least 1")
    if given.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device=cuda: no GPU that torch can use was found; say --device=cpu")
    chosen = {option: getattr(given, option) for option in extra}
    device, dtype = torch.device(given.device), getattr(torch, given.dtype)
    return Options(name, given.threads, given.repeats, given.out, given.quick, device, dtype, chosen)


@dataclass
class Record:
    """What a benchmark has measured. `row` adds to it, and `close` prints the table and writes the file.

    Attributes:
        options: the command line.
        rows: the rows of the table.
        ratios: the numbers of the last line.
        notes: whatever else is worth keeping.
        started: the clock at the beginning.
    """

    options: Options
    rows: list[dict[str, Any]] = field(default_factory=list)
    ratios: dict[str, float] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    _peaks: dict[int, Peaks] = field(default_factory=dict)  # by threads

    def __post_init__(self) -> None:
        """Measure the peaks with one thread."""
        say(f"benchmarks.{self.options.name}: less than 8 minutes by default on two idle cores")
        self.use_threads(1)

    def use_threads(self, suited: int) -> None:
        """Set the number of torch's threads from here on; the peaks of each number are measured once.

        Args:
            suited: the number of threads, unless the command line names one.
        """
        given = self.options
        self.threads = given.threads or min(suited, os.cpu_count() or 1)
        torch.set_num_threads(self.threads)
        if self.threads not in self._peaks:
            say(f"measuring the machine's peaks with {self.threads} thread(s)")
            self._peaks[self.threads] = measured_peaks(given.device, given.dtype, quick=given.quick)

    @property
    def peaks(self) -> Peaks:
        """The peaks with the present number of threads."""
        return self._peaks[self.threads]

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.started

    def row(self, what: str, timing: Timing, *, vectors: int = 1, bound: float | None = None, **facts: Any) -> None:
        """Add one measured thing.

        Args:
            what: its name.
            timing: its times.
            vectors: the number of weight vectors that share the time.
            bound: the least seconds that it could take.
            **facts: more numbers.
        """
        row = {"what": what, "seconds": timing.as_dict(), "vectors": vectors, "per_vector": timing.median / vectors}
        row["threads"] = self.threads
        if bound is not None:
            row |= {"bound_seconds": bound, "over_bound": timing.median / bound}
        self.rows.append(row | facts)

    def ratio(self, key: str, value: float) -> None:
        """Note a ratio under its key, and print it."""
        self.ratios[key] = value
        say(f"{key}: {value:.4g}")

    def close(self) -> None:
        """Print the table, write the file, and print the ratios as the last line."""
        for line in self._table():
            print(line)
        write_json(self.options.out, self._contents())
        print(f"written: {self.options.out} ({self.elapsed:.0f} s)")
        print(json.dumps({"ratios": {key: float(f"{value:.4g}") for key, value in self.ratios.items()}}), flush=True)

    def _table(self) -> list[str]:
        hidden = {"what", "seconds", "vectors", "per_vector", "bound_seconds", "over_bound", "threads"}
        rows = [("measured", "median s", "spread", "s/vector", "x bound", "")]
        for row in self.rows:
            seconds, over = row["seconds"], row.get("over_bound")
            also = ", ".join(f"{key} {_short(value)}" for key, value in row.items() if key not in hidden)
            numbers = (f"{seconds['median']:.3g}", f"{seconds['spread']:.0%}", f"{row['per_vector']:.3g}")
            rows.append((row["what"], *numbers, "" if over is None else f"{over:.1f}", also))
        width = max(len(row[0]) for row in rows)
        columns = [(what, "".join(f"{cell:>10}" for cell in cells), also) for what, *cells, also in rows]
        lines = [f"{what:{width}}{cells}  {also}".rstrip() for what, cells, also in columns]
        return [*lines, "", *(f"{key:{width}}{value:>10.4g}" for key, value in self.ratios.items())]

    def _contents(self) -> dict[str, Any]:
        here = provenance(self.threads, self.options.device.type)
        here["command"] = ["python", "-m", f"benchmarks.{self.options.name}", *sys.argv[1:]]
        here["uncommitted_changes"] = bool(code_diff())
        here["versions"] |= {name: found for name in ("accelerate", "trl") if (found := installed_version(name))}
        settings = {"quick": self.options.quick, "dtype": str(self.options.dtype), "repeats": self.options.repeats}
        return {
            "benchmark": self.options.name,
            "ratios": self.ratios,
            **here,
            "threads": sorted({row["threads"] for row in self.rows}),
            "settings": settings | dict(self.options.extra),
            "peaks_by_threads": {threads: peaks.as_dict() for threads, peaks in self._peaks.items()},
            "notes": self.notes,
            "rows": self.rows,
            "seconds_in_all": self.elapsed,
        }


def run(main: Callable[[Sequence[str] | None], None]) -> int:
    """Run a program.

    Returns:
        the exit status: 0, or 2 after one line about bad input.
    """
    try:
        main(None)
    except UserError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    return 0


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
