"""The part of report.html that says which expert decided each word."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from emorl_bench.report.comparison import Comparison
from emorl_bench.report.html.explained_file import Told, Totals, Word
from emorl_bench.report.html.samples import spread
from emorl_bench.report.palette import COLOURS

EXPLAINED_BYTES = 1_500_000  # of the words of all runs; of answers that do not fit, evenly spread ones are left out
DIGITS = 4  # of what the page writes with two


@dataclass(frozen=True)
class Expert:
    """An expert of the blend. The page adds a letter and a pattern, so that its colour is never needed."""

    name: str
    colour: str
    weight: float
    """In the blend."""
    asked: float | None
    """The weight of its objective in the preference; None where the expert is not that of one objective."""


@dataclass(frozen=True)
class ExplainedAnswer:
    """An answer, word by word. ``place`` counts from 0 over all answers in the file."""

    place: int
    prompt: str
    words: Sequence[Word]


@dataclass(frozen=True)
class ExplainedRun:
    """The answers of one run to one preference."""

    run: str
    file: str
    title: str | None
    """Task and model; None where the run is not among those of the report."""
    asked: Mapping[str, float]
    experts: Sequence[Expert]
    totals: Totals
    """Over all answers in the file."""
    count: int
    """How many answers these are."""
    answers: Sequence[ExplainedAnswer]
    """Those that fit into the page, in their order."""


def explained_runs(told: Sequence[Told], comparisons: Sequence[Comparison]) -> list[ExplainedRun]:
    """What the page shows of the explained answers."""
    titles = {_name(run.dir): comparison.title for comparison in comparisons for run in comparison.runs}
    allowed = EXPLAINED_BYTES // max(1, len(told))
    return [_run(one, titles.get(one.run), allowed) for one in told]


def _run(told: Told, title: str | None, allowed: int) -> ExplainedRun:
    experts = [
        Expert(name, COLOURS[m % len(COLOURS)], told.weights[m], told.asked.get(name))
        for m, name in enumerate(told.experts)
    ]
    answers = _fitting(told, allowed)
    return ExplainedRun(told.run, told.file.name, title, told.asked, experts, told.totals, len(told.answers), answers)


def _fitting(told: Told, allowed: int) -> list[ExplainedAnswer]:
    """As many answers as ``allowed`` bytes hold, at least one, spread evenly over all."""
    kept = list[ExplainedAnswer]()
    for i in spread(len(told.answers)):
        prompt, words = told.answers[i]
        answer = ExplainedAnswer(i, prompt, [_short(word) for word in words])
        allowed -= len(json.dumps(answer, default=vars).encode())
        if kept and allowed < 0:
            break
        kept.append(answer)
    return sorted(kept, key=lambda answer: answer.place)


def _short(word: Word) -> Word:
    decided = None if word.decided is None else _rounded(word.decided)
    return word._replace(margin=round(word.margin, DIGITS), shares=_rounded(word.shares), decided=decided)


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, DIGITS) for value in values]


def _name(dir: Path) -> str:
    """As `emorl-generate` names a run."""
    return f"{dir.resolve().parent.name}/{dir.resolve().name}"
