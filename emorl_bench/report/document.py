"""report.md and the files beside it: what was compared, on how many seeds, and from which code and machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from emorl_bench.report.columns import written
from emorl_bench.report.comparison import Comparison
from emorl_bench.report.csv_file import write_csv
from emorl_bench.report.figures import draw
from emorl_bench.report.gold import over_tasks
from emorl_bench.report.origins import FILE, origins_sentence, write_origins
from emorl_bench.report.published import Published, legend, published_table
from emorl_bench.report.read import Unfinished
from emorl_bench.report.sections import decoding_section, frontier_section
from emorl_bench.report.tables import Table, all_columns, results_table


def write_report(
    comparisons: Sequence[Comparison],
    unfinished: Sequence[Unfinished],
    root: Path,
    out: Path,
    reference: str,
    paper: Published | None = None,
) -> Path:
    """Write everything into ``out``; returns the path of report.md.

    ``paper``: published figures to show beside ours.
    """
    sections = ["# Report", f"Runs read from `{root}`.", *_overall(comparisons)]
    tables = []
    for comparison in comparisons:
        figures = draw(comparison, out, reference)
        sections += [f"## {comparison.title}", seeds_sentence(comparison), origins_sentence(comparison)]
        first, *others = comparison.decodings()
        sections += decoding_section(comparison, first, reference)
        sections += frontier_section(comparison)
        if paper is not None:
            sections += [legend(paper), published_table(paper, comparison, first).markdown()]
        for name, caption in figures.items():
            sections += [f"![{caption.split('.')[0]}]({name})", f"*{caption}*"]
        for decoding in others:
            sections += decoding_section(comparison, decoding, reference)
        for decoding in (first, *others):
            full = results_table(comparison, decoding, all_columns(comparison, decoding))
            tables.append(f"## {comparison.title} · {decoding}\n\n{full.markdown()}\n")
    sections += _unfinished(unfinished, root)
    write_csv(out / "table.csv", comparisons)
    write_origins(out / FILE, comparisons)
    (out / "table.md").write_text("\n".join(tables), encoding="utf-8")
    path = out / "report.md"
    path.write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    return path


def seeds_sentence(comparison: Comparison) -> str:
    """How many seeds the numbers are from, and which methods have fewer than the others."""
    seeds: dict[str, set[int]] = {}
    for run in comparison.runs:
        seeds.setdefault(run.method, set()).add(run.seed)
    counts = {len(found) for found in seeds.values()}
    fingerprint = f"Fingerprint `{comparison.runs[0].fingerprint[:12]}`."
    if len(set(map(frozenset, seeds.values()))) == 1:
        listed = ", ".join(map(str, sorted(next(iter(seeds.values())))))
        return f"Every number stands on {_plural(counts.pop(), 'seed')} ({listed}) of each method. {fingerprint}"
    listed = "; ".join(f"{name}: {', '.join(map(str, sorted(found)))}" for name, found in sorted(seeds.items()))
    return f"**The methods do not have the same seeds** ({listed}). {fingerprint}"


def overall_table(comparisons: Sequence[Comparison], decoding: str) -> Table | None:
    """Normalised gold of every method in each task and over the tasks; None with fewer than two tasks that have it."""
    known = [c for c in comparisons if decoding in c.decodings() and over_tasks([c], decoding)]
    if len(known) < 2:
        return None
    rows = []
    for found in over_tasks(known, decoding):
        seeds = "–" if found.mean is None else str(found.mean.n)
        cells = (written(interval) for interval in (found.mean, *found.tasks))
        rows.append((found.method, seeds, *cells))
    return Table(("method", "seeds in all", "all tasks", *(c.title for c in known)), tuple(rows))


def _overall(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """The tasks together, where several have gold, a ceiling and runs of the base model."""
    tables = {decoding: overall_table(comparisons, decoding) for decoding in ("greedy", "sampled")}
    found = {decoding: table for decoding, table in tables.items() if table is not None}
    if found:
        yield "## All tasks"
        yield (
            "Normalised gold utility of the deployed policies: 0 is `base`, 1 the best legal answers. `all tasks` is "
            "the mean over the tasks for each seed that a method has in all of them, then over seeds, ± the half-width "
            "of a 95 % t interval; a method that was not run in all tasks has none. The order of rows is that of their "
            "means, and no claim."
        )
    for decoding, table in found.items():
        yield f"### All tasks, {decoding} decoding"
        yield table.markdown()


def _unfinished(unfinished: Sequence[Unfinished], root: Path) -> list[str]:
    if not unfinished:
        return []
    lines = [
        f"- `{run.dir.relative_to(root)}`: {run.state}" + f" ({run.reason})" * bool(run.reason) for run in unfinished
    ]
    return ["## Not in the tables", f"{_plural(len(unfinished), 'run')} failed or did not finish:", "\n".join(lines)]


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
