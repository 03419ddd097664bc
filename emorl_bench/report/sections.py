"""The parts of report.md about one comparison. Every caveat stands beside the number that it belongs to."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from emorl_bench.report.aggregate import aggregate_table
from emorl_bench.report.claim_tables import alike_table, bootstrap_table, others_table, verdict_table
from emorl_bench.report.claims import verdicts
from emorl_bench.report.columns import (
    behaviour_columns,
    change_columns,
    cost_columns,
    gold_columns,
    gold_quality_columns,
    headline,
    inference_columns,
    quality_columns,
)
from emorl_bench.report.comparison import Comparison
from emorl_bench.report.escape import cell
from emorl_bench.report.frontier import frontier_table, measured_on
from emorl_bench.report.gold import ceiling, has_gold, is_reward
from emorl_bench.report.ladder import ladder_table, title
from emorl_bench.report.read import Run
from emorl_bench.report.reading import number
from emorl_bench.report.tables import (
    CHOOSES,
    SINGLE_POINT,
    chooses,
    fronts_table,
    is_single_point,
    label,
    members_table,
    ranked,
    results_table,
)
from emorl_bench.report.verdicts import FEWEST, LEVEL, MARGIN


def decoding_section(comparison: Comparison, decoding: str, reference: str | None) -> Iterator[str]:
    """The paragraphs and tables of one decoding."""
    yield f"### {decoding.capitalize()} decoding"
    yield from _scores(comparison, decoding)
    yield from _costs(comparison, decoding)
    if (climbed := ladder_table(comparison, decoding)) is not None:
        yield f"**{title(comparison).capitalize()} against cost**: the same runs graded at shares of their budget."
        yield climbed.markdown()
    if (members := members_table(comparison, decoding)) is not None:
        yield (
            "**Agents** of one method, each graded alone at the uniform preference; `select` is its own validation, by "
            "which the deployed one is chosen."
        )
        yield members.markdown()
    if (fronts := fronts_table(comparison, decoding)) is not None:
        yield (
            "**Fronts** under the scorers, for methods with a weight to turn; IGD+ and ε are against the pooled front "
            "of all runs here."
        )
        yield fronts.markdown()
    yield from _claims(comparison, decoding, reference)


def frontier_section(comparison: Comparison) -> Iterator[str]:
    """Reward against KL, where methods were run with several KL coefficients."""
    if (table := frontier_table(comparison)) is not None:
        yield (
            f"**Reward against KL**, {measured_on(comparison)} decoding, for methods that were run at several "
            "`update.kl_coefficient`, all else equal. One coefficient is one point of a method's curve: what counts is "
            "the reward at equal KL."
        )
        yield table.markdown()


def _scores(comparison: Comparison, decoding: str) -> Iterator[str]:
    if not has_gold(comparison):
        yield results_table(comparison, decoding, quality_columns(comparison)).markdown()
        yield _legend(comparison, decoding)
        yield results_table(comparison, decoding, behaviour_columns()).markdown()
        return
    answers = [column for column in behaviour_columns() if column.key in ("distinct", "truncated")]
    yield "**Mean utility of the deployed policies** over the preferences: gold, by which rows are sorted, and scorers."
    yield results_table(comparison, decoding, [*gold_columns(comparison, decoding), *answers]).markdown()
    yield _gold_legend(comparison)
    yield "**At the uniform preference**, gold and scorers; hypervolume is of the whole front."
    uniform = [column for column in quality_columns(comparison) if column.key != "deployed_utility"]
    yield results_table(comparison, decoding, [*gold_quality_columns(comparison), *uniform]).markdown()
    yield _legend(comparison, decoding)
    yield results_table(comparison, decoding, behaviour_columns()).markdown()


def untrained(comparison: Comparison) -> Iterator[str]:
    """A sentence about the runs whose learners all ended at step 0, and one about those of which some did."""
    whole: dict[str, set[str]] = defaultdict(set)
    some: dict[str, set[str]] = defaultdict(set)
    for run in comparison.runs:
        zero = [name for name, step in run.best_step.items() if step == 0]
        if zero and len(zero) == len(run.best_step):
            whole[run.method].add(f"seed {run.seed}")
        elif zero:
            some[run.method].update(zero)
    for found, what in ((whole, "its row is that of the untrained model"), (some, "this learner is untrained")):
        if found:
            rows = "; ".join(f"{cell(name)} ({', '.join(map(cell, sorted(which)))})" for name, which in found.items())
            yield f"**The best checkpoint is step 0**: no validation was better than the first, so {what}: {rows}."


def _gold_legend(comparison: Comparison) -> str:
    text = (
        "Gold is the reward of this task, the truth itself: scorers and gold cannot part."
        if is_reward(comparison)
        else "Gold is the task's own judgement, which nothing was trained, validated or searched with. A gap above 0 "
        "says that scorers pay for what gold does not."
    )
    if ceiling(comparison) is None:
        return f"{text} The best legal answers of this task are not known: no ceiling, and no normalised gold."
    return f"{text} The ceiling is the best legal answer to each prompt. Normalised: 0 is `base`, 1 the ceiling."


def _costs(comparison: Comparison, decoding: str) -> Iterator[str]:
    yield "**Cost** of training, search and validation."
    yield results_table(comparison, decoding, cost_columns()).markdown()
    yield (
        "Data points are prompts decoded. `sum` is what counts against the budget; `max` takes the longest of the "
        "learners that could run side by side instead of all, and the search. Seconds are the sum."
    )
    yield "**Cost of one answer**, at the uniform preference, **and of change**: further preferences and objectives."
    yield results_table(comparison, decoding, [*inference_columns(), *change_columns()]).markdown()


def _claims(comparison: Comparison, decoding: str, reference: str | None) -> Iterator[str]:
    first, name = comparison.decodings()[0], cell(reference or "the reference")
    tested = verdict_table(comparison, reference) if decoding == first else None
    if tested is not None:
        yield (
            f"**Against {name}, by {headline(comparison).title}**, in pairs of one seed. p: of no difference, "
            f"{_test(comparison, reference)}, two-sided. p of equality: two one-sided t tests of a difference of at "
            f"least {MARGIN}. Both are corrected over all tests of this table (Holm; at most one of a method's two "
            f"hypotheses is true). With {FEWEST} pairs or more, a method is called higher or lower where the corrected "
            f"p is at most {LEVEL} and the 95 % interval leaves out 0, and equal where that of equality is; undecided "
            "is neither a difference nor equality. "
            f"P(improvement) is how often a run of the method beats one of {name}, over all pairs of seeds; the "
            "last share is how often its answer is better than the other's to the same prompt, at the uniform "
            "preference. Their intervals are bootstraps, over seeds, and over seeds and prompts: narrow with few seeds."
        )
        yield tested.markdown()
    if (others := others_table(comparison, decoding, reference)) is not None:
        yield (
            f"**Other measures against {name}**, in pairs of one seed, with 95 % t intervals and without a "
            "verdict: nothing is claimed about them."
        )
        yield others.markdown()
    elif tested is None:
        yield f"No paired tests: no seed on which both {name} and another method finished."
    if (middle := aggregate_table([comparison], decoding, reference)) is not None:
        yield (
            f"**Interquartile mean** of {headline(comparison).title} (IQM: the middle half of the runs), with a 95 % "
            "bootstrap over seeds."
        )
        yield middle.markdown()
    if (equals := alike_table(comparison, decoding)) is not None:
        yield (
            "**Noise floor (A/A)**: two methods whose gradients are equal up to a constant, which the optimiser "
            "ignores. What parts them is rounding, so a difference of this size between two others shows nothing."
        )
        yield equals.markdown()
    if (bootstrap := bootstrap_table(comparison, decoding)) is not None:
        yield "**Seeds and prompts together**: uniform preference, hierarchical bootstrap over both."
        yield bootstrap.markdown()


def _test(comparison: Comparison, reference: str | None) -> str:
    if all(verdict.exact for verdict in verdicts(comparison, reference)):
        return "an exact permutation test"
    return "a t test, because with so few pairs no permutation test reaches the level (2/2ⁿ: 0.25 at 3, 0.0625 at 5)"


def _legend(comparison: Comparison, decoding: str) -> str:
    text = (
        "± is the half-width of a 95 % t interval over seeds (none for a single seed, or where all seeds agree; of two "
        "seeds both values stand in brackets). "
        "Objectives are at the uniform preference; hypervolume is above the zero vector, deployed utility the mean "
        "over the fixed preferences of the utility of the policy that is deployed for each. "
        f"Rows are sorted by {headline(comparison).title}."
    )
    methods = ranked(comparison, decoding)
    if any(is_single_point(runs) for _, runs in methods):
        text += f" {SINGLE_POINT} one policy answers every preference."
    if any(chooses(runs) for _, runs in methods):
        text += f" {CHOOSES} chooses among its answers with the scorers: what is in brackets is not compared or ranked."
    skipped = [
        f"{cell(label(name, runs))} {share:.1%}{_by_objective(runs, decoding)}"
        for name, runs in methods
        if (share := max(number(run.decoding[decoding]["uniform"], "not_applicable") or 0.0 for run in runs)) > 0
    ]
    return f"{text} Scores that were not applicable: {', '.join(skipped)}; no mean has them." if skipped else text


def _by_objective(runs: Sequence[Run], decoding: str) -> str:
    """`` (gsm8k_accuracy 12 of 192)``: the objectives that did not apply to some responses, over all seeds."""
    points = [run.decoding[decoding]["uniform"] for run in runs]
    counts: Counter[str] = Counter()
    for point in points:
        counts.update(point.get("not_applicable_by_objective", {}))
    responses = sum(int(point.get("responses", 0)) for point in points)
    said = ", ".join(f"{name} {count:,} of {responses:,}" for name, count in sorted(counts.items()))
    return f" ({said})" if said else ""
