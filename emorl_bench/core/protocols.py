"""The seams of the benchmark: what a method is given, and what it must return."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Cost, Ledger
from emorl_bench.core.ranks import ALONE, Ranks
from emorl_bench.core.types import Budget, Example, Metrics, Rollout, Sampling, Splits, Training


class Sampler(Protocol):
    """Anything that can answer prompts: a policy, a merged policy, an ensemble."""

    def generate(self, examples: Sequence[Example], sampling: Sampling, rng: torch.Generator) -> Rollout: ...


class Policy(Sampler, Protocol):
    """A sampler that can be trained: one adapter of a shared base model."""

    @property
    def name(self) -> str: ...
    @property
    def base(self) -> str: ...  # hash of the base model's weights: an adapter belongs to one base
    @property
    def ranks(self) -> Ranks: ...  # the processes that divide its work
    def hidden(self, rollout: Rollout) -> Tensor: ...  # (B, T, H), differentiable: state before each response token
    def logits(self, hidden_BTH: Tensor) -> Tensor: ...  # (B, T, V)
    def logprobs(self, rollout: Rollout) -> Tensor: ...  # (B, T), differentiable
    def tokenize_responses(
        self, texts: Sequence[str]
    ) -> tuple[Tensor, Tensor]: ...  # ids and mask (B, T), the end token added
    def is_eos(self, ids_BT: Tensor) -> Tensor: ...  # which tokens end an answer
    def truncates(self, text: str) -> bool: ...  # whether a context is longer than it reads
    def reference(self) -> Policy: ...  # the base model, adapters off
    def parameters(self) -> Iterator[torch.nn.Parameter]: ...
    def adapter(self) -> dict[str, Tensor]: ...  # only what training changes
    def load_adapter(self, adapter: Mapping[str, Tensor]) -> None: ...
    def save(self, path: Path) -> None: ...


Scores = Tensor | Sequence[float | None]
"""(B,) float32, or a list in which ``None`` says that the objective does not apply to a row (`core.masked`)."""


class Scorer(Protocol):
    """One objective. Higher is better, always within ``bounds``; pure, no gradient."""

    @property
    def name(self) -> str: ...
    @property
    def bounds(self) -> tuple[float, float]: ...

    def score(self, examples: Sequence[Example], responses: Sequence[str]) -> Scores: ...  # B numbers
    def prepare(self) -> None: ...  # makes what it needs and has not got, such as trained weights; may take minutes
    def on(self, device: torch.device) -> Scorer: ...
    def held_out(self) -> Scorer: ...  # its independently trained twin, for the report; a rule is its own
    def fingerprint(self) -> str: ...  # of what its settings do not show, such as weights


@runtime_checkable
class Priced(Protocol):
    """A scorer that comes in forms of different cost."""

    def costs(self) -> Mapping[str, Cost]: ...  # by form, once prepared


class Task(Protocol):
    """Prompts and the K scorers that judge answers to them."""

    @property
    def scorers(self) -> Mapping[str, Scorer]: ...
    def splits(self) -> Splits: ...
    def gold_scorers(self) -> Mapping[str, Scorer]: ...  # what an answer is worth in truth; only the report reads them
    def ceiling(self, examples: Sequence[Example], preferences_WK: Tensor) -> Tensor | None: ...  # (W, K) best by gold
    def longest_answer(self) -> str | None: ...  # what must fit the limit of an answer's tokens


class Weighting(ABC):
    """How K scores become one reward, and how that changes as training goes on.

    Most weightings are weighted sums: they define the two halves of `reward`, `shaped` and `weighted`. Another one
    overrides `reward` alone; rules that look at each objective by itself (`Learner.rewards`) refuse it.
    """

    def reward(self, scores_BK: Tensor) -> Tensor:
        """(B,) of scores; NaN where none applies."""
        return self.weighted(self.shaped(scores_BK))

    def shaped(self, scores_BK: Tensor) -> Tensor:
        """(B, K): each objective by itself."""
        raise self._whole()

    def weighted(self, shaped_BK: Tensor) -> Tensor:
        """(B,), linear in what `shaped` gives."""
        raise self._whole()

    def _whole(self) -> UserError:
        return UserError(
            f"update: this rule looks at each objective before they are weighted, and {type(self).__name__} "
            "cannot be taken apart; use update=grpo, or a method with a weighted sum"
        )

    @abstractmethod
    def utility(self, scores_K: Tensor) -> float:
        """What a mean score vector is worth."""

    def observe(self, validation_K: Tensor) -> None:  # noqa: B027, fixed weights have nothing to note
        """Take note of a validation's mean scores. Weights that move have no other state: it is never saved, and a run
        that resumes observes all its validations again, in order.
        """

    def metrics(self) -> Metrics:
        """Weights that move: ``weights/<objective>``, and more as ``weighting/...``; NaN: nothing yet."""
        return {}


class Resumable(Protocol):
    """What a checkpoint keeps beside policies."""

    def state_dict(self) -> dict[str, Tensor]: ...  # flat, ready for safetensors
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None: ...


class Learner(ABC):
    """An update rule bound to one policy: it owns the optimiser and whatever else has state, and is `Resumable`.

    `rl.learner.AdapterLearner` is what the rules of this project inherit from.
    """

    policy: Policy

    def rewards(self, scores_BK: Tensor, weighting: Weighting, group_size: int) -> Tensor:
        """What this learner maximises, for `step`: here the weighting's reward (B,).

        A rule that normalises objectives one by one, or keeps them apart to the end as (B, K), overrides this. It needs
        both halves of the weighting. Every round of every method asks here, so that none rewards a rule wrongly.

        Raises:
            UserError: the rule needs both halves, and the weighting has none.
        """
        return weighting.reward(scores_BK)

    @abstractmethod
    def step(self, rollout: Rollout, rewards: Tensor, rng: torch.Generator) -> Metrics:
        """One update of the policy on a rollout and its `rewards`; NaN is a row without one."""

    @abstractmethod
    def state_dict(self) -> dict[str, Tensor]: ...

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None: ...


class UpdateRule(Protocol):
    """Settings of a learner, from config. ``objectives``: the names of the K scores, for metrics.

    A method whose answers are not fresh ones of the policy asks what a rule needs of them;
    `rl.learner.AdapterRule` has the usual replies.
    """

    @property
    def needs_behaviour_logprobs(self) -> bool: ...  # how likely an answer was to whoever gave it; a file cannot say
    @property
    def rewards_are_weights(self) -> bool: ...  # a reward is the weight of its answer's log-likelihood
    @property
    def replay_prompts(self) -> int: ...  # of earlier steps, learnt from beside the fresh ones in each update
    def learner(self, policy: Policy, ledger: Ledger, objectives: Sequence[str] = ()) -> Learner: ...


class Aggregator(ABC):
    """Blends M experts; weights are cheap to change, experts are not.

    The batch form is the seam: W weight vectors make one generator whose rows are weight-major, ``W`` blocks of the
    rows one blend would give.
    """

    calibration_prompts: int = 0
    """Training prompts that `calibrated` spends; they are taken from what is reserved for the search."""

    @abstractmethod
    def blend(self, experts: Sequence[Policy], weights_WM: Tensor) -> Sampler: ...

    def validate(self, policy: Policy) -> None:  # noqa: B027, most go with every model
        """Asked before anything is trained: raise a `UserError` where this does not go with the policy's model."""

    def calibrated(self, bench: Bench, experts: Sequence[Policy]) -> Aggregator:
        """What blends these experts, once it has seen what it needs of the base model: most need nothing."""
        return self


class WeightSearch(Protocol):
    """Ask for candidates, tell their utility. Knows nothing of language models."""

    def ask(self) -> Tensor: ...  # (W, M); W = 0 when the search is over
    def tell(self, weights_WM: Tensor, utility_W: Tensor) -> None: ...
    def best(self) -> Tensor: ...  # (M,)


class SearchStrategy(Protocol):
    """Settings of a search, from config."""

    def start(self, experts: int) -> WeightSearch: ...


class FrontSearch(Protocol):
    """A search of the whole front at once: it is told every objective, and answers every preference from that."""

    def ask(self) -> Tensor: ...  # (W, M); W = 0 when the search is over
    def tell(self, weights_WM: Tensor, scores_WK: Tensor) -> None: ...  # NaN: does not apply
    def best(self, preference_K: Tensor) -> Tensor: ...  # (M,)


@runtime_checkable
class FrontStrategy(Protocol):
    """Settings of a search of the whole front, from config."""

    def start_front(self, experts: int) -> FrontSearch: ...


class Tracker(Protocol):
    """Where numbers go. ``step`` never decreases; a tracker that fails neither kills nor blesses a run."""

    def log(self, metrics: Metrics, *, step: int) -> None: ...
    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None: ...
    def close(self, status: str) -> None: ...


class Solution(Protocol):
    """The answer to: which policy would you deploy for this preference?"""

    def policy_for(self, preference_K: Tensor) -> Sampler: ...


@dataclass(frozen=True)
class Runtime:
    """How the runner runs a method: read by the shared code of training, experts and search, never by a method.

    No field changes what a method finds; `experts_dir` and the fingerprints say which experts may be loaded instead of
    trained.
    """

    experts_dir: Path
    """Content-addressed experts, shared between runs."""
    fingerprint: str
    """Hash of what all experts depend on: data, base model, update, schedule; no objective."""
    scorer_fingerprints: Mapping[str, str] = field(default_factory=dict)
    """By objective."""
    score_only: Callable[[str, Rollout], Tensor] | None = None
    """(B,) scores of one objective, the others not asked; `None`: ask all and take one."""
    joint_experts: bool = True
    """Experts learn side by side; off only to compare, the numbers are the same."""
    frozen: bool = False
    """Only what was trained already may be used (`emorl-generate`)."""
    ranks: Ranks = ALONE
    """The processes that share this run."""
    earlier: Path | None = None
    """``Bench.dir`` of the rung below (`runner.ladder`): what training may go on from."""
    lower: bool = False
    """A rung below the whole budget: it may be too small for any training."""


@dataclass(frozen=True)
class Bench:
    """Everything a method is given. The same for every method: that is what makes it a benchmark.

    There is no report split and no held-out scorer in it, on purpose. `runtime` is no concern of a method.
    """

    train: Sequence[Example]
    select: Sequence[Example]
    objectives: tuple[str, ...]  # K names
    score: Callable[[Rollout], Tensor]  # -> (B, K), metered, checked; NaN: does not apply
    new_policy: Callable[[str], Policy]  # a fresh adapter under this name
    update: UpdateRule
    reward: str  # "linear" or "log": the shape of a score inside a reward
    training: Training
    budget: Budget  # of the whole method; divide it among learners with `Budget.share`
    sampling: Sampling  # of training rollouts
    tracker: Tracker
    ledger: Ledger
    seed: int
    dir: Path  # this run's checkpoints
    runtime: Runtime
    preferences: tuple[tuple[float, ...], ...] = ()  # those that the method will be asked for, in order

    def only(self, objective: str) -> Bench:
        """The same with one objective: the others neither score nor show up in its records."""
        alone, k = self.runtime.score_only, self.objectives.index(objective)

        def score(rollout: Rollout) -> Tensor:
            scores_B = self.score(rollout)[:, k] if alone is None else alone(objective, rollout)
            return scores_B[:, None]

        return replace(self, objectives=(objective,), score=score)

    def with_runtime(self, **changes: Any) -> Bench:
        """The same bench with other fields of `Runtime`."""
        return replace(self, runtime=replace(self.runtime, **changes))


class Method(Protocol):
    """One row of the results table."""

    def fit(self, bench: Bench) -> Solution: ...
