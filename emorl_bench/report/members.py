"""Policies of one method that were graded one by one, such as CORY's two agents: was the better one deployed?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from emorl_bench.report.columns import Column
from emorl_bench.report.comparison import Comparison
from emorl_bench.report.gold import has_gold
from emorl_bench.report.read import Run
from emorl_bench.report.reading import number
from emorl_bench.report.tables import Table


def members_table(comparison: Comparison, decoding: str) -> Table | None:
    """One row for each method and member, means over seeds; None where no method has members."""
    found: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in comparison.runs:
        if decoding in run.decoding:
            for name in run.members:
                found[run.method, name].append(run)
    gold, rows = has_gold(comparison), []
    for (method, name), runs in sorted(found.items()):
        deployed = sum(bool(run.members[name]["deployed"]) for run in runs)
        values = (column.text(column.over_seeds(runs, decoding)) for column in _columns(name, gold))
        rows.append((method, name, f"{deployed} of {len(runs)}", *values))
    titles = (column.title for column in _columns("", gold))
    return Table(("method", "policy", "deployed in", *titles), tuple(rows)) if rows else None


def _columns(member: str, gold: bool) -> list[Column]:
    def graded(key: str) -> Callable[[Run, str], float | None]:
        return lambda run, decoding: number(run.members[member]["decoding"][decoding], key)

    return [
        Column("select", "select (greedy)", lambda run, _: number(run.members[member]["select"], "mean_reward")),
        Column("mean_reward", "mean reward", graded("mean_reward")),
        Column("held_out_mean_reward", "held-out mean", graded("held_out_mean_reward")),
        *([Column("gold_mean_reward", "gold mean", graded("gold_mean_reward"))] if gold else []),
        Column("kl", "KL (nats/seq)", graded("kl"), 2),
    ]
