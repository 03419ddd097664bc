"""The panels that the workspace and the report share. Every method logs the numbers that they name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import wandb_workspaces.reports.v2 as wr

METHOD = "JobType"  # W&B's name of what the tracker calls job_type: the method
X = "data_points"
WIDE = wr.Layout(w=24, h=16)


@dataclass(frozen=True)
class Contents:
    """What the runs of a project have in common, as their summaries say it."""

    objectives: tuple[str, ...]
    decoding: str
    """The decoding whose results are shown."""
    gold: bool
    """Whether the task knows the true value of an answer."""

    def final(self, name: str) -> str:
        """The name of a number at the uniform preference."""
        return f"final/{self.decoding}/{name}"

    @property
    def judged(self) -> str:
        """The best judge of a method that its runs have: gold, else the held-out scorers."""
        return self.final("gold_mean_reward" if self.gold else "held_out_mean_reward")

    @property
    def judge(self) -> str:
        """The set of scores that `judged` is the mean of."""
        return self.final("gold" if self.gold else "held_out")


def curve(title: str, number: str, x: str = X) -> wr.LinePlot:
    """A number against what was spent: one line for each method, with the band of its seeds."""
    return wr.LinePlot(
        title=title,
        x=x,
        y=[number],
        title_x=x.replace("_", " "),
        groupby=METHOD,
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
        max_runs_to_show=100,
    )


def training(contents: Contents) -> list[Any]:
    """Reward in training, KL, and validations, over data points; the validations also over tokens and seconds."""
    shown = [curve("reward in training", "train/reward"), curve("KL to the base model (nats)", "train/kl")]
    shown += [curve("validation: mean reward", "eval/mean_reward"), curve("validation: utility", "eval/utility")]
    shown += [curve(f"validation: {name}", f"eval/{name}") for name in contents.objectives]
    return [*shown, *(curve(f"validation: mean reward by {x}", "eval/mean_reward", x) for x in ("tokens", "seconds"))]


def searching() -> list[Any]:
    """What searches have found, and the surface that they have seen."""
    found = curve("best blend so far, uniform preference", "search/utility")
    return [found, curve("blends asked about", "search/evaluations"), pictures("search")]


def quality(contents: Contents) -> list[Any]:
    """What the judge that no method sees says of the uniform preference, against cost, and by objective."""
    costs = {"data points": "cost/data_points_sum", "FLOPs": "cost/flops", "seconds": "cost/seconds_sum"}
    judge = "gold" if contents.gold else "held-out scorers"
    against = [
        wr.ScatterPlot(
            title=f"mean by {judge} against {name}",
            x=wr.SummaryMetric(cost),
            y=wr.SummaryMetric(contents.judged),
            legend_template="${run:displayName}",
        )
        for name, cost in costs.items()
    ]
    return [*against, *(bars(f"{judge}: {o}", [f"{contents.judge}/{o}"]) for o in contents.objectives)]


def fronts(contents: Contents) -> list[Any]:
    """The fronts of the runs: pictures, the uniform preference in each pair of objectives, and all preferences."""
    pairs = [
        wr.ScatterPlot(
            title=f"{x} and {y} at the uniform preference",
            x=wr.SummaryMetric(f"{contents.judge}/{x}"),
            y=wr.SummaryMetric(f"{contents.judge}/{y}"),
            legend_template="${run:displayName}",
        )
        for x, y in combinations(contents.objectives, 2)
    ]
    deployed = bars("mean utility over preferences", [contents.final("held_out_deployed_utility")])
    return [pictures("front"), *pairs, deployed, table("front")]


def costs() -> list[Any]:
    """What methods cost: by phase, and what change costs."""
    phases = [f"cost/data_points_{phase}" for phase in ("train", "validate", "search")]
    change = [f"change/{what}/prompts" for what in ("first_preference", "next_preference", "next_objective")]
    return [bars("data points by phase", phases), bars("data points that change costs", change)] + [
        bars(title, [number]) for title, number in (("FLOPs", "cost/flops"), ("seconds", "cost/seconds_sum"))
    ]


def bars(title: str, numbers: Sequence[str]) -> wr.BarPlot:
    """Numbers of the summary: a bar for each method, with the range of its seeds."""
    return wr.BarPlot(
        title=title,
        metrics=list(numbers),
        groupby=METHOD,
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
        max_runs_to_show=100,
        max_bars_to_show=50,
    )


def pictures(name: str) -> wr.MediaBrowser:
    """Pictures of the runs beside one another."""
    return wr.MediaBrowser(title=name, media_keys=[f"pictures/{name}"], num_columns=3)


def table(name: str) -> wr.WeavePanelSummaryTable:
    """A table of the runs, joined: rows of several runs can be sorted, filtered and compared."""
    return wr.WeavePanelSummaryTable(table_name=f"tables/{name}", layout=WIDE)
