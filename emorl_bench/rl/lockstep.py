"""Updates of one learner or of many, in step: what they ask of the model at the same time is answered in one pass.

An update rule is a generator (`core.protocols.Update`) that yields what it needs: hidden states, or the gradients of a
loss of them. Requests that are alike (of one kind, with equally many rows) are stacked adapter-major. Experts share no
trained parameter, so the gradients of the sum of their losses are those of separate training.

A loss is taken back only to the hidden states, learner by learner, so that the logits of one learner at a time are in
memory; then one backward pass goes through the stacked model. Nothing reaches ``.grad`` before a round has succeeded:
where memory does not suffice, the round is repeated one learner after the other. Ranks that share a run meet in one
order, so they go apart together.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from emorl_bench.core.ledger import Ledger
from emorl_bench.core.protocols import Forward, ForwardBackward, Learner, Update
from emorl_bench.core.types import Metrics, Rollout
from emorl_bench.policies.bank import can_stack, concatenated, fills_a_pass, hidden_together

Gradients = list[tuple[torch.nn.Parameter, Tensor]]


@dataclass
class _Turn:
    """One learner's update: what it waits for, and in the end its metrics."""

    index: int
    learner: Learner
    update: Update
    request: Forward | ForwardBackward | None = None
    metrics: Metrics = field(default_factory=dict)


@dataclass
class Lockstep:
    """``joint`` is false where every request is answered alone, and becomes so when memory runs out."""

    ledger: Ledger
    joint: bool = True

    def __call__(
        self,
        learners: Sequence[Learner],
        rollouts: Sequence[Rollout],
        rewards: Sequence[Tensor],
        rngs: Sequence[torch.Generator],
    ) -> list[Metrics]:
        """One update of each learner on its own rollout; counts go to the i-th of the open costs."""
        updates = [
            learner.update(rollout, rewards_B, rng)
            for learner, rollout, rewards_B, rng in zip(learners, rollouts, rewards, rngs, strict=True)
        ]
        turns = [_Turn(i, learner, update) for i, (learner, update) in enumerate(zip(learners, updates, strict=True))]
        ranks = learners[0].policy.ranks
        self.joint = not ranks.most(not self.joint)
        with self.ledger.metered("update") as call:
            call.tokens = sum(rollout.tokens for rollout in rollouts)
            if self.joint and can_stack([learner.policy for learner in learners]):
                self._run(turns)
            else:
                for turn in turns:
                    self._run([turn])
        return [turn.metrics for turn in turns]

    def _run(self, turns: Sequence[_Turn]) -> None:
        for turn in turns:
            self._resume(turn, None)
        while waiting := [turn for turn in turns if turn.request is not None]:
            for alike in self._alike(waiting):
                self._answer(alike)

    def _resume(self, turn: _Turn, answer: Tensor | Metrics | None) -> None:
        with self.ledger.alone(turn.index):
            try:
                turn.request = turn.update.send(answer)
            except StopIteration as end:
                turn.request, turn.metrics = None, end.value

    def _alike(self, turns: Sequence[_Turn]) -> list[list[_Turn]]:
        groups: dict[object, list[_Turn]] = {}
        for turn in turns:
            request = turn.request
            assert request is not None
            rows = len(request.rollout.examples)
            key = (type(request), isinstance(request, Forward) and request.reference, rows)
            together = self.joint and not fills_a_pass(turn.learner.policy, rows)
            groups.setdefault(key if together else turn.index, []).append(turn)
        return list(groups.values())

    def _answer(self, turns: Sequence[_Turn]) -> None:
        try:
            answers = _answers(turns)
        except torch.OutOfMemoryError:
            if len(turns) == 1 or turns[0].learner.policy.ranks.in_step:
                raise
            answers = None
        if answers is None:  # out of the handler, whose traceback would keep the failed pass in memory
            self._apart(len(turns))
            for turn in turns:
                self._answer([turn])
            return
        for turn, (answer, gradients) in zip(turns, answers, strict=True):
            for parameter, gradient in gradients:
                parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
            self._resume(turn, answer)

    def _apart(self, learners: int) -> None:
        self.joint = False
        print(f"{learners} learners together exceed the memory: on, one after the other", file=sys.stderr, flush=True)


def _answers(turns: Sequence[_Turn]) -> list[tuple[Tensor | Metrics, Gradients]]:
    """What each turn is told, and the gradients that it has asked for; changes nothing."""
    asked = [turn.request for turn in turns]
    policies = [turn.learner.policy for turn in turns]
    losses = [request for request in asked if isinstance(request, ForwardBackward)]
    if losses:
        return _descend(turns, losses)
    rollouts = [request.rollout for request in asked if request is not None]
    with torch.no_grad():
        if isinstance(asked[0], Forward) and asked[0].reference:  # equal prompts are read once for all
            blocks = policies[0].reference().hidden(concatenated(rollouts)).chunk(len(rollouts))
        else:
            blocks = hidden_together(policies, rollouts).unbind()
    return [(_cut(block, rollout), []) for block, rollout in zip(blocks, rollouts, strict=True)]


def _descend(turns: Sequence[_Turn], asked: Sequence[ForwardBackward]) -> list[tuple[Tensor | Metrics, Gradients]]:
    policies = [turn.learner.policy for turn in turns]
    hidden_MBTH = hidden_together(policies, [request.rollout for request in asked])
    slope_MBTH = torch.zeros_like(hidden_MBTH)
    answers: list[tuple[Tensor | Metrics, Gradients]] = []
    for m, request in enumerate(asked):
        leaf_BTH = _cut(hidden_MBTH[m].detach(), request.rollout).requires_grad_()
        loss, metrics = request.loss(leaf_BTH.view_as(leaf_BTH))  # the FLOP counter's hooks do not bear leaves
        slope_BTH, *own = torch.autograd.grad(loss, [leaf_BTH, *request.parameters])
        slope_MBTH[m, :, : slope_BTH.shape[1]] = slope_BTH
        answers.append((metrics, list(zip(request.parameters, own, strict=True))))
    trained = [list(policy.parameters()) for policy in policies]
    flat = [parameter for parameters in trained for parameter in parameters]
    gradients = iter(torch.autograd.grad(hidden_MBTH, flat, slope_MBTH, materialize_grads=True))
    for (_, found), parameters in zip(answers, trained, strict=True):
        found += [(parameter, next(gradients)) for parameter in parameters]
    return answers


def _cut(hidden_BTH: Tensor, rollout: Rollout) -> Tensor:
    return hidden_BTH[:, : rollout.response_ids_BT.shape[1]]
