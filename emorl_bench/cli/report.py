"""``emorl-report RUNS... --out DIR``: tables and figures from run directories.

It prints the main table, the conclusions, and the path of the report.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import rich.box
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from emorl_bench.cli.harness import arguments_of, one_line
from emorl_bench.core.errors import UserError
from emorl_bench.progress import ProgressBar
from emorl_bench.report.comparison import Comparison, comparisons
from emorl_bench.report.conclusion import conclude
from emorl_bench.report.document import STEPS, Options, seeds_sentence, write_report
from emorl_bench.report.html.explained_file import read_explained
from emorl_bench.report.html.write import write_html
from emorl_bench.report.packed import check_name, pack, unpacked
from emorl_bench.report.published import PUBLISHED, check_fit, legend, published, published_table
from emorl_bench.report.read import read_runs
from emorl_bench.report.reference import check_reference
from emorl_bench.report.selection import where
from emorl_bench.report.tables import CHOOSES, SINGLE_POINT, Table, chooses, headline_table


@dataclass(frozen=True)
class Choice:
    """Which runs a report is about, and what its rows are."""

    fingerprint: str | None = None
    where: tuple[str, ...] = ()
    group_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Packing:
    """The file that runs are packed into, and the seeds of each row whose answers it keeps (`report.packed.pack`)."""

    file: Path
    detailed: int | None = None


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program."""
    args = arguments_of(_parser(), argv)
    groups = tuple(key for text in args.group_by for key in text.split(",") if key)
    choice = Choice(args.fingerprint, tuple(args.where), groups)
    with one_line("emorl-report", traceback=args.traceback):
        roots = [Path(root) for root in args.runs]
        explained = [Path(file) for files in args.explained for file in files]
        packing = None if args.pack is None else Packing(Path(args.pack), args.pack_details)
        report(
            roots, Path(args.out), args.reference, choice, args.published,
            latex=args.latex, explained=explained, packing=packing,
        )  # fmt: skip


def report(
    roots: Path | Sequence[Path],
    out: Path,
    reference: str | None = None,
    choice: Choice | None = None,
    paper: str | None = None,
    *,
    latex: bool = False,
    explained: Sequence[Path] = (),
    packing: Packing | None = None,
) -> Path:
    """Write the report of the ``roots`` into ``out``, and print its main tables.

    ``explained``: files of ``emorl-generate --explain --json``, which report.html shows word by word. ``packing``: also
    write the runs as one file.

    Raises:
        UserError: there is no finished run, an option names what is not there, ``out`` cannot be written, an
            ``explained`` file is damaged, or the figures published under ``paper`` are of another task.
    """
    if packing is not None:
        check_name(packing.file)
    roots, choice = [roots] if isinstance(roots, Path) else list(roots), choice or Choice()
    figures = None if paper is None else published(paper)
    told = [one for file in explained for one in read_explained(file)]
    with unpacked(roots) as dirs:
        runs, unfinished = read_runs(*dirs, shown=_reading)
        if not runs:
            listed = " ".join(map(str, roots))
            raise UserError(f"RUNS={listed} has no finished run ({len(unfinished)} unfinished); run emorl-bench first")
        groups = comparisons(where(runs, choice.where), choice.fingerprint, choice.group_by)
        check_reference(groups, reference)
        if paper is not None:
            check_fit(paper, groups)
        try:
            out.mkdir(parents=True, exist_ok=True)
            with _steps("writing", len(groups) * STEPS + 1, "parts") as step:
                options = Options(reference, figures, latex, step)
                path = write_report(groups, unfinished, roots, out, options)
                explorable = write_html(groups, unfinished, roots, out, reference, told, figures)
                step()
            if packing is not None:
                pack(groups, dirs, packing.file, packing.detailed)
        except OSError as error:
            raise UserError(f"--out {out} cannot be written ({error.strerror}); choose another directory") from error
    console = Console()
    for comparison in groups:
        _show(console, comparison, options)
    if unfinished:
        console.print(f"{len(unfinished)} failed or unfinished runs are listed in the report.", highlight=False)
    print(f"to explore, in a browser: {explorable.resolve()}")
    print(f"report: {path.resolve()}")
    return path


@contextmanager
def _steps(label: str, total: int, unit: str) -> Iterator[Callable[[], None]]:
    """Shows progress; what it gives is called once for each part that is done."""
    with ProgressBar(label, total, unit) as bar:
        bar.to(0)
        done = count(1)
        yield lambda: bar.to(next(done))


def _reading(paths: Sequence[Path]) -> Iterator[Path]:
    """The paths, one after the other, while progress is shown."""
    with _steps("reading", len(paths), "runs") as step:
        for path in paths:
            yield path
            step()


def _show(console: Console, comparison: Comparison, options: Options) -> None:
    decoding, paper = comparison.decodings()[0], options.paper
    table = headline_table(comparison, decoding)
    note = f"{seeds_sentence(comparison).replace('*', '')} {SINGLE_POINT} one policy answers every preference."
    if chooses(comparison.runs):
        note += f" {CHOOSES} chooses with the scorers: what is in brackets is not compared."
    if console.is_terminal:
        console.print(_rich(table, f"{comparison.title}, {decoding} decoding"))
        console.print(note, style="dim", highlight=False, markup=False)
    else:
        print(f"\n{comparison.title}, {decoding} decoding\n\n{table.plain()}\n\n{note}")
    conclusion = conclude(comparison, options.reference)
    print("\n".join(["", *(f"- {sentence}" for sentence in (*conclusion.found, *conclusion.undecided))]))
    if paper is not None and paper.fits(comparison):
        print(f"\n{legend(paper, comparison).replace('*', '')}\n")
        print(f"{published_table(paper, comparison, decoding).plain()}\n")


def _rich(table: Table, title: str) -> RichTable:
    drawn = RichTable(title=title, title_justify="left", title_style="bold", box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for i, name in enumerate(table.header):
        drawn.add_column(name, justify="right" if i else "left", no_wrap=i == 0, min_width=max(map(len, name.split())))
    for row in table.rows:
        drawn.add_row(*(escape(cell) for cell in row))
    return drawn


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="emorl-report", description="Tables and figures from emorl-bench runs.")
    parser.add_argument(
        "runs", metavar="RUNS", nargs="+", help="directories with run directories at any depth, or packed ones"
    )
    parser.add_argument("--out", default="report", metavar="DIR", help="where to write (default: report)")
    parser.add_argument(
        "--reference", metavar="METHOD", help="method or row the others are compared with (default: emorl, else base)"
    )
    parser.add_argument(
        "--where", action="append", default=[], metavar="KEY=VALUE",
        help="take only these runs: update=grpo,scst, method!=base, lr<=1e-3; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--group-by", action="append", default=[], metavar="KEY[,KEY]",
        help="one row for each value of these keys, such as method,update, over all runs that have it",
    )  # fmt: skip
    parser.add_argument("--fingerprint", metavar="PREFIX", help="take only the runs whose fingerprint begins so")
    parser.add_argument(
        "--published", metavar="PAPER", help=f"set published figures beside ours: {', '.join(PUBLISHED)}"
    )
    parser.add_argument(
        "--explained", metavar="FILE", action="append", nargs="+", default=[],
        help="show in report.html which expert said each word; of emorl-generate RUN --explain --json FILE",
    )  # fmt: skip
    parser.add_argument(
        "--pack", metavar="FILE", help="also write the runs as one file, FILE.parquet, to report on later"
    )
    parser.add_argument(
        "--pack-details", metavar="SEEDS", type=int,
        help="keep answers, their scores and curves of so many seeds of each row only (default: of all)",
    )  # fmt: skip
    parser.add_argument("--latex", action="store_true", help="write the tables as LaTeX too")
    parser.add_argument("--traceback", action="store_true", help="show the traceback of an error")
    return parser


if __name__ == "__main__":
    main()
