"""The columns of the tables: what each reads from a run, and how its numbers are written (docs/report.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emorl_bench.indicators.intervals import Interval, t_interval, t_quantile
from emorl_bench.report import reading
from emorl_bench.report.comparison import Comparison
from emorl_bench.report.gold import GOLD, has_gold, is_reward, normalised
from emorl_bench.report.read import Run
from emorl_bench.report.reading import Read, deployed_by, minus

MIB = 2**20
TERA = 1e12
ROUNDING = 1e-9  # seeds whose values differ by less agree
FEW = 3  # values from which an interval is shown
CHANGES = ("first_preference", "next_preference", "next_objective")


@dataclass(frozen=True)
class Column:
    """One measure. ``read`` returns None where a run does not have it.

    ``by_scorers``: the measure comes from the scorers that methods are given. A method that chooses its answers with
    these scorers is not compared by it.
    """

    key: str
    """The name in table.csv."""
    title: str
    """The name in tables."""
    read: Read
    digits: int = 3
    by_scorers: bool = False

    def over_seeds(self, runs: Sequence[Run], decoding: str) -> Interval | None:
        """Mean and 95 % t interval over the runs that have this measure."""
        values = [value for run in runs if (value := self.read(run, decoding)) is not None]
        return t_interval(values) if values else None

    def text(self, interval: Interval | None) -> str:
        """An interval as text, with this column's digits."""
        return written(interval, self.digits)

    def of(self, runs: Sequence[Run], decoding: str) -> str:
        """A cell of a table; in brackets where it must not be compared."""
        text = self.text(self.over_seeds(runs, decoding))
        return f"({text})" if self.by_scorers and text != "–" and any(run.chooses for run in runs) else text


def written(interval: Interval | None, digits: int = 3) -> str:
    """A mean and the half-width of its interval; a dash for what was not measured.

    One seed has no interval, and seeds that agree need none. Student's interval of two values is about 13 times as wide
    as their distance, and says nothing: the two values stand in its place.
    """
    if interval is None:
        return "–"
    mean = f"{interval.mean:,.{digits}f}"
    if interval.n < 2 or interval.half_width < ROUNDING or f"{interval.half_width:,.{digits}f}" == "0":
        return mean
    if interval.n == 2:
        low, high = (f"{value:,.{digits}f}" for value in both_values(interval))
        return mean if low == high else f"{mean} [{low}, {high}]"
    return f"{mean} ± {interval.half_width:,.{digits}f}"


def signed(interval: Interval) -> str:
    """A difference, as `written`, with its sign."""
    text = written(interval)
    return text if interval.mean < 0 else f"+{text}"


def share(interval: Interval) -> str:
    """A probability with its interval.

    One or two runs have none, nor has a bootstrap in which every resample is the same: all runs of one method are above
    all of the other, and resamples cannot show how seldom the contrary is.
    """
    if interval.n < FEW or interval.low == interval.high:
        return f"{interval.mean:.2f}"
    return f"{interval.mean:.2f} ({interval.low:.2f} to {interval.high:.2f})"


def both_values(interval: Interval) -> tuple[float, float]:
    """The two values of a t interval of two values."""
    half = interval.half_width / t_quantile(0.975, 1)
    return interval.mean - half, interval.mean + half


def headline(comparison: Comparison) -> Column:
    """The column by which methods are sorted: gold of the deployed policies, else mean reward at uniform preference."""
    return (gold_columns(comparison, "") if has_gold(comparison) else quality_columns(comparison))[0]


def gold_columns(comparison: Comparison, decoding: str) -> list[Column]:
    """Mean utility of the deployed policies over the preferences, by gold and by both sets of scorers."""
    truth, twin = is_reward(comparison), is_reward(comparison, "held_out")
    held_out = deployed_by("held_out_")
    return [
        Column("gold_deployed_utility", "gold utility", GOLD, by_scorers=truth),
        Column("normalised_gold", "normalised gold", normalised(comparison, decoding), by_scorers=truth),
        Column("deployed_utility", "scorer utility", deployed_by(), by_scorers=True),
        Column("held_out_deployed_utility", "held-out utility", held_out, by_scorers=twin),
        Column("scorer_gap", "scorer − gold", minus(deployed_by(), GOLD), by_scorers=True),
        Column("held_out_gap", "held-out − gold", minus(held_out, GOLD), by_scorers=twin),
    ]


def quality_columns(comparison: Comparison) -> list[Column]:
    """The measures of the scorers: at the uniform preference first, then over all preferences."""
    twin = is_reward(comparison, "held_out")
    return [
        Column("mean_reward", "mean reward", reading.uniform("mean_reward"), by_scorers=True),
        *(Column(name, name, reading.objective(name), by_scorers=True) for name in comparison.objectives),
        Column("worst_objective", "worst objective", reading.uniform("worst"), by_scorers=True),
        Column("hypervolume", "hypervolume", reading.front("hypervolume"), by_scorers=True),
        Column("deployed_utility", "deployed utility", deployed_by(), by_scorers=True),
        Column("held_out_mean_reward", "held-out mean", reading.held_out_mean, by_scorers=twin),
    ]


def gold_quality_columns(comparison: Comparison) -> list[Column]:
    """Gold at the uniform preference, and the hypervolume of the front."""
    titled = [
        ("gold_mean_reward", "gold mean", reading.uniform("gold_mean_reward")),
        *((f"gold_{name}", f"gold {name}", reading.objective(name, "gold")) for name in comparison.objectives),
        ("gold_hypervolume", "gold hypervolume", reading.front("gold_hypervolume")),
    ]
    truth = is_reward(comparison)
    return [Column(key, title, read, by_scorers=truth) for key, title, read in titled]


def behaviour_columns() -> list[Column]:
    """Properties of the responses, and the policy's distance from the base model."""
    return [
        Column("distinct", "distinct", reading.uniform("distinct"), 2),
        Column("truncated", "truncated", reading.uniform("truncated"), 2),
        Column("diversity_2", "diversity-2", reading.uniform("diversity_2")),
        Column("edit_rate", "edit rate", reading.uniform("edit_rate")),
        Column("length", "length", reading.uniform("length"), 1),
        Column("kl", "KL (nats/seq)", reading.uniform("kl"), 2),
    ]


def cost_columns() -> list[Column]:
    """The cost of training, search and validation."""
    return [
        Column("data_points_max", "data points (max)", reading.cost("data_points_max"), 0),
        Column("data_points_sum", "data points (sum)", reading.cost("data_points_sum"), 0),
        *(
            Column(f"data_points_{phase}", f"{phase} prompts", reading.cost(f"data_points_{phase}"), 0)
            for phase in ("train", "search", "validate")
        ),
        *(
            Column(f"flops_{phase}", f"{phase} TFLOP", reading.cost(f"flops_{phase}", TERA), 3)
            for phase in ("train", "search", "validate")
        ),
        Column("seconds", "seconds", reading.cost("seconds_sum"), 0),
        Column("search_evaluations", "search evaluations", reading.cost("search_evaluations"), 0),
        Column("peak_mib", "peak memory (MiB)", reading.cost("peak_bytes", MIB), 0),
    ]


def inference_columns() -> list[Column]:
    """The cost of one answer, at the uniform preference."""
    return [
        Column("passes_per_answer", "passes/answer", reading.uniform("passes_per_answer"), 1),
        Column("decoded_tokens_per_answer", "tokens/answer", reading.uniform("decoded_tokens_per_answer"), 1),
        Column("scorer_calls_per_answer", "scorer calls/answer", reading.uniform("scorer_calls_per_answer"), 0),
    ]


def change_columns() -> list[Column]:
    """The cost of one more preference, and of one more objective."""
    return [
        column
        for what in CHANGES
        for name in (what.replace("_", " "),)
        for column in (
            Column(f"{what}_prompts", f"{name}: prompts", reading.change(what, "prompts"), 0),
            Column(f"{what}_tflop", f"{name}: TFLOP", reading.change(what, "flops", TERA), 3),
        )
    ]


def front_columns() -> list[Column]:
    """Fronts under scorers that no method is trained against."""
    return [
        Column("held_out_hypervolume", "held-out hypervolume", reading.front("held_out_hypervolume")),
        Column("held_out_deployed_utility", "held-out deployed utility", deployed_by("held_out_")),
    ]
