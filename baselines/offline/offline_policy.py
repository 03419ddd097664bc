"""One weighted policy that learns only from answers which are not its own: pure off-policy learning.

With ``file`` the answers are prompts, responses and scores that somebody wrote down, such as another run's
``samples.jsonl``. Nothing is then generated or scored. Without it the base model answers anew at every step, at the
cost of any rollout. That is the setting in which AGRO (2503.19612, figure 1) is compared with a naive policy gradient
(``update=scst``).

By default only answers to training prompts are learnt from, because ``samples.jsonl`` holds answers to the prompts that
a run is graded on. ``prompts=any`` learns from those too. It is meant for a file of another task or split: grades on
prompts of the file would be worth nothing. The record says how many lines were taken.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from baselines.offline.dataset import Recorded
from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Bench, Policy, Solution
from emorl_bench.core.seeds import stream
from emorl_bench.core.solutions import OnePolicy
from emorl_bench.core.types import Metrics, Rollout
from emorl_bench.rl.loop import prompts, run_rounds, single_policy_run
from emorl_bench.rl.run import TrainingRun
from emorl_bench.rl.showing import describe
from emorl_bench.rl.weighting import fixed_weights

Source = Callable[[int], tuple[Rollout, Tensor]]
"""Answers and their scores (B, K) for a step."""


@dataclass(frozen=True)
class OfflinePolicy:
    """One policy for all preferences, trained on answers of others.

    Attributes:
        file: JSON lines, or None for the base model's answers.
        weights: one for each objective, summing to 1; None is uniform.
        prompts: the prompts that are learnt from, those of the train split or any.
    """

    file: str | None = None
    weights: Sequence[float] | None = None
    prompts: Literal["train", "any"] = "train"

    def fit(self, bench: Bench) -> Solution:
        """See `core.protocols.Method.fit`.

        Raises:
            UserError: the file cannot be learnt from or has changed since the run began, the update rule needs the
                answers' log-probabilities, or the weights do not fit the objectives.
        """
        weighting = fixed_weights(self.weights, bench.objectives, bench.reward)
        policy = bench.new_policy("policy")
        source = _base_model(bench, policy) if self.file is None else self._written(bench, policy, Path(self.file))

        def round(runs: Sequence[TrainingRun], step: int) -> list[Metrics]:
            rollout, scores_BK = source(step)
            seen, learner = describe(bench, rollout, scores_BK, weighting.reward(scores_BK)), runs[0].learners["policy"]
            rewards = learner.rewards(scores_BK, weighting, rollout.group_size)
            return [seen | dict(learner.step(rollout, rewards, stream(bench.seed, "policy", "update", step)))]

        run = single_policy_run(bench, policy, weighting, name="policy", budget=bench.budget)
        run_rounds(bench, [run], round)
        return OnePolicy(policy)

    def _written(self, bench: Bench, policy: Policy, file: Path) -> Source:
        if bench.update.needs_behaviour_logprobs:
            raise UserError(
                f"method.file={file}: a file does not say how likely its answers were, which this rule needs; "
                "say update=agro, or update=likelihood"
            )
        recorded = Recorded.read(file, bench.objectives, bench.train if self.prompts == "train" else None)
        _note(bench, policy, recorded, file)

        def source(step: int) -> tuple[Rollout, Tensor]:
            rng = stream(bench.seed, "policy", "rollout", step)
            rollout, scores_BK = recorded.deal(policy, bench.training.batch_prompts, bench.sampling, rng)
            dealt = len(rollout.examples) // rollout.group_size
            bench.ledger.ask(dealt)
            bench.ledger.current.prompts += dealt  # they count as data points, although nothing is decoded
            bench.ledger.current.samples += len(rollout.examples)
            return rollout, scores_BK

        return source


def _base_model(bench: Bench, policy: Policy) -> Source:
    reference = policy.reference()

    def source(step: int) -> tuple[Rollout, Tensor]:
        rng = stream(bench.seed, "policy", "rollout", step)
        rollout = reference.generate(prompts(bench, step), bench.sampling, rng)
        return rollout, bench.score(rollout)

    return source


def _note(bench: Bench, policy: Policy, recorded: Recorded, file: Path) -> None:
    """Record what was read, and refuse to go on with another file of the same name."""
    record = bench.dir / "offline.json"
    read = {
        "file": str(file),
        "fingerprint": recorded.fingerprint,
        "prompts": len(recorded.answers),
        "answers": sum(len(answers.responses) for answers in recorded.answers),
        "lines_left_out": recorded.left_out,
    }

    def note() -> None:
        if record.exists() and json.loads(record.read_text())["fingerprint"] != recorded.fingerprint:
            raise UserError(f"method.file={file}: it has changed since this run began; say force=true to start afresh")
        record.write_text(json.dumps(read, indent=2) + "\n")

    policy.ranks.once(note)
