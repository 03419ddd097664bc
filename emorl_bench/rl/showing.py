"""What trackers and people see of training runs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from emorl_bench.core.masked import mean_scores, not_applicable, stated
from emorl_bench.core.protocols import Bench
from emorl_bench.core.types import Metrics, Rollout
from emorl_bench.rl.run import TrainingRun


def describe(bench: Bench, rollout: Rollout, scores_BK: Tensor, rewards_B: Tensor) -> dict[str, float]:
    """What a training step has seen: mean score by objective, mean reward, mean response length in tokens.

    The responses that an objective does not apply to are counted. A mean over no response is left out.
    """
    means = dict(zip(bench.objectives, mean_scores(scores_BK).tolist(), strict=True))
    skipped = {f"not_applicable/{k}": float(n) for k, n in not_applicable(scores_BK, bench.objectives).items()}
    seen = stated(means | {"reward": mean_scores(rewards_B).item()})
    return seen | skipped | {"length": rollout.tokens / len(rollout.examples)}


def log_again(runs: Sequence[TrainingRun]) -> None:
    """Log what earlier processes have done, step by step, as runs log that are trained side by side."""
    kinds = [(kind, run, row) for run in runs for kind in ("trained", "history") for row in getattr(run.progress, kind)]
    for _, run, row in sorted(kinds, key=lambda entry: (entry[2]["step"], entry[0] == "history")):
        run.log(row)


def reward_line(runs: Sequence[TrainingRun], metrics: Sequence[Metrics]) -> tuple[str, float | None]:
    """The rewards of one step for the progress bar: in words, and their mean; None where no run has a reward.

    Agents that share a reward log its sum. Shown is the mean over a run's policies, as for all methods.
    """
    rewards = [own.get("reward", math.nan) / len(run.policies) for run, own in zip(runs, metrics, strict=True)]
    mean = sum(rewards) / len(rewards)
    return " ".join(["reward", *(f"{reward:.3f}" for reward in rewards)]), None if math.isnan(mean) else mean
