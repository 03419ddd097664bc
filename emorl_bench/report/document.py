"""report.md and the files beside it: what was compared, on how many seeds, and from which code and machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from emorl_bench.core.words import counted
from emorl_bench.report.aggregate import aggregate_table, together
from emorl_bench.report.columns import written
from emorl_bench.report.comparison import Comparison
from emorl_bench.report.conclusion import conclude, conclude_together
from emorl_bench.report.csv_file import write_csv
from emorl_bench.report.escape import cell, code, markdown
from emorl_bench.report.figures import KINDS, draw, draw_profile
from emorl_bench.report.gold import over_tasks
from emorl_bench.report.latex import write_latex
from emorl_bench.report.origins import FILE, origins_sentence, write_origins
from emorl_bench.report.published import Published, legend, published_table
from emorl_bench.report.read import Unfinished
from emorl_bench.report.reference import reference_row
from emorl_bench.report.sections import decoding_section, frontier_section, untrained
from emorl_bench.report.tables import Table, all_columns, results_table
from emorl_bench.report.verdicts import LEVEL

STEPS = len(KINDS) + 2  # of one comparison: its figures and its decodings


@dataclass(frozen=True)
class Options:
    """The choices of whoever asked for the report."""

    reference: str | None = None
    """The row that others are compared with (`reference_row`)."""
    paper: Published | None = None
    """Published figures to show beside ours."""
    latex: bool = False
    """Whether tables are also written as LaTeX."""
    step: Callable[[], None] = lambda: None
    """Called `STEPS` times for each comparison while it is written, to show progress."""


def write_report(
    comparisons: Sequence[Comparison],
    unfinished: Sequence[Unfinished],
    roots: Sequence[Path],
    out: Path,
    options: Options,
) -> Path:
    """Write everything into ``out``; returns the path of report.md."""
    listed = ", ".join(code(str(root)) for root in roots)
    sections = ["# Report", *_conclusions(comparisons, options.reference), f"Runs read from {listed}."]
    sections += _overall(comparisons, out, options.reference)
    tables = []
    for comparison in comparisons:
        sections += _comparison(comparison, out, options)
        for decoding in comparison.decodings():
            full = results_table(comparison, decoding, all_columns(comparison, decoding))
            tables.append(f"## {markdown(comparison.title)} · {decoding}\n\n{full.markdown()}\n")
    sections += _unfinished(unfinished)
    write_csv(out / "table.csv", comparisons)
    write_origins(out / FILE, comparisons)
    (out / "table.md").write_text("\n".join(tables), encoding="utf-8")
    path = out / "report.md"
    path.write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    return path


def _conclusions(comparisons: Sequence[Comparison], wanted: str | None) -> Iterator[str]:
    """What can be said, before anything else: over all tasks together, then for each."""
    yield "## What these runs show"
    yield (
        "The sentences are written by code from the tests below. In each list, the chance that a claim is false is at "
        f"most {LEVEL:.0%} for all of its claims together."
    )
    found = [(comparison.title, conclude(comparison, wanted)) for comparison in comparisons]
    if (together := conclude_together(comparisons, wanted)) is not None:
        found.insert(0, ("All tasks", together))
    for title, conclusion in found:
        yield f"### {markdown(title)}"
        claimed = [f"- {cell(sentence)}" for sentence in conclusion.found] or ["- Nothing can be claimed."]
        yield "\n".join([*claimed, *(f"- *{cell(sentence)}*" for sentence in conclusion.undecided)])


def _comparison(comparison: Comparison, out: Path, options: Options) -> Iterator[str]:
    """The section of one comparison; its figures are drawn on the way."""
    reference = reference_row(comparison, options.reference)
    figures = draw(comparison, out, reference, options.step)
    yield f"## {markdown(comparison.title)}"
    yield seeds_sentence(comparison)
    yield origins_sentence(comparison)
    yield from untrained(comparison)
    first, *others = comparison.decodings()
    yield from decoding_section(comparison, first, reference)
    options.step()
    yield from frontier_section(comparison)
    if options.paper is not None and options.paper.fits(comparison):
        yield legend(options.paper, comparison)
        yield published_table(options.paper, comparison, first).markdown()
    for name, caption in figures.items():
        yield f"![{caption.split('.')[0]}]({name})"
        yield f"*{cell(caption)}*"
    for decoding in others:
        yield from decoding_section(comparison, decoding, reference)
    if options.latex:
        names = ", ".join(code(path.name) for path in write_latex(comparison, out, reference))
        yield f"The same as LaTeX: {names}."
    options.step()


def seeds_sentence(comparison: Comparison) -> str:
    """How many seeds the numbers are from, and which methods have fewer than the others."""
    seeds: dict[str, set[int]] = {}
    for run in comparison.runs:
        seeds.setdefault(run.method, set()).add(run.seed)
    counts = {len(found) for found in seeds.values()}
    prints = comparison.fingerprint.split("+")
    listed = ", ".join(f"`{found[:12]}`" for found in prints)
    end = f"Fingerprint{'s' * (len(prints) > 1)} {listed}."
    if averaged := sorted({key for run in comparison.runs for key, _ in run.pair_key}):
        end += f" Rows average over {', '.join(map(code, averaged))}, as `--group-by` asked."
    if len(set(map(frozenset, seeds.values()))) == 1:
        listed = ", ".join(map(str, sorted(next(iter(seeds.values())))))
        return f"Every number stands on {counted(counts.pop(), 'seed')} ({listed}) of each method. {end}"
    each = (f"{cell(name)}: {', '.join(map(str, sorted(found)))}" for name, found in sorted(seeds.items()))
    return f"**The methods do not have the same seeds** ({'; '.join(each)}). {end}"


def overall_table(comparisons: Sequence[Comparison], decoding: str) -> Table | None:
    """Normalised gold of every method in each task and over the tasks; None with fewer than two tasks that have it."""
    known = together(comparisons, decoding)
    if len(known) < 2:
        return None
    rows = []
    for found in over_tasks(known, decoding):
        seeds = "–" if found.mean is None else str(found.mean.n)
        cells = (written(interval) for interval in (found.mean, *found.tasks))
        rows.append((found.method, seeds, *cells))
    return Table(("method", "seeds in all", "all tasks", *(c.title for c in known)), tuple(rows))


def _overall(comparisons: Sequence[Comparison], out: Path, wanted: str | None) -> Iterator[str]:
    """The tasks together, where several have gold, a ceiling and runs of the base model."""
    tables = {decoding: overall_table(comparisons, decoding) for decoding in ("greedy", "sampled")}
    found = {decoding: table for decoding, table in tables.items() if table is not None}
    if not found:
        return
    yield "## All tasks"
    yield (
        "Normalised gold utility of the deployed policies: 0 is `base`, 1 the best legal answers. `all tasks` is "
        "the mean over the tasks for each seed that a method has in all of them, then over seeds, ± the half-width "
        "of a 95 % t interval; a method that was not run in all tasks has none. IQM is the interquartile mean over the "
        "runs of all tasks, P(improvement) how often a run beats one of the reference on the same task, both with 95 % "
        "bootstraps over the seeds of each task. The order of rows is that of their means, and no claim."
    )
    for decoding, table in found.items():
        yield f"### All tasks, {decoding} decoding"
        yield table.markdown()
        if (middle := aggregate_table(together(comparisons, decoding), decoding, wanted)) is not None:
            yield middle.markdown()
    if (drawn := draw_profile(comparisons, next(iter(found)), out, wanted)) is not None:
        name, caption = drawn
        yield f"![Performance profiles]({name})"
        yield f"*{cell(caption)}*"


def _unfinished(unfinished: Sequence[Unfinished]) -> list[str]:
    if not unfinished:
        return []
    lines = [f"- {code(run.name)}: {run.state}" + f" ({markdown(run.reason)})" * bool(run.reason) for run in unfinished]
    return ["## Not in the tables", f"{counted(len(unfinished), 'run')} failed or did not finish:", "\n".join(lines)]
