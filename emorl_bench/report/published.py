"""Numbers that papers have published, shown beside ours and never in one mean with them.

Models, adapters, decoding, scorers and seeds differ from ours; docs/presets.md says how. This project has not run any
of them. Each figure says where it was found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from emorl_bench.core.errors import UserError, did_you_mean
from emorl_bench.report.comparison import Comparison
from emorl_bench.report.tables import Table, all_columns

MARKS = {"text": "", "figure": "ᶠ", "third party": "ᵗ"}  # where a number was found -> its mark in a table
LEGEND = (
    "**Published, not run here**: {source}; {setting}. {spread}ᶠ was read off a figure of the authors, ᵗ comes from a "
    "third party's summary and is unchecked. `here` names the nearest method of these runs, with its own mean over "
    "seeds; docs/presets.md says what differs."
)


@dataclass(frozen=True)
class Figure:
    """One published number. ``measure`` is the key of a column of our tables, where there is one."""

    measure: str
    value: float
    spread: float | None = None
    found: str = "text"

    def text(self, digits: int) -> str:
        """The number with its spread and its mark."""
        spread = "" if self.spread is None else f" ± {self.spread:,.{digits}f}"
        return f"{self.value:,.{digits}f}{spread}{f' {MARKS[self.found]}'.rstrip()}"


@dataclass(frozen=True)
class Entry:
    """A method as its paper names it. ``here``: similar methods of this project, the nearest first."""

    method: str
    here: tuple[str, ...]
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Published:
    """The figures of one paper. ``spread`` says what its ± is."""

    source: str
    setting: str
    tasks: tuple[str, ...]
    """Tasks of this project with the same data."""
    models: tuple[str, ...]
    """Base models of this project that are the paper's own."""
    entries: tuple[Entry, ...]
    spread: str = ""

    def fits(self, comparison: Comparison) -> bool:
        """Whether the runs are of the paper's task."""
        return comparison.task in self.tasks


def _emorl(
    method: str, here: tuple[str, ...], reward: tuple[float, float], points: tuple[float, float], *more: Figure
) -> Entry:
    both = (Figure("mean_reward", *reward, "figure"), Figure("data_points_max", *points, "figure"))
    return Entry(method, here, both + more)


def _level(name: str, reward: float) -> Entry:
    return Entry(f"aggregation of {name}", (), (Figure("best_validation_reward", reward, found="figure"),))


PUBLISHED: Mapping[str, Published] = {
    "emorl_2505_02579": Published(
        source="EMORL (arXiv 2505.02579, SIGDIAL 2025)",
        setting=(
            "T5-base on PAIR; EMORL with LoRA and greedy decoding, the others fully fine-tuned and sampled; data "
            "points are prompts, for EMORL those of the longest of three experts (about 13,209) and of the search "
            "(135 x 32)"
        ),
        tasks=("pair",),
        models=("t5_base",),
        spread="Its ± is over 5 seeds. ",
        entries=(
            Entry(
                "T5-base", ("base",), (Figure("mean_reward", 0.3413, 0.0124, "figure"), Figure("data_points_max", 0.0))
            ),
            _emorl("Uniform weighted", ("weighted_scst", "weighted_ppo"), (0.8350, 0.0199), (23398, 7390)),
            _emorl("DynaOpt", (), (0.8262, 0.0291), (31328, 16736)),
            _emorl("Model soups", ("param_merge",), (0.6965, 0.0276), (18924, 4672)),
            _emorl(
                "EMORL",
                ("emorl_cube", "emorl"),
                (0.7684, 0.0206),
                (17529, 1650),
                Figure("seconds", 6573.0, 147.0),
                Figure("diversity_2", 0.65, found="third party"),
            ),
            _level("hidden states", 0.80),
            _level("parameters", 0.71),
            _level("logits", 0.59),
        ),
    ),
    "cory_2410_06101": Published(
        source="CORY (arXiv 2410.06101, NeurIPS 2024)",
        setting="GSM8K with a 4-bit Llama-2-7b-chat, pass@1 over 3 seeds, the reward is a right answer alone",
        tasks=("gsm8k",),
        models=(),
        entries=(Entry("CORY", ("cory_reference", "cory"), (Figure("gsm8k_accuracy", 0.18),)),),
    ),
}


def published(name: str) -> Published:
    """The figures of a paper, by name.

    Raises:
        UserError: there is no such name.
    """
    if name not in PUBLISHED:
        raise UserError(f"--published {name}: unknown{did_you_mean(name, PUBLISHED)}")
    return PUBLISHED[name]


def check_fit(name: str, comparisons: Sequence[Comparison]) -> None:
    """Refuse figures of a task that was not run: scores of two tasks say nothing of each other.

    Raises:
        UserError: no comparison is of the paper's task.
    """
    paper = published(name)
    if not any(paper.fits(comparison) for comparison in comparisons):
        here = ", ".join(sorted({comparison.task for comparison in comparisons}))
        raise UserError(
            f"--published {name}: its figures are of task={' or '.join(paper.tasks)}, and these runs of task={here}; "
            "leave the option out or report runs of that task"
        )


@dataclass(frozen=True)
class Beside:
    """What report.html shows of a paper beside one comparison. Of another task it is refused, and there is no table."""

    words: str
    warning: str
    table: Table | None


def beside(paper: Published, comparison: Comparison, decoding: str) -> Beside:
    """The figures of a paper for one comparison, as plain text."""
    table = published_table(paper, comparison, decoding) if paper.fits(comparison) else None
    return Beside(_words(paper).replace("*", "").replace("`", ""), warning(paper, comparison), table)


def _words(paper: Published) -> str:
    return LEGEND.format(source=paper.source, setting=paper.setting, spread=paper.spread)


def published_table(paper: Published, comparison: Comparison, decoding: str) -> Table:
    """One row for each published figure, beside our own where such a method was run and has such a column."""
    columns = {column.key: column for column in all_columns(comparison, decoding)}
    methods = comparison.methods(decoding)
    rows = []
    for entry in paper.entries:
        here = next((name for name in entry.here if name in methods), None)
        for figure in entry.figures:
            column, ours = columns.get(figure.measure), "–"
            if column is not None and here is not None:
                ours = f"{here}: {column.text(column.over_seeds(methods[here], decoding))}"
            title = figure.measure.replace("_", " ") if column is None else column.title
            digits = 2 if column is None else column.digits
            rows.append((entry.method, title, figure.text(digits), ours))
    return Table(("method of the paper", "measure", "published", "here"), tuple(rows))


def legend(paper: Published, comparison: Comparison) -> str:
    """The explanation of a table of published figures, with a warning where the model is another one."""
    found = warning(paper, comparison)
    return f"{_words(paper)} **{found}**" if found else _words(paper)


def warning(paper: Published, comparison: Comparison) -> str:
    """Why the figures are not to be compared with these runs; empty where task and model are the paper's own."""
    if not paper.fits(comparison):
        theirs = " or ".join(paper.tasks)
        return f"Not shown: the figures are of task={theirs}, and these runs of task={comparison.task}."
    if comparison.model not in paper.models:
        return f"Warning: these runs are of model={comparison.model}, which is not the paper's model."
    return ""
