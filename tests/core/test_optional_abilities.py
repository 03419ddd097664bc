"""Optional abilities are methods of a base class with a default; no class is recognised by the names of its methods."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import torch

from emorl_bench.core.protocols import Candidate, Sampler, Solution
from emorl_bench.core.solutions import BestCandidate, OnePolicy
from emorl_bench.scorers.rule import DeviceScorer, Rule

ROOT = Path(__file__).parents[2]


def parsed(*rooms: str) -> Iterator[ast.Module]:
    for room in rooms:
        for path in (ROOT / room).rglob("*.py"):
            yield ast.parse(path.read_text())


def test_every_class_that_answers_preferences_is_a_solution() -> None:
    classes = [
        node
        for tree in parsed("emorl_bench", "baselines", "studies")
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        if any(isinstance(part, ast.FunctionDef) and part.name == "policy_for" for part in node.body)
    ]
    bases = {node.name: [ast.unparse(base) for base in node.bases] for node in classes}
    assert bases.pop("Solution") == ["ABC"]
    assert len(bases) > 5
    assert all("Solution" in names for names in bases.values()), bases


def test_the_interfaces_are_not_matched_at_run_time_by_names() -> None:
    trees = parsed("emorl_bench", "baselines")
    used = {node.id for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert "Protocol" in used
    assert "runtime_checkable" not in used


def test_a_solution_has_no_ability_that_it_does_not_define() -> None:
    class Worded(Solution):
        """It has words of abilities, and none of the abilities."""

        members: tuple[str, ...] = ("first", "second")

        def policy_for(self, preference_K: torch.Tensor) -> Sampler:
            raise AssertionError

    for solution in (Worded(), OnePolicy(policy=None)):  # type: ignore[arg-type]
        assert solution.graded_alone() == {}
        assert solution.chooses_with_scorers is False


def test_the_best_of_several_grades_all_of_them() -> None:
    members = {name: Candidate(policy=object(), select={}) for name in ("a", "b")}  # type: ignore[arg-type]
    best = BestCandidate(members, "b")
    assert best.graded_alone() == members
    assert best.policy_for(torch.ones(2)) is members["b"].policy


def test_a_scorer_of_one_form_has_no_costs_to_compare() -> None:
    assert Rule().costs() == DeviceScorer().costs() == {}
