"""The answers that report.html shows: the same prompts for all methods, spread evenly, as many as fit.

One run for each method, one answer to each prompt, all decodings. Where not everything fits, prompts are left out
first, then preferences: the uniform one and the corners stay longest. Nothing is chosen by its score.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from emorl_bench.report.comparison import Comparison
from emorl_bench.report.html.graded import SETS
from emorl_bench.report.read import Run

FILE = "samples.jsonl"
FEWEST = 12  # prompts, before preferences are left out
LONGEST = 2000  # characters of an answer that are shown
RECORD = 60  # bytes of an answer's scores and indices, about
TOLERANCE = 1.1  # of the size that is allowed
EXAMPLE = re.compile(r'"example_id": "([^"\\]*)"')
SCALE = 1000  # scores are written as thousandths: integers are half as long
Scores = Sequence[int | None]


@dataclass(frozen=True)
class Answers:
    """The answers of one policy under one decoding, in the order of the prompts."""

    texts: list[int]
    """Places in the pool of texts; -1 for a prompt without an answer."""
    scores: dict[str, list[Scores | None]]
    """Set of scorers -> for each prompt K scores in thousandths."""


@dataclass(frozen=True)
class Samples:
    """All answers of one comparison that the page holds."""

    prompts: Sequence[str]
    of_prompts: int
    """Number of prompts that were answered."""
    preferences: Sequence[int]
    """The preferences that are here, the uniform one first."""
    seeds: Mapping[str, int]
    policies: Mapping[str, Mapping[str, int]]
    """Method -> preference -> the first preference that has the same policy; under it lie the answers."""
    pool: Sequence[str]
    answers: Mapping[str, Mapping[str, Mapping[str, Answers]]]
    """Decoding -> method -> preference of the policy -> its answers."""


@dataclass
class Pool:
    """Texts, each once: methods often give the same answer."""

    places: dict[str, int] = field(default_factory=dict)

    def add(self, text: str) -> int:
        """The place of a text."""
        shown = text if len(text) <= LONGEST else f"{text[:LONGEST]} … ({len(text):,} characters)"
        return self.places.setdefault(shown, len(self.places))


@dataclass(frozen=True)
class Plan:
    """What is kept: prompts by their id, with their text, and preferences."""

    prompts: Mapping[str, str]
    of_prompts: int
    preferences: Sequence[int]


def samples(comparison: Comparison, allowed: int) -> Samples | None:
    """The answers of one comparison in about ``allowed`` bytes; None where no run recorded answers.

    How many prompts fit is estimated from the first run. Where others write more, prompts are left out until it fits.
    """
    chosen = {
        method: run
        for method, run in _one_run_each(comparison).items()
        if (run.dir / FILE).exists() and run.decoding.keys() >= set(comparison.decodings())
    }
    if not chosen:
        return None
    kept = _plan(list(chosen.values()), comparison.decodings(), allowed)
    found = _gathered(chosen, comparison.decodings(), kept)
    while (size := _size(found)) > TOLERANCE * allowed and len(kept.prompts) > 1:
        kept = _fewer_prompts(kept, int(len(kept.prompts) * allowed / size))
        found = _gathered(chosen, comparison.decodings(), kept)
    return found


def _gathered(chosen: Mapping[str, Run], decodings: Sequence[str], kept: Plan) -> Samples:
    """The answers to the prompts and for the preferences of a plan."""
    pool, places = Pool(), {example: i for i, example in enumerate(kept.prompts)}
    answers: dict[str, dict[str, dict[str, Answers]]] = {name: {} for name in decodings}
    policies = {method: _policies(run, kept.preferences) for method, run in chosen.items()}
    for method, run in chosen.items():
        wanted = set(policies[method].values())
        for row in _rows(run, kept.prompts):
            decoding, policy, place = row["decoding"], row["preference"], places.get(str(row["example_id"]))
            if decoding in answers and policy in wanted and place is not None:
                of_method = answers[decoding].setdefault(method, {})
                _put(of_method.setdefault(str(policy), _empty(len(places))), place, row, run.objectives, pool)
    return Samples(
        list(kept.prompts.values()),
        kept.of_prompts,
        kept.preferences,
        {method: run.seed for method, run in chosen.items()},
        {method: {str(w): policy for w, policy in found.items()} for method, found in policies.items()},
        list(pool.places),
        answers,
    )


def spread(count: int) -> list[int]:
    """0 to ``count`` - 1 in such an order that every beginning of it is spread evenly (bits in reverse)."""
    bits = max(1, (count - 1).bit_length())
    return [i for n in range(1 << bits) if (i := int(f"{n:0{bits}b}"[::-1], 2)) < count]


def _one_run_each(comparison: Comparison) -> dict[str, Run]:
    """The same seed for all methods where there is one that all have, else the first of each."""
    seeds: dict[str, dict[int, Run]] = {}
    for run in comparison.runs:
        seeds.setdefault(run.method, {})[run.seed] = run
    shared = set.intersection(*(set(found) for found in seeds.values()))
    return {method: found[min(shared or found)] for method, found in seeds.items()}


def _plan(runs: Sequence[Run], decodings: Sequence[str], allowed: int) -> Plan:
    """As many prompts and preferences as fit, by the mean length of the first run's answers."""
    rows = list(_rows(runs[0]))
    prompts = {str(row["example_id"]): str(row["prompt"]) for row in rows}
    each = RECORD + sum(min(len(str(row["response"]).encode()), LONGEST) for row in rows) / max(1, len(rows))
    fits, preferences = 0, list[int]()
    for preferences in _fewer(runs[0].preferences_WK):
        policies = sum(len(set(_policies(run, preferences).values())) for run in runs)
        fits = int(allowed / (each * policies * len(decodings)))
        if fits >= min(FEWEST, len(prompts)):
            break
    return _fewer_prompts(Plan(prompts, len(prompts), preferences), fits)


def _fewer_prompts(plan: Plan, count: int) -> Plan:
    """``count`` of a plan's prompts, spread evenly; one at least."""
    ids = list(plan.prompts)
    kept = {ids[i]: plan.prompts[ids[i]] for i in sorted(spread(len(ids))[: max(1, count)])}
    return replace(plan, prompts=kept)


def _size(found: Samples) -> int:
    """Bytes of the texts and of all answers' scores, about."""
    count = sum(len(one.texts) for by in found.answers.values() for of in by.values() for one in of.values())
    return RECORD * count + sum(len(text.encode()) for text in (*found.pool, *found.prompts))


def _fewer(preferences_WK: np.ndarray) -> Iterator[list[int]]:
    """All preferences; the uniform one and the corners; the uniform one."""
    uniform = int(np.abs(preferences_WK - 1 / preferences_WK.shape[1]).sum(1).argmin())
    corners = [int(w) for w in np.flatnonzero(preferences_WK.max(1) > 1 - 1e-6) if w != uniform]
    yield [uniform, *(w for w in range(len(preferences_WK)) if w != uniform)]
    yield [uniform, *corners]
    yield [uniform]


def _policies(run: Run, preferences: Iterable[int]) -> dict[int, int]:
    """Preference -> the first one with the same policy: a policy is graded once, under its first preference."""
    points = next(iter(run.decoding.values()))["points"]
    return {
        w: next(i for i, point in enumerate(points) if point["objectives"] == points[w]["objectives"])
        for w in preferences
    }


def _rows(run: Run, wanted: Container[str] | None = None) -> Iterator[Mapping[str, Any]]:
    """The first answer to each report prompt, or to each of the ``wanted`` ones.

    A long file is mostly answers that the page has no room for, so a line is parsed only if its prompt is wanted.
    """
    with (run.dir / FILE).open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if wanted is not None and (named := EXAMPLE.search(line)) is not None and named[1] not in wanted:
                continue
            row = _parsed(line)
            if row.get("split") == "report" and not row.get("sample"):
                yield row


def _parsed(line: str) -> Mapping[str, Any]:
    """A row; empty for a line that a killed process has left incomplete."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def _empty(prompts: int) -> Answers:
    return Answers([-1] * prompts, {})


def _put(answers: Answers, place: int, row: Mapping[str, Any], objectives: Sequence[str], pool: Pool) -> None:
    answers.texts[place] = pool.add(str(row["response"]))
    for name in SETS:
        scores = _scores(row, name, objectives)
        if any(score is not None for score in scores):
            rows = answers.scores.setdefault(name, [None] * len(answers.texts))
            rows[place] = scores


def _scores(row: Mapping[str, Any], name: str, objectives: Sequence[str]) -> list[int | None]:
    """As in `graded`: held-out scorers have names of their own, in the order of the objectives."""
    prefix = "" if name == "objectives" else f"{name}/"
    keys = [f"{prefix}{objective}" for objective in objectives]
    if name == "held_out" and len(own := [key for key in row if key.startswith(prefix)]) == len(objectives):
        keys = own
    return [None if (score := row.get(key)) is None else round(score * SCALE) for key in keys]
