"""Methods: the bench that a method is given, and the solution that it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

from torch import Tensor

from emorl_bench.core.ledger import Ledger
from emorl_bench.core.protocols.policies import Policy, Sampler
from emorl_bench.core.protocols.training import UpdateRule
from emorl_bench.core.ranks import ALONE, Ranks
from emorl_bench.core.types import Budget, Example, Metrics, Rollout, Sampling, Training


class Tracker(Protocol):
    """Where metrics and tables are recorded. A tracker that fails neither ends a run nor marks it as done."""

    def log(self, metrics: Metrics, *, step: int) -> None:
        """Record the metrics of one step. ``step`` never decreases."""

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Record a whole table under a name, one mapping for each row."""

    def close(self, status: str) -> None:
        """End the record with ``done`` or ``failed``."""


@dataclass(frozen=True)
class Candidate:
    """A policy that could be deployed alone. ``select`` holds its mean scores on the select split."""

    policy: Sampler
    select: Metrics


class Solution(ABC):
    """What a method returns: the policy that it would deploy for each preference."""

    chooses_with_scorers: ClassVar[bool] = False
    """Whether it chooses among its answers with the scorers. Then only held-out scorers and gold can judge it."""

    @abstractmethod
    def policy_for(self, preference_K: Tensor) -> Sampler:
        """The policy for a preference (K,), a point of the simplex. A search for it, if any, happens here."""

    def graded_alone(self) -> Mapping[str, Candidate]:
        """Policies that are also graded one by one, at the uniform preference, by name; most solutions have none."""
        return {}


@dataclass(frozen=True)
class Runtime:
    """How the runner runs a method. The shared code of training, experts and search reads it; a method never does.

    No field changes what a method finds. `experts_dir` and the fingerprints say which experts may be loaded instead of
    trained.
    """

    experts_dir: Path
    """Directory of trained experts, which runs share. An expert is found by a hash of what it depends on."""
    fingerprint: str
    """Hash of what all experts depend on: data, base model, update rule, schedule. No objective is part of it."""
    scorer_fingerprints: Mapping[str, str] = field(default_factory=dict)
    """The fingerprint of each objective's scorer, by objective."""
    score_only: Callable[[str, Rollout], Tensor] | None = None
    """(B,) scores of one objective, without calling the other scorers; ``None``: call all scorers and use one."""
    joint_experts: bool = True
    """Whether experts are trained at the same time. Switch it off to compare speed only: the numbers are the same."""
    frozen: bool = False
    """Whether only what is trained already may be used (`emorl-generate`)."""
    ranks: Ranks = ALONE
    """The processes that share this run."""
    earlier: Path | None = None
    """``Bench.dir`` of the next smaller budget (`runner.ladder`), from which training may continue."""
    lower: bool = False
    """Whether this is less than the whole budget (`runner.ladder`), so that it may be too small for any training."""


@dataclass(frozen=True)
class Bench:
    """Everything that a method is given. It is the same for every method, and that makes it a benchmark.

    It holds no report split and no held-out scorer, on purpose. A method does not read `runtime`.
    """

    train: Sequence[Example]
    """Prompts to train on."""
    select: Sequence[Example]
    """Prompts to choose checkpoints and weights on."""
    objectives: tuple[str, ...]
    """Names of the K objectives."""
    score: Callable[[Rollout], Tensor]
    """(B, K) scores of a rollout; NaN where an objective does not apply. Calls are counted and results are checked."""
    new_policy: Callable[[str], Policy]
    """A policy with a new adapter of this name."""
    update: UpdateRule
    """The update rule of the configuration."""
    reward: str
    """``linear`` or ``log``: the shape of a score inside a reward."""
    training: Training
    """The schedule of every training."""
    budget: Budget
    """The budget of the whole method. `Budget.share` divides it among learners."""
    sampling: Sampling
    """How responses are sampled in training."""
    tracker: Tracker
    """Where metrics are recorded."""
    ledger: Ledger
    """Where costs are counted."""
    seed: int
    """The seed of the run, from which all random streams follow (`core.seeds`)."""
    dir: Path
    """Directory of this run's checkpoints."""
    runtime: Runtime
    """The part of the runner, which a method does not read."""
    preferences: tuple[tuple[float, ...], ...] = ()
    """The preferences that the method will be asked for, in order: W points of the simplex, K weights each."""

    def only(self, objective: str) -> Bench:
        """The same bench with one objective; the others are neither scored nor recorded."""
        alone, k = self.runtime.score_only, self.objectives.index(objective)

        def score(rollout: Rollout) -> Tensor:
            scores_B = self.score(rollout)[:, k] if alone is None else alone(objective, rollout)
            return scores_B[:, None]

        return replace(self, objectives=(objective,), score=score)

    def with_runtime(self, **changes: Any) -> Bench:
        """The same bench with other values for some fields of `Runtime`."""
        return replace(self, runtime=replace(self.runtime, **changes))


class Method(Protocol):
    """A method of the comparison, with its settings from the configuration: one row of the results table."""

    def fit(self, bench: Bench) -> Solution:
        """Train, and return what answers every preference.

        Raises:
            UserError: a setting is wrong, or the task or the budget does not suit the method.
        """
