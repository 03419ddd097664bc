"""Who reads the record finds each learner's validations, over the prompts that the learner has spent itself."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from emorl_bench.report.curves import learning_curves
from emorl_bench.tracking.method_rows import MethodRows
from studies.tuning.utility import select_utility


def logged() -> list[dict[str, float]]:
    """An expert's validations, then those of a pair, each with what they had spent."""
    rows, made = [], MethodRows()
    for name, step, reward in (("a", 0, 0.1), ("a", 4, 0.3), ("pair", 0, 0.2), ("pair", 4, 0.6)):
        own = {f"eval/{name}/a": reward, f"eval/{name}/mean_reward": reward, f"eval/{name}/utility": reward + 0.1}
        agents = {"eval/first/mean_reward": 0.9} if name == "pair" else {}
        spent = {f"spent/{name}/data_points": 8.0 + 10 * step, "data_points": 10.0 * step}
        row = made.row(own | agents | spent, step)
        assert row is not None
        rows.append(row)
    return rows


def test_curves_are_those_of_learners_and_tuning_reads_their_utility(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in logged()))

    def lines(name: str) -> list[Any]:
        return [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]

    run: Any = SimpleNamespace(lines=lines, objectives=("a", "b"))
    assert learning_curves(run) == {"a": {8.0: 0.1, 48.0: 0.3}, "pair": {8.0: 0.2, 48.0: 0.6}}
    found = select_utility(tmp_path, {"objectives": ["a"], "preferences": [[1.0]]})
    assert found == 0.7, "the expert counts for nothing"
