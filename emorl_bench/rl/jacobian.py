"""A gradient for each objective, combined into one direction: MGDA, CAGrad and UPGrad, solved by TorchJD (an extra).

Row k of the Jacobian is the gradient, over the adapter, of k-SCST (`rl.scst`) on objective k alone and on the samples
that it applies to. The KL penalty is part of every objective's reward, unscaled. So the mean row, like any convex
combination of rows, has the KL once. A rule computes a coefficient for each row from the Gramian of the rows:

- MGDA (Désidéri 2012; Sener & Koltun 1810.04650, algorithm 2): the shortest vector in the convex hull of the rows. It
  decreases the losses of the rows that it is made of equally, and the others more. It is 0 where no objective can gain
  unless another loses.
- CAGrad (2110.14048, algorithm 1): among all directions within c times the mean row's length from the mean row, the one
  whose smallest decrease is largest. c = 0 is the mean row, the gradient of the weighted sum.
- UPGrad (2406.16232): every row is projected onto the directions that harm no objective; then the mean is taken.

The weights of the method scale the rows; uniform weights leave them as they are. For CAGrad and UPGrad row k is
multiplied by K w_k, so the mean row is the gradient of the weighted sum. For MGDA it is divided by K w_k, because the
shortest vector follows a long row less. So objectives gain at least in proportion to their weights. An objective
without a weight, or one that applies to no sample, has no row.

Against the papers: the gradients are those of policies, not of supervised losses. The direction is clipped and given to
AdamW, as in every rule here, so the step is not exactly along it. The Gramian is scaled to trace 1 before it is solved,
because TorchJD takes small gradients for zero.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any, ClassVar

import torch
from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.protocols import Learner, Policy, Weighting
from emorl_bench.core.types import Metrics, Rollout
from emorl_bench.policies.adapter_policy import token_logprobs
from emorl_bench.rl.advantages import group_advantages
from emorl_bench.rl.kl import sequence_kl
from emorl_bench.rl.learner import AdapterLearner, AdapterRule
from emorl_bench.rl.scst import scst_loss
from emorl_bench.rl.update import Batch

INSTALL = 'pip install -c constraints.txt -e ".[torchjd]"'


@dataclass(frozen=True)
class JacobianRule(AdapterRule, ABC):
    """What the rules share. Each rule defines how rows are scaled and combined.

    ``kl_coefficient`` is subtracted from every objective's reward for each nat of ``log pi - log pi_ref``.
    """

    kl_coefficient: float = 0.02
    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]

    def learner(self, policy: Policy, ledger: Ledger, objectives: Sequence[str] = ()) -> Learner:
        """See `core.protocols.UpdateRule.learner`.

        Raises:
            UserError: a package of the extra is not installed.
        """
        if any(find_spec(package) is None for package in self.packages):
            raise UserError(f"update={self.name} needs the extra: {INSTALL}")
        return _JacobianLearner(self, policy, ledger, objectives)

    def scales(self, weights_K: Tensor) -> Tensor:
        """(K,) factors of the rows; the weights above 0 are scaled to have the mean 1."""
        return weights_K

    @abstractmethod
    def solver(self) -> Any:
        """TorchJD's solver: from a Gramian (K, K) the coefficient of each row in the direction, (K,)."""


@dataclass(frozen=True)
class Mgda(JacobianRule):
    """Settings. ``iterations`` of Frank-Wolfe at most; two objectives need one."""

    iterations: int = 100
    name: ClassVar[str] = "mgda"
    packages: ClassVar[tuple[str, ...]] = ("torchjd",)

    def learner(self, policy: Policy, ledger: Ledger, objectives: Sequence[str] = ()) -> Learner:
        """See `core.protocols.UpdateRule.learner`.

        Raises:
            UserError: ``iterations`` is below 1, or a package of the extra is not installed.
        """
        if self.iterations < 1:
            raise UserError(f"update.iterations={self.iterations}: give 1 or more")
        return super().learner(policy, ledger, objectives)

    def scales(self, weights_K: Tensor) -> Tensor:
        """(K,): the longer a row, the less the shortest vector follows it, so rows are divided by their weights."""
        return 1 / weights_K

    def solver(self) -> Any:
        """See `JacobianRule.solver`."""
        from torchjd.aggregation import MGDAWeighting

        return MGDAWeighting(max_iters=self.iterations)


@dataclass(frozen=True)
class CaGrad(JacobianRule):
    """Settings. ``c``: the largest distance from the mean row, in units of its length.

    From ``c`` = 1 on, the training need not end where the mean row is 0.
    """

    c: float = 0.5
    name: ClassVar[str] = "cagrad"
    packages: ClassVar[tuple[str, ...]] = ("torchjd", "cvxpy", "clarabel")

    def learner(self, policy: Policy, ledger: Ledger, objectives: Sequence[str] = ()) -> Learner:
        """See `core.protocols.UpdateRule.learner`.

        Raises:
            UserError: ``c`` is below 0, or a package of the extra is not installed.
        """
        if self.c < 0:
            raise UserError(f"update.c={self.c}: give 0 or more, such as 0.5")
        return super().learner(policy, ledger, objectives)

    def solver(self) -> Any:
        """See `JacobianRule.solver`."""
        from torchjd.aggregation import CAGradWeighting

        return CAGradWeighting(self.c)


@dataclass(frozen=True)
class UpGrad(JacobianRule):
    """Settings: those that the rules share."""

    name: ClassVar[str] = "upgrad"
    packages: ClassVar[tuple[str, ...]] = ("torchjd", "qpsolvers", "quadprog")
    learning_rate: float = 3.56e-3

    def solver(self) -> Any:
        """See `JacobianRule.solver`."""
        from torchjd.aggregation import UPGradWeighting

        return UPGradWeighting()


def gramian(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    """(K, K) inner products, in float64, of gradients that are given parameter by parameter."""
    parts = (torch.stack(part).flatten(1).double() for part in zip(*rows, strict=True))
    return torch.stack([part @ part.T for part in parts]).sum(0).cpu()


@dataclass(frozen=True)
class Objectives(Batch):
    """The rows of a batch, for each objective. K counts the objectives that apply, whose names are ``names``.

    Row ``k`` of the Jacobian is taken on ``shares_BK[:, k]``.
    """

    shares_BK: Tensor
    names: tuple[str, ...]
    k: int = 0


class _JacobianLearner(AdapterLearner[JacobianRule, Objectives]):
    """Rewarded with (B, K).

    Each objective is a minibatch, whose gradient is kept; the step comes after the last one.
    """

    def __init__(self, rule: JacobianRule, policy: Policy, ledger: Ledger, objectives: Sequence[str] = ()) -> None:
        super().__init__(rule, policy, ledger, objectives)
        self.jacobian: list[list[Tensor]] = []  # rows so far, parameter by parameter

    @property
    def uses_reference(self) -> bool:
        return self.rule.kl_coefficient != 0

    def rewards(self, scores_BK: Tensor, weighting: Weighting, group_size: int) -> Tensor:
        """(B, K) scaled by the weights; NaN where an objective has no weight or does not apply."""
        shaped_BK = weighting.shaped(scores_BK)
        weights_K = weighting.weighted(
            torch.eye(shaped_BK.shape[1], dtype=shaped_BK.dtype)
        )  # exact, because it is linear
        here_K = (weights_K > 0) & ~shaped_BK.isnan().all(0)
        shares_K = weights_K * here_K.sum() / weights_K[here_K].sum()
        return torch.where(here_K, shaped_BK * self.rule.scales(shares_K), torch.nan)

    def prepare(
        self, rollout: Rollout, rewards_B: Tensor, has_reward_B: Tensor, reference_BT: Tensor | None
    ) -> Objectives:
        rewards_BK, metrics = rewards_B, dict[str, float]()
        if reference_BT is not None:
            kl_B = sequence_kl(rollout.logprobs_BT, reference_BT, rollout.response_mask_BT)
            rewards_BK = rewards_BK - self.rule.kl_coefficient * kl_B[:, None]
            metrics["kl"] = kl_B[has_reward_B].mean().item()
        applies_BK = ~rewards_BK.isnan()
        here = [k for k, applies in enumerate(applies_BK.any(0).tolist()) if applies]
        shares = [group_advantages(rewards_BK[:, k], rollout.group_size) / applies_BK[:, k].sum() for k in here]
        names = self.objectives or tuple(map(str, range(rewards_BK.shape[1])))
        return Objectives(rollout, torch.stack(shares, 1), tuple(names[k] for k in here), metrics=metrics)

    def minibatches(self, batch: Objectives, rng: torch.Generator) -> Sequence[Objectives]:
        return [replace(batch, k=k) for k in range(len(batch.names))]

    def loss(self, hidden_BTH: Tensor, part: Objectives, minibatch: Objectives) -> tuple[Tensor, Metrics]:
        logprobs_BT = token_logprobs(self.policy, hidden_BTH, part.rollout)
        return scst_loss(part.rollout.weighted(logprobs_BT), part.shares_BK[:, part.k]), {}

    def descend(self, totals: Metrics) -> Metrics:
        """Keep the gradient; nothing moves yet."""
        self.jacobian.append(self.optimiser.take())
        return {}

    def finish(self, batch: Objectives, means: Metrics) -> Metrics:
        """One step along the combined direction."""
        rows, self.jacobian = self.jacobian, []
        gramian_KK = gramian(rows)
        coefficients = self._coefficients(gramian_KK).tolist()
        direction = [
            sum(c * part for c, part in zip(coefficients, parts, strict=True)) for parts in zip(*rows, strict=True)
        ]
        self.ledger.current.optimiser_steps += 1
        metrics = {**batch.metrics, "grad_norm": self.optimiser.step_along(direction)}
        metrics |= {f"direction/{name}": c for name, c in zip(batch.names, coefficients, strict=True)}
        length_K = gramian_KK.diagonal().sqrt()
        for (i, first), (j, second) in itertools.combinations(enumerate(batch.names), 2):
            if length_K[i] * length_K[j] > 0:
                metrics[f"cosine/{first}/{second}"] = (gramian_KK[i, j] / length_K[i] / length_K[j]).item()
        return metrics

    def _coefficients(self, gramian_KK: Tensor) -> Tensor:
        trace = gramian_KK.trace()
        if trace == 0:  # no sample is better than another
            return torch.zeros(len(gramian_KK))
        found_K: Tensor = self.rule.solver()(gramian_KK / trace)
        return found_K
