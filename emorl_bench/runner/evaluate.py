"""The only evaluation: every method is graded on the report split, with the same decodings, at the same preferences.

Three sets of scorers judge: those that methods are given, their held-out twins, and gold where the task knows the true
value of an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.protocols import Candidate, Policy, Sampler, Solution
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Example, Rollout, Sampling
from emorl_bench.progress import ProgressBar
from emorl_bench.rl.kl import kl_to_reference
from emorl_bench.runner.points import Row, Scored, at, ceiling, front, point, rows
from emorl_bench.scorers.panel import ScorerPanel

INFERENCE = {  # the cost of one answer -> the ledger's counter
    "passes_per_answer": "forward_passes",
    "decoded_tokens_per_answer": "generated_tokens",
    "scorer_calls_per_answer": "scores_wanted",
}


@dataclass
class Grades:
    """The results of one evaluation: part of the summary, and rows of the tables."""

    summary: dict[str, Any] = field(default_factory=dict)
    score_rows: list[Row] = field(default_factory=list)
    sample_rows: list[Row] = field(default_factory=list)
    member_rows: list[Row] = field(default_factory=list)
    """Answers of the policies of a method that are not deployed."""


@dataclass(frozen=True)
class Grader:
    """The report split, all sets of scorers and the reference policy. No method sees them."""

    report: Sequence[Example]
    panel: ScorerPanel
    held_out: ScorerPanel
    reference: Policy
    preferences_WK: Tensor
    """The preferences that methods are graded at; the uniform one is among them."""
    sampling: Sampling
    decoding: tuple[str, ...]
    seed: int
    gold: ScorerPanel | None = None
    """The gold scorers of the objectives that have one."""
    best: Callable[[Sequence[Example], Tensor], Tensor | None] | None = None
    """`core.protocols.Task.ceiling`."""

    @property
    def uniform(self) -> int:
        """The index of the uniform preference."""
        return int((self.preferences_WK - 1 / self.preferences_WK.shape[1]).abs().sum(1).argmin())

    @cached_property
    def ceiling(self) -> Row | None:
        """The value of the best possible answers; None where it is unknown, or where an objective has no gold scorer.

        Raises:
            UserError: the task returned a tensor of another shape.
        """
        if self.best is None or self.gold is None or self.gold.objectives != self.panel.objectives:
            return None
        best_WK = self.best(self.report, self.preferences_WK)
        if best_WK is None:
            return None
        if best_WK.shape != self.preferences_WK.shape:
            given, wanted = tuple(best_WK.shape), tuple(self.preferences_WK.shape)
            raise UserError(f"task.ceiling: returned shape {given}; {wanted}, preferences by objectives, is needed")
        return ceiling(best_WK, self.preferences_WK, self.uniform)

    def grade(self, solution: Solution, ledger: Ledger) -> Grades:
        """Ask for the policy of each preference, and grade each policy once. A search is charged to its own phase.

        The policy of the uniform preference is graded first: the cost of its answers is measured before anything is
        cached.
        """
        policies = [solution.policy_for(preference_K) for preference_K in self.preferences_WK]
        deployed, grades = policies[self.uniform], Grades()
        first = {id(policy): index for index, policy in reversed(list(enumerate(policies)))}
        count, quiet = len(first), not self.reference.ranks.first
        with ProgressBar("grade", count, "policies", quiet=quiet, tokens=lambda: ledger.generated_tokens) as shown:
            seen = {id(deployed): self._grade_policy(deployed, first[id(deployed)], grades, ledger)}
            for policy in policies:
                if id(policy) not in seen:
                    shown.to(len(seen), _reward(seen[id(deployed)]))
                    seen[id(policy)] = self._grade_policy(policy, first[id(policy)], grades)
            shown.to(count, _reward(seen[id(deployed)]))
        for table in (grades.score_rows, grades.sample_rows):
            table.sort(key=lambda row: row["preference"])
        graded = {
            decoding: [
                at(seen[id(policy)][decoding], self.panel.objectives, preference_K)
                for policy, preference_K in zip(policies, self.preferences_WK, strict=True)
            ]
            for decoding in self.decoding
        }
        grades.summary = {
            "preferences": self.preferences_WK.tolist(),
            "single_point": len(seen) == 1,
            "ceiling": self.ceiling,
            "decoding": {
                name: front(points, self.panel.objectives, self.preferences_WK, self.uniform)
                for name, points in graded.items()
            },
        }
        if candidates := solution.graded_alone():
            grades.summary["members"] = self._members(candidates, deployed, seen, grades, ledger)
        grades.summary["mean_reward"] = grades.summary["decoding"][self.decoding[0]]["uniform"]["mean_reward"]
        return grades

    def _members(
        self,
        candidates: Mapping[str, Candidate],
        deployed: Sampler,
        seen: Mapping[int, dict[str, Row]],
        grades: Grades,
        ledger: Ledger,
    ) -> dict[str, Row]:
        """Grade each member of a method like the deployed policy.

        The answers of the other members have a table of their own.
        """
        found = {}
        for name, member in candidates.items():
            if (points := seen.get(id(member.policy))) is None:
                alone = Grades()
                points = self._grade_policy(member.policy, self.uniform, alone, ledger)
                grades.member_rows += [{"member": name, **row} for row in alone.sample_rows]
            uniform_K = self.preferences_WK[self.uniform]
            graded = {decoding: at(one, self.panel.objectives, uniform_K) for decoding, one in points.items()}
            found[name] = {"deployed": member.policy is deployed, "select": dict(member.select), "decoding": graded}
        return found

    def _grade_policy(
        self, policy: Sampler, index: int, grades: Grades, ledger: Ledger | None = None
    ) -> dict[str, Row]:
        """One point for each decoding. With a ledger it also holds the cost of an answer.

        KL is an expectation over samples, so it is measured on sampled answers for all decodings.
        """
        rollouts, costs = {}, {}
        for name in self.decoding:
            before = _spent(ledger)
            rollouts[name] = self._decode(policy, name)
            costs[name] = _each(before, _spent(ledger), len(rollouts[name].responses))
        sampled = rollouts["sampled"] if "sampled" in rollouts else self._decode(policy, "sampled")
        kl = kl_to_reference(sampled, self.reference)
        points = {}
        for name, rollout in rollouts.items():
            scored = self._scored(rollout)
            ended_B = (self.reference.is_eos(rollout.response_ids_BT) & rollout.response_mask_BT).any(1)
            points[name] = point(rollout, scored, ended_B) | {"kl": kl} | costs[name]
            for row in rows(rollout, scored):
                row |= {"decoding": name, "preference": index}
                grades.sample_rows.append(dict(row))
                grades.score_rows.append({k: v for k, v in row.items() if k not in ("prompt", "response")})
        return points

    def _scored(self, rollout: Rollout) -> dict[str, Scored]:
        panels = {"objectives": self.panel, "held_out": self.held_out}
        if self.gold is not None:
            panels["gold"] = self.gold
        return {name: Scored(panel.objectives, panel.score(rollout)) for name, panel in panels.items()}

    def _decode(self, policy: Sampler, decoding: str) -> Rollout:
        sampling = self.sampling if decoding == "sampled" else replace(self.sampling, temperature=0.0)
        return policy.generate(self.report, sampling, stream(self.seed, "report", decoding))


def _reward(points: Mapping[str, Row]) -> str:
    """The mean reward of a graded policy, for the progress."""
    means = [point["mean_reward"] for point in points.values()]
    return "" if None in means else f"reward {', '.join(f'{mean:.3f}' for mean in means)}"


def _spent(ledger: Ledger | None) -> Row:
    """What all phases together have spent on answers until now."""
    if ledger is None:
        return {}
    costs = ledger.phases.values()
    return {name: sum(getattr(cost, counter) for cost in costs) for name, counter in INFERENCE.items()}


def _each(before: Row, after: Row, answers: int) -> Row:
    """The difference for each answer; empty where no model of this project has decoded."""
    if not after or after["passes_per_answer"] == before["passes_per_answer"]:
        return {}
    return {name: (after[name] - before[name]) / answers for name in after}
