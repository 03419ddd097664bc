"""What belongs where: a method reads nothing of a bench that is the runner's."""

from __future__ import annotations

import ast
from dataclasses import fields
from pathlib import Path

from emorl_bench.core.protocols import Bench, Runtime

ROOT = Path(__file__).parents[2]
METHODS = [ROOT / "emorl_bench" / "emorl.py", *sorted((ROOT / "baselines").rglob("*.py"))]


def attributes(path: Path) -> set[str]:
    return {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}


def test_methods_do_not_read_how_they_are_run() -> None:
    assert len(METHODS) > 10
    assert {"runtime"} <= attributes(ROOT / "emorl_bench" / "rl" / "run.py")  # as the shared code does
    assert [path.name for path in METHODS if {"runtime", "with_runtime"} & attributes(path)] == []
    shared = {field.name for field in fields(Bench)} & {field.name for field in fields(Runtime)}
    assert shared == set()
