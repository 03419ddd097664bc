"""From phases to the totals of a table row: the cost of training, validation and search, separately and together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emorl_bench.core.ledger import Cost

PARTS = ("train", "validate", "search")  # the parts of a method's cost; a phase is one of them, or ``<part>/<learner>``
SUMMED = (
    "samples",
    "generated_tokens",
    "decoded_tokens",
    "trained_tokens",
    "scorer_calls",
    "optimiser_steps",
    "flops",
)


def part_of_phase(name: str) -> str:
    """The first part of a phase's name: ``train`` of ``train/<learner>``."""
    return name.partition("/")[0]


def is_counted(name: str) -> bool:
    """Whether a phase's prompts count against a method's budget."""
    return part_of_phase(name) in PARTS


def totals(phases: Mapping[str, Cost]) -> dict[str, float]:
    """Prompts (``data_points``) and FLOPs of each part and of all parts, and the sums of the other counters.

    ``data_points_max`` and ``seconds_max`` take the longest learner, its validations included, and the search. This is
    what a run takes where every learner is trained on a machine of its own. ``data_points_train_max`` is the number of
    training prompts of the longest learner; EMORL's paper counts these and the search.
    """
    spent = {name: cost for name, cost in phases.items() if is_counted(name)}
    of = {part: [cost for name, cost in spent.items() if part_of_phase(name) == part] for part in PARTS}
    learners = [[phases[p] for p in both if p in phases] for both in learner_phases(phases).values()]
    prompts, seconds = (_sums(learners, key) for key in ("prompts", "wall_seconds"))
    found: dict[str, float] = {f"data_points_{part}": _sum(of[part], "prompts") for part in PARTS}
    found |= {f"flops_{part}": _sum(of[part], "flops") for part in PARTS}
    found |= {
        "data_points_sum": _sum(spent.values(), "prompts"),
        "data_points_max": max(prompts, default=0) + found["data_points_search"],
        "data_points_train_max": max((cost.prompts for cost in of["train"]), default=0),
        "seconds_max": max(seconds, default=0.0) + _sum(of["search"], "wall_seconds"),
        "seconds_sum": _sum(spent.values(), "wall_seconds"),
        "search_evaluations": _sum(of["search"], "evaluations"),
        "search_evaluations_asked": _sum(of["search"], "evaluations_asked"),
        "peak_bytes": max((cost.peak_bytes for cost in phases.values()), default=0),
    }
    return found | {name: _sum(spent.values(), name) for name in SUMMED}


def learner_phases(phases: Mapping[str, Cost]) -> dict[str, tuple[str, str]]:
    """Learner -> its phases of training and validation."""
    names = [name.removeprefix("train/") for name in phases if name.startswith("train/")]
    return {name: (f"train/{name}", f"validate/{name}") for name in names}


def _sum(costs: Iterable[Cost], key: str) -> float:
    total: float = sum(getattr(cost, key) for cost in costs)
    return total


def _sums(groups: Iterable[Iterable[Cost]], key: str) -> list[float]:
    return [_sum(costs, key) for costs in groups]
