"""``emorl-report RUNS --out DIR``: tables and figures from run directories.

It prints the main table and the path of the report.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import rich.box
from rich.console import Console
from rich.table import Table as RichTable

from emorl_bench.cli.harness import one_line
from emorl_bench.core.errors import UserError
from emorl_bench.report.comparison import Comparison, comparisons
from emorl_bench.report.document import seeds_sentence, write_report
from emorl_bench.report.html.write import write_html
from emorl_bench.report.published import PUBLISHED, Published, legend, published, published_table
from emorl_bench.report.read import read_runs
from emorl_bench.report.tables import CHOOSES, SINGLE_POINT, Table, chooses, headline_table


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program."""
    args = _parser().parse_args(argv)
    with one_line("emorl-report", traceback=args.traceback):
        report(Path(args.runs), Path(args.out), args.reference, args.fingerprint, args.published)


def report(root: Path, out: Path, reference: str, fingerprint: str | None = None, paper: str | None = None) -> Path:
    """Write the report of ``root`` into ``out``, and print its main tables.

    Raises:
        UserError: there is no finished run, ``out`` cannot be written, or nothing is published under ``paper``.
    """
    figures = None if paper is None else published(paper)
    runs, unfinished = read_runs(root)
    if not runs:
        raise UserError(f"RUNS={root} has no finished run ({len(unfinished)} unfinished); run emorl-bench first")
    groups = comparisons(runs, fingerprint)
    try:
        out.mkdir(parents=True, exist_ok=True)
        path = write_report(groups, unfinished, root, out, reference, figures)
        explorable = write_html(groups, unfinished, [root], out, reference)
    except OSError as error:
        raise UserError(f"--out {out} cannot be written ({error.strerror}); choose another directory") from error
    console = Console()
    for comparison in groups:
        _show(console, comparison, figures)
    if unfinished:
        console.print(f"{len(unfinished)} failed or unfinished runs are listed in the report.", highlight=False)
    print(f"to explore, in a browser: {explorable.resolve()}")
    print(f"report: {path.resolve()}")
    return path


def _show(console: Console, comparison: Comparison, paper: Published | None) -> None:
    decoding = comparison.decodings()[0]
    table = headline_table(comparison, decoding)
    note = f"{seeds_sentence(comparison).replace('*', '')} {SINGLE_POINT} one policy answers every preference."
    if chooses(comparison.runs):
        note += f" {CHOOSES} chooses with the scorers: what is in brackets is not compared."
    if console.is_terminal:
        console.print(_rich(table, f"{comparison.title}, {decoding} decoding"))
        console.print(note, style="dim", highlight=False)
    else:
        print(f"\n{comparison.title}, {decoding} decoding\n\n{table.plain()}\n\n{note}")
    if paper is not None:
        print(f"\n{legend(paper).replace('*', '')}\n\n{published_table(paper, comparison, decoding).plain()}\n")


def _rich(table: Table, title: str) -> RichTable:
    drawn = RichTable(title=title, title_justify="left", title_style="bold", box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for i, name in enumerate(table.header):
        drawn.add_column(name, justify="right" if i else "left", no_wrap=i == 0, min_width=max(map(len, name.split())))
    for row in table.rows:
        drawn.add_row(*row)
    return drawn


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="emorl-report", description="Tables and figures from emorl-bench runs.")
    parser.add_argument("runs", metavar="RUNS", help="a directory with run directories at any depth")
    parser.add_argument("--out", default="report", metavar="DIR", help="where to write (default: report)")
    parser.add_argument("--reference", default="emorl", metavar="METHOD", help="method the others are tested against")
    parser.add_argument("--fingerprint", metavar="PREFIX", help="take only the runs whose fingerprint begins so")
    parser.add_argument(
        "--published", metavar="PAPER", help=f"set published figures beside ours: {', '.join(PUBLISHED)}"
    )
    parser.add_argument("--traceback", action="store_true", help="show the traceback of an error")
    return parser


if __name__ == "__main__":
    main()
