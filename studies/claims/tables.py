"""``claims.md``: the gate, what became of each published claim, and every comparison of each question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from emorl_bench.core.words import counted
from emorl_bench.indicators.aggregates import probability_of_improvement
from emorl_bench.indicators.intervals import Interval
from emorl_bench.report.aggregate import scores
from emorl_bench.report.claims import ALIKE
from emorl_bench.report.columns import share
from emorl_bench.report.comparison import comparisons
from emorl_bench.report.read import Run
from emorl_bench.report.tables import Table
from studies.claims.claims import UNDECIDED, Claim, Question, elsewhere
from studies.claims.decide import Decided, decided
from studies.claims.measures import DECODING, KL_AT_EQUAL_GOLD, MEASURES

ARXIV = "https://arxiv.org/abs/"
GATE = (0.4, 0.6)  # of the probability of improvement between two methods that are one (docs/study.md)
LOG2 = "doublings of KL"


@dataclass(frozen=True)
class Answer:
    """A question with the runs of its sweep and what they decide. ``decided``: claims' contrasts first."""

    question: Question
    seeds: tuple[int, ...]
    commits: tuple[str, ...]
    runs: int
    decided: tuple[Decided, ...]

    @classmethod
    def of(cls, question: Question, runs: Sequence[Run]) -> Answer:
        """Decide a question on its runs."""
        seeds = tuple(sorted({run.seed for run in runs}))
        commits = sorted({str(run.provenance().get("commit"))[:12] for run in runs})
        return cls(question, seeds, tuple(commits), len(runs), tuple(decided(question, runs)))

    def of_claim(self, claim: Claim) -> list[Decided]:
        """What was decided of a claim's contrasts; fewer where runs lack."""
        return [one for one in self.decided if one.contrast in claim.contrasts]


def gate(runs: Sequence[Run]) -> Interval | None:
    """Probability of improvement between the two methods of `ALIKE`, over all cells that have both."""
    rows = {row.method: row for row in scores(comparisons(runs), DECODING)}
    if not all(name in rows for name in ALIKE):
        return None
    one, other = (rows[name].arrays for name in ALIKE)
    return probability_of_improvement(one, other)


def page(answers: Sequence[Answer], alike: Interval | None, missing: Sequence[str]) -> str:
    """The text of ``claims.md``."""
    parts = ["# What the study says of published claims", *_gate(alike), *_claims(answers)]
    if missing:
        parts.append(f"Not run yet: {', '.join(missing)}.")
    for answer in answers:
        parts += _question(answer)
    return "\n\n".join(parts) + "\n"


def _gate(alike: Interval | None) -> Iterator[str]:
    yield "## The gate"
    if alike is None:
        yield "The two methods that differ by rounding alone have not both been run."
        return
    held = "holds" if GATE[0] <= alike.mean <= GATE[1] else "does not hold: nothing below may be believed"
    yield (
        f"{' and '.join(ALIKE)} differ by rounding alone. Probability that a run of one is ahead of a run of the "
        f"other, over all cells: {share(alike)}. It must lie between {GATE[0]} and {GATE[1]}: the gate {held}."
    )


def _claims(answers: Sequence[Answer]) -> Iterator[str]:
    yield "## Claims"
    yield (
        "Each difference is ours minus theirs, the mean over cells of pairs of runs with one seed, with a 95 % "
        "interval. The outcome is that of the tests, corrected for all comparisons of the question (docs/study.md). "
        "Where it is undecided, the last column has the seeds with which it would probably be decided."
    )
    rows: list[tuple[str, ...]] = []
    for answer in answers:
        for claim in answer.question.claims:
            found = answer.of_claim(claim)
            if len(found) == len(claim.contrasts):
                rows += _claim_rows(claim, found)
    rows += [(_named(claim), claim.published, claim.decided, "–", "–", "–", "–") for claim in elsewhere()]
    header = ("claim", "published", "here", "difference (95 %)", "outcome", "seeds", "seeds that would decide")
    yield Table(header, tuple(rows)).markdown()


def _claim_rows(claim: Claim, found: Sequence[Decided]) -> Iterator[tuple[str, ...]]:
    whole = claim.outcome([one.verdict.word for one in found])
    for i, one in enumerate(found):
        named = (_named(claim), claim.published) if i == 0 else ("", "")
        outcome = one.contrast.outcome(one.verdict.word)
        said = outcome if len(found) == 1 or i else f"{outcome} (in all: {whole})"
        needed = "–" if one.seeds_needed is None else str(one.seeds_needed)
        yield (*named, one.contrast.title, measured(one), said, str(one.seeds), needed)


def _named(claim: Claim) -> str:
    return f"{claim.text} ({ARXIV}{claim.paper})"


def measured(one: Decided) -> str:
    """A difference with its interval and unit."""
    unit = LOG2 if one.contrast.measure == KL_AT_EQUAL_GOLD else MEASURES[one.contrast.measure].unit
    found = one.difference
    return f"{found.mean:+.3f} ({found.low:+.3f} to {found.high:+.3f}) {unit}"


def _question(answer: Answer) -> Iterator[str]:
    yield f"## {answer.question.asks}"
    listed = f"{answer.seeds[0]}–{answer.seeds[-1]}" if len(answer.seeds) > 1 else str(answer.seeds[0])
    yield (
        f"Sweep `study_{answer.question.sweep}`: {answer.runs} runs, {counted(len(answer.seeds), 'seed')} ({listed}), "
        f"commit {', '.join(answer.commits)}."
    )
    rows = [
        (
            one.contrast.title,
            str(one.verdict.pairs),
            measured(one),
            f"{one.verdict.corrected:.2g}",
            f"{one.verdict.corrected_equal:.2g}",
            one.verdict.word,
            "–" if one.verdict.word != UNDECIDED or one.seeds_needed is None else str(one.seeds_needed),
        )
        for one in answer.decided
    ]
    header = (
        "comparison",
        "pairs",
        "difference (95 %)",
        "p (corrected)",
        "p of equality (corrected)",
        "ours is",
        "seeds",
    )
    yield Table(header, tuple(rows)).markdown() if rows else "No comparison has its runs yet."
