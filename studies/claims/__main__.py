"""The study of docs/study.md: run its sweeps, and write what they say from their packed runs.

    python -m studies.claims run --runs runs/study --out results/study    # all sweeps; hours, and resumable
    python -m studies.claims run --sweeps main,kl seed=200,201            # a part; overrides go to each sweep
    python -m studies.claims write --out results/study                    # claims.md, figures and the report

``run`` ends each sweep with its packed runs (``OUT/SWEEP.parquet``) and writes everything again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.timing import say
from emorl_bench.cli.harness import one_line
from emorl_bench.cli.report import report
from emorl_bench.core.atomic import write_text
from emorl_bench.report.packed import unpacked
from emorl_bench.report.read import read_runs
from studies.claims.claims import questions
from studies.claims.plots import plot_change, plot_claims, plot_kl
from studies.claims.sweeps import SWEEPS, run_sweep
from studies.claims.tables import Answer, gate, page

MAIN = "main"
PLOTS = {"kl": plot_kl, "change": plot_change}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(prog="python -m studies.claims", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="run sweeps, pack them, and write everything")
    running.add_argument("--sweeps", default=",".join(SWEEPS), help=f"which: {', '.join(SWEEPS)}")
    running.add_argument("--runs", type=Path, default=Path("runs/study"), help="where runs are kept, to be resumed")
    running.add_argument("overrides", nargs="*", help="overrides of each sweep, such as seed=200,201")
    writing = commands.add_parser("write", help="write everything from packed sweeps")
    for command in (running, writing):
        command.add_argument(
            "--out", type=Path, default=Path("results/study"), help="packed sweeps and what is written"
        )
    given, more = parser.parse_known_args(argv)
    with one_line("studies.claims"):
        if given.command == "run":
            for name in given.sweeps.split(","):
                run_sweep(name, given.runs, given.out, [*given.overrides, *more])
        write(given.out)


def write(out: Path) -> None:
    """Write ``claims.md``, figures, and the report of the main sweep, from the packed sweeps in ``out``."""
    answers, missing, alike = [], [], None
    for question in questions():
        file = out / f"{question.sweep}.parquet"
        if not file.exists():
            missing.append(f"study_{question.sweep}")
            continue
        with unpacked([file]) as dirs:
            runs = read_runs(*dirs)[0]
            say(f"{question.sweep}: {len(runs)} runs")
            answers.append(Answer.of(question, runs))
            if (plot := PLOTS.get(question.sweep)) is not None:
                plot(runs, out / f"{question.sweep}.png")
            if question.sweep == MAIN:
                alike = gate(runs)
                report(file, out / "report")
    plot_claims(answers, out / "claims.png")
    write_text(out / "claims.md", page(answers, alike, missing))
    say(f"written: {out / 'claims.md'}")


if __name__ == "__main__":
    main()
