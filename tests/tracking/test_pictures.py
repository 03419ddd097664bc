"""The end of a run as a view shows it: pictures of what the run has, tables, and no number under two names."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from emorl_bench.tracking.closing import SAMPLES, front_rows, numbers, sample_rows
from emorl_bench.tracking.pictures import pictures

NAMES = ("a", "b", "c", "d")


def graded(objectives: int, *, gold: bool = True) -> dict[str, Any]:
    """A front of the corners and the centre."""
    corners = [*np.eye(objectives).tolist(), [1 / objectives] * objectives]
    points = []
    for i, preference in enumerate(corners):
        scores = {name: 0.3 + 0.1 * k + 0.05 * i for k, name in enumerate(NAMES[:objectives])}
        sets = {"objectives": scores, "held_out": scores} | ({"gold": scores} if gold else {})
        points.append({"preference": preference, **sets, "utility": 0.5, "held_out_utility": 0.4, "kl": 1.0})
    return {"points": points, "uniform": points[-1], "hypervolume": 0.2}


def summary(objectives: int, **changes: Any) -> dict[str, Any]:
    decoding = {name: graded(objectives) for name in ("greedy", "sampled")}
    return {"objectives": list(NAMES[:objectives]), "decoding": decoding, "single_point": False, **changes}


def searched(experts: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(experts)
    weights = [*np.eye(experts).tolist(), *rng.random((6, experts)).tolist(), [0.0] * experts]
    return [{"preference": [1 / experts] * experts, "weights": w, "utility": sum(w)} for w in weights]


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_pictures_are_drawn_of_any_number_of_objectives(objectives: int) -> None:
    found = pictures(summary(objectives), searched(objectives))
    assert set(found) == {"scores", "search"} | ({"front"} if objectives > 1 else set())
    for png in found.values():
        pixels = np.asarray(Image.open(BytesIO(png)).convert("L"))
        assert pixels.min() < 100 < 250 < pixels.max(), "something is drawn on white"


def test_a_run_without_a_search_or_grades_has_fewer_pictures() -> None:
    assert "search" not in pictures(summary(2), [])
    assert pictures({"objectives": ["a"]}, []) == {}


def test_the_uniform_preference_comes_first_and_all_have_as_many_rows() -> None:
    rows = [
        {
            "split": "report",
            "decoding": d,
            "preference": w,
            "example_id": str(i),
            "prompt": "p",
            "response": "r",
            "a": 0.5,
        }
        for w in range(4)
        for d, each in (("greedy", 30), ("sampled", 90))
        for i in range(each)
    ]
    shown = sample_rows(summary(3), rows)
    counts: dict[tuple[str, str], int] = {}
    for row in shown:
        key = (row["preference"], row["decoding"])
        counts[key] = counts.get(key, 0) + 1
    assert [*counts][:2] == [("0.33-0.33-0.33", "greedy"), ("0.33-0.33-0.33", "sampled")]
    assert len(counts) == 4 * 2
    assert len({*counts.values()}) == 1
    assert len(shown) <= SAMPLES
    one = sample_rows(summary(3, single_point=True), [row | {"preference": 3} for row in rows])
    assert {row["preference"] for row in one} == {"0.33-0.33-0.33"}, "one policy's answers are shown once"
    assert front_rows(summary(3))[0]["preference"] == "0.33-0.33-0.33"


def test_a_policy_that_answers_several_preferences_is_found_under_the_first_of_them() -> None:
    shared = summary(2)
    points = shared["decoding"]["greedy"]["points"]
    points[2]["objectives"] = points[0]["objectives"]  # the uniform preference has the policy of the first corner
    del shared["decoding"]["sampled"]
    answers = [{"decoding": "greedy", "preference": w, "prompt": "p", "response": f"r{w}"} for w in (0, 1)]
    assert [row["response"] for row in sample_rows(shared, answers)] == ["r0", "r0", "r1"]


def test_each_number_of_the_summary_has_one_name() -> None:
    made = summary(2, cost={"flops": 3.0}, ladder=[], mean_reward=0.5, seed=3, schema_version=1)
    made["decoding"]["greedy"]["uniform"]["mean_reward"] = 0.5
    found = numbers(made, {"search": {"prompts": 8, "samples": 0}, "setup": {"prompts": 0}})
    assert found["final/greedy/mean_reward"] == 0.5
    assert not {"mean_reward", "seed", "schema_version"} & {
        name.rpartition("/")[2] for name in found if "final" not in name
    }
    assert "front/greedy/0.50-0.50/a" not in found
    assert found["front/greedy/1.00-0.00/a"] == pytest.approx(0.3)
    assert {name: n for name, n in found.items() if name.startswith("ledger/")} == {"ledger/search/prompts": 8}
    assert not [name for name in numbers(summary(2, single_point=True), {}) if name.startswith("front/")]
