"""A gradient for each objective, and one direction of them: MGDA, CAGrad and UPGrad, by TorchJD's solvers (an extra).

Row k of the Jacobian over the adapter is the gradient of k-SCST (`rl.scst`) on objective k alone, over the samples that
it applies to. The KL penalty is part of every objective's reward, unscaled: the mean row, like any convex combination
of rows, then has the KL once. From the Gramian of the rows a rule works out a coefficient for each:

- MGDA (Désidéri 2012; Sener & Koltun 1810.04650, algorithm 2): the shortest vector in the convex hull of the rows.
  Those that it is made of descend alike, the others more; it is 0 where none can gain but by another's loss.
- CAGrad (2110.14048, algorithm 1): of all directions within c times the mean row's length from the mean row, that
  whose least descent is largest; c = 0 is the mean row, the gradient of the weighted sum.
- UPGrad (2406.16232): every row projected onto the directions that harm no objective, then the mean of them.

The weights of the method scale the rows; where they are uniform, rows stay as they are. For CAGrad and UPGrad row k is
taken K w_k times, so the mean row is the weighted sum's gradient. For MGDA it is divided by K w_k, because the shortest
vector follows a long row less: so objectives descend at least in proportion to their weights. An objective without a
weight, or that applies to no sample, has no row.

Against the papers: the gradients are those of policies, not of supervised losses; the direction is clipped and handed
to AdamW, as in every rule here, whose step is no longer exactly along it; the Gramian is scaled to trace 1 beforehand,
since TorchJD takes small gradients for none.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any, ClassVar

import torch
from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.protocols import Learner, Policy, Separable, Update
from emorl_bench.core.types import Rollout
from emorl_bench.rl.advantages import group_advantages
from emorl_bench.rl.kl import sequence_kl
from emorl_bench.rl.learner import AdapterLearner, AdapterRule
from emorl_bench.rl.micro_batches import reference_logprobs
from emorl_bench.rl.scst import reinforce

INSTALL = 'pip install -c constraints.txt -e ".[torchjd]"'


@dataclass(frozen=True)
class JacobianRule(AdapterRule, ABC):
    """What the rules share; each says how rows are weighted, and combined.

    ``kl_coefficient`` subtracts that much of every objective's reward per nat of ``log pi - log pi_ref``.
    """

    kl_coefficient: float = 0.0
    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]

    def learner(self, policy: Policy, ledger: Ledger) -> Learner:
        if any(find_spec(package) is None for package in self.packages):
            raise UserError(f"update={self.name} needs the extra: {INSTALL}")
        return _JacobianLearner(self, policy, ledger)

    def scales(self, weights_K: Tensor) -> Tensor:
        """(K,) what each row is multiplied by, where weights above 0 have the mean 1."""
        return weights_K

    @abstractmethod
    def solver(self) -> Any:
        """TorchJD's: from a Gramian (K, K) how much of each row the direction has, (K,)."""


@dataclass(frozen=True)
class Mgda(JacobianRule):
    """``iterations`` of Frank-Wolfe at most; two objectives need one."""

    iterations: int = 100
    name: ClassVar[str] = "mgda"
    packages: ClassVar[tuple[str, ...]] = ("torchjd",)

    def learner(self, policy: Policy, ledger: Ledger) -> Learner:
        if self.iterations < 1:
            raise UserError(f"update.iterations={self.iterations}: give 1 or more")
        return super().learner(policy, ledger)

    def scales(self, weights_K: Tensor) -> Tensor:
        return 1 / weights_K

    def solver(self) -> Any:
        from torchjd.aggregation import MGDAWeighting

        return MGDAWeighting(max_iters=self.iterations)


@dataclass(frozen=True)
class CaGrad(JacobianRule):
    """``c``: how far from the mean row, in its lengths; from 1 on it need not end where the mean row is 0."""

    c: float = 0.5
    name: ClassVar[str] = "cagrad"
    packages: ClassVar[tuple[str, ...]] = ("torchjd", "cvxpy", "clarabel")

    def learner(self, policy: Policy, ledger: Ledger) -> Learner:
        if self.c < 0:
            raise UserError(f"update.c={self.c}: give 0 or more, such as 0.5")
        return super().learner(policy, ledger)

    def solver(self) -> Any:
        from torchjd.aggregation import CAGradWeighting

        return CAGradWeighting(self.c)


@dataclass(frozen=True)
class UpGrad(JacobianRule):
    name: ClassVar[str] = "upgrad"
    packages: ClassVar[tuple[str, ...]] = ("torchjd", "qpsolvers", "quadprog")

    def solver(self) -> Any:
        from torchjd.aggregation import UPGradWeighting

        return UPGradWeighting()


def gramian(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    """(K, K) inner products in float64 of gradients that are given parameter by parameter."""
    parts = (torch.stack(part).flatten(1).double() for part in zip(*rows, strict=True))
    return torch.stack([part @ part.T for part in parts]).sum(0).cpu()


class _JacobianLearner(AdapterLearner[JacobianRule]):
    """Told (B, K): `core.protocols.Decoupling`."""

    def told(self, shaped_BK: Tensor, weighting: Separable, group_size: int) -> Tensor:
        weights_K = weighting.weighted(torch.eye(shaped_BK.shape[1], dtype=shaped_BK.dtype))  # it is linear
        here_K = (weights_K > 0) & ~shaped_BK.isnan().all(0)
        shares_K = weights_K * here_K.sum() / weights_K[here_K].sum()
        return torch.where(here_K, shaped_BK * self.rule.scales(shares_K), torch.nan)

    def learn(self, rollout: Rollout, rewards_BK: Tensor, teaches_B: Tensor, rng: torch.Generator) -> Update:
        metrics: dict[str, float] = {}
        if self.rule.kl_coefficient:
            reference_BT = yield from reference_logprobs(self.policy, rollout, self.rule.micro_batch)
            kl_B = sequence_kl(rollout.logprobs_BT, reference_BT, rollout.response_mask_BT)
            rewards_BK = rewards_BK - self.rule.kl_coefficient * kl_B[:, None]
            metrics["kl"] = kl_B[teaches_B].mean().item()
        objectives = [k for k, applies in enumerate((~rewards_BK.isnan()).any(0).tolist()) if applies]
        rows = []
        for k in objectives:
            advantages_B = group_advantages(rewards_BK[:, k], rollout.group_size) / (~rewards_BK[:, k].isnan()).sum()
            yield from self.accumulate(rollout, partial(reinforce, self.policy, rollout, advantages_B))
            rows.append(self.optimiser.take())
        gramian_KK = gramian(rows)
        coefficients = self._coefficients(gramian_KK).tolist()
        direction = [
            sum(c * part for c, part in zip(coefficients, parts, strict=True)) for parts in zip(*rows, strict=True)
        ]
        self.ledger.current.optimiser_steps += 1
        metrics["grad_norm"] = self.optimiser.step_along(direction)
        metrics |= {f"direction/{{{k}}}": c for k, c in zip(objectives, coefficients, strict=True)}
        length_K = gramian_KK.diagonal().sqrt()
        for (i, k), (j, m) in itertools.combinations(enumerate(objectives), 2):
            if length_K[i] * length_K[j] > 0:
                metrics[f"cosine/{{{k}}}/{{{m}}}"] = (gramian_KK[i, j] / length_K[i] / length_K[j]).item()
        return metrics

    def _coefficients(self, gramian_KK: Tensor) -> Tensor:
        trace = gramian_KK.trace()
        if trace == 0:  # no sample is better than another
            return torch.zeros(len(gramian_KK))
        found_K: Tensor = self.rule.solver()(gramian_KK / trace)
        return found_K
