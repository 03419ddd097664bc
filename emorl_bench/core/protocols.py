"""The interfaces of the benchmark: what a method is given, and what it must return.

The interfaces of policies are in `core.policy`, those of scorers, tasks and weightings in `core.scoring`, those of
weight searches in `core.searching`. All can be imported from here as well.
"""

from __future__ import annotations

from collections import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from emorl_bench.core.ledger import Ledger
from emorl_bench.core.policy import Generator, Policy
from emorl_bench.core.ranks import ALONE, Ranks
from emorl_bench.core.scoring import Moving, Priced, Scorer, Scores, Separable, Task, Weighting
from emorl_bench.core.searching import FrontSearch, FrontStrategy, SearchStrategy, WeightSearch
from emorl_bench.core.types import Budget, Example, Metrics, Rollout, Sampling, Training

__all__ = [
    "Aggregator",
    "Bench",
    "Decoupling",
    "Demanding",
    "Forward",
    "ForwardBackward",
    "FrontSearch",
    "FrontStrategy",
    "Generator",
    "Learner",
    "Method",
    "Moving",
    "Policy",
    "Priced",
    "Resumable",
    "Runtime",
    "Scorer",
    "Scores",
    "SearchStrategy",
    "Separable",
    "Solution",
    "Task",
    "Tracker",
    "Update",
    "UpdateRule",
    "WeightSearch",
    "Weighting",
]


@runtime_checkable
class Decoupling(Protocol):
    """A `Learner` that normalises the objectives before they are weighted, or never adds them up (`rl.decoupling`)."""

    def told(self, shaped_BK: Tensor, weighting: Separable, group_size: int) -> Tensor:
        """The rewards that `Learner.update` is given: (B,), or (B, K) for a rule that keeps objectives separate.

        Args:
            shaped_BK: shaped scores (`Separable.shaped`).
            weighting: what combines them.
            group_size: samples of one prompt (G), which are rows in a row.
        """


@dataclass(frozen=True)
class Forward:
    """A learner's request: hidden states (B, T, H) of its policy on these rows, without gradient.

    ``reference``: those of the base model instead, adapters off.
    """

    rollout: Rollout
    reference: bool = False


@dataclass(frozen=True)
class ForwardBackward:
    """A learner's request: add the gradient of a loss on these rows to ``.grad``, and return the loss' metrics.

    ``loss`` maps hidden states (B, T, H) to a scalar and to metrics. It has no side effects: it is called again where
    memory runs out. ``parameters`` are those that it uses beside the policy's, such as a value head.
    """

    rollout: Rollout
    loss: Callable[[Tensor], tuple[Tensor, Metrics]]
    parameters: Sequence[torch.nn.Parameter] = ()


Update = abc.Generator[Forward | ForwardBackward, Any, Metrics]
"""One update, written once and run for one policy or for many side by side: it yields what it needs of the model."""


class Resumable(Protocol):
    """State that a checkpoint keeps beside the policies' adapters."""

    def state_dict(self) -> dict[str, Tensor]:
        """Name -> tensor, flat, as safetensors can hold it."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Set the state to what `state_dict` has returned."""


class Learner(Resumable, Protocol):
    """An update rule bound to one policy: it owns the optimiser and all other state of the training."""

    @property
    def policy(self) -> Policy:
        """The policy that is trained."""

    def update(self, rollout: Rollout, rewards_B: Tensor, rng: torch.Generator) -> Update:
        """One update as requests for what it needs of the model; the same code serves one policy and many at once.

        Args:
            rollout: B responses of the policy.
            rewards_B: their rewards, (B,), or (B, K) for a rule that keeps objectives separate.
            rng: the random stream of this update (the order of minibatches, for instance).
        """

    def step(self, rollout: Rollout, rewards_B: Tensor, rng: torch.Generator) -> Metrics:
        """One update of this policy only: `update`, carried out. Returns its metrics."""


class UpdateRule(Protocol):
    """The settings of an update rule, from the configuration."""

    def learner(self, policy: Policy, ledger: Ledger) -> Learner:
        """A new learner for this policy, which charges its cost to the ledger."""


class Aggregator(Protocol):
    """Blends M experts into one generator. New weights cost nothing; new experts must be trained.

    Blending is batched: W weight vectors give one generator. Its rows are weight-major: W blocks, each with the rows
    that a blend of one weight vector would give.
    """

    def blend(self, experts: Sequence[Policy], weights_WM: Tensor) -> Generator:
        """A generator for all rows of ``weights_WM``, (W, M)."""


@runtime_checkable
class Demanding(Aggregator, Protocol):
    """An `Aggregator` that does not work with every model."""

    def check(self, policy: Policy) -> None:
        """Raise a `UserError` where this model does not fit; called before anything is trained."""


class Tracker(Protocol):
    """Where metrics and tables are recorded. A tracker that fails does not end the run."""

    def log(self, metrics: Metrics, *, step: int) -> None:
        """Record metrics of one step. ``step`` never decreases."""

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Record a whole table under a name, one mapping for each row."""

    def close(self, status: str) -> None:
        """End the record with ``done`` or ``failed``."""


class Solution(Protocol):
    """What a method returns: the policy that it would deploy for each preference."""

    def policy_for(self, preference_K: Tensor) -> Generator:
        """The policy for a preference (K,), a point of the simplex. A search for it, if any, happens here."""


@dataclass(frozen=True)
class Runtime:
    """How the runner runs a method. The shared code of training, experts and search reads it; a method never does.

    No field changes what a method finds. `experts_dir` and the fingerprints say which experts may be loaded instead of
    trained.
    """

    experts_dir: Path
    """Directory of trained experts, which runs share; experts are found by a hash of what they depend on."""
    fingerprint: str
    """Hash of what all experts depend on: data, base model, update rule, schedule. No objective is part of it."""
    scorer_fingerprints: Mapping[str, str] = field(default_factory=dict)
    """Objective -> fingerprint of its scorer."""
    score_only: Callable[[str, Rollout], Tensor] | None = None
    """(objective, rollout) -> (B,) scores of this objective; the other scorers are not called.

    ``None``: call all, use one.
    """
    joint_experts: bool = True
    """Whether experts are trained at the same time. Switch it off only to compare speed: the numbers are the same."""
    frozen: bool = False
    """Whether only what is trained already may be used (`emorl-generate`)."""
    ranks: Ranks = ALONE
    """The processes that share this run."""
    earlier: Path | None = None
    """``Bench.dir`` of the rung below (`runner.ladder`), from which training may continue."""
    lower: bool = False
    """Whether this is a rung below the whole budget, which may be too small for any training."""


@dataclass(frozen=True)
class Bench:
    """Everything that a method is given. It is the same for every method: that makes it a benchmark.

    It deliberately holds no report split and no held-out scorer. A method does not read `runtime`.
    """

    train: Sequence[Example]
    """Prompts to train on."""
    select: Sequence[Example]
    """Prompts to choose checkpoints and weights on."""
    objectives: tuple[str, ...]
    """Names of the K objectives."""
    score: Callable[[Rollout], Tensor]
    """Rollout -> (B, K) scores; NaN where an objective does not apply. Calls are counted and results checked."""
    new_policy: Callable[[str], Policy]
    """Name -> a policy with a new adapter of this name."""
    update: UpdateRule
    """The update rule of the configuration."""
    reward: str
    """``linear`` or ``log``: the shape of a score inside a reward."""
    training: Training
    """The schedule of every training."""
    budget: Budget
    """The budget of the whole method; `Budget.share` divides it among learners."""
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
    """The runner's part, which a method does not read."""
    preferences: tuple[tuple[float, ...], ...] = ()
    """The preferences that the method will be asked for, in order: W points of the simplex, K weights each."""

    def only(self, objective: str) -> Bench:
        """The same bench with one objective: the others are neither scored nor recorded."""
        alone, k = self.runtime.score_only, self.objectives.index(objective)

        def score(rollout: Rollout) -> Tensor:
            scores_B = self.score(rollout)[:, k] if alone is None else alone(objective, rollout)
            return scores_B[:, None]

        return replace(self, objectives=(objective,), score=score)

    def with_runtime(self, **changes: Any) -> Bench:
        """The same bench with other values for some fields of `Runtime`."""
        return replace(self, runtime=replace(self.runtime, **changes))


class Method(Protocol):
    """One row of the results table."""

    def fit(self, bench: Bench) -> Solution:
        """Train, and return what answers every preference."""
