"""A search that is killed at any byte of its record ends with the same record, cost and answers."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_bench

from emorl_bench.core.ledger import FREE
from emorl_bench.core.protocols import Bench
from emorl_bench.emorl import Emorl
from emorl_bench.ensemble.blending import HiddenState
from emorl_bench.ensemble.evaluations import utilities
from emorl_bench.ensemble.front import SearchedFront
from emorl_bench.ensemble.search_record import FILE
from emorl_bench.search.simplex import SimplexSubdivision

PREFERENCES = ((1.0, 0.0), (0.5, 0.5), (0.25, 0.75))
CLOCKS = ("wall_seconds", "device_seconds", "peak_bytes")


def searched(place: Path, name: str) -> tuple[Bench, SearchedFront]:
    (place / name).mkdir(exist_ok=True)
    bench = make_bench(place, "gpt2", dir=place / name, preferences=PREFERENCES, steps=2)
    front = Emorl(HiddenState(), SimplexSubdivision(3)).fit(bench)
    assert isinstance(front, SearchedFront)
    with bench.ledger.phase("evaluate"):  # grading is what asks for policies
        for preference in PREFERENCES:
            front.policy_for(torch.tensor(preference, dtype=torch.float64))
    return bench, front


def record(directory: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (directory / FILE).read_text().splitlines()]
    return [{**row, "cost": without_clocks(row["cost"])} for row in rows]


def order(bench: Bench) -> list[str]:
    """The phases in the order of the ledger; in a whole run the phase of setup is always the first."""
    return [name for name in bench.ledger.phases if name != "setup"]


def without_clocks(cost: dict[str, float]) -> dict[str, float]:
    return {key: value for key, value in cost.items() if key not in CLOCKS}


def test_a_search_killed_at_any_byte_of_its_record_ends_like_one_that_was_not(tmp_path: Path) -> None:
    whole, front = searched(tmp_path, "whole")
    rows = (whole.dir / FILE).read_bytes()
    ends = [i + 1 for i in range(len(rows)) if rows[i : i + 1] == b"\n"]
    sizes = [row["of"] for row in record(whole.dir)]
    assert max(sizes) > 1
    within = ends[sizes.index(max(sizes))]  # after the first row of a question with several
    for kept in (0, within, ends[len(ends) // 2], ends[-2] + 9, ends[-1] - 1, ends[-1]):
        place = f"killed{kept}"
        (tmp_path / place).mkdir()
        (tmp_path / place / FILE).write_bytes(rows[:kept])
        for _ in range(2):  # and once more, with nothing left to do
            made, again = searched(tmp_path, place)
            assert record(made.dir) == record(whole.dir), kept
            cost, expected = (without_clocks(asdict(b.ledger.phases["search"])) for b in (made, whole))
            assert cost == expected, kept
            assert order(made) == order(whole)  # sums of FLOPs are rounded in this order
            assert FREE not in made.ledger.phases
            assert {p: w.tolist() for p, w in again._found.items()} == {p: w.tolist() for p, w in front._found.items()}
            mine, theirs = ([r for r in b.tracker.rows if "search/utility" in r] for b in (made, whole))
            assert [{k: v for k, v in r.items() if "seconds" not in k} for r in mine] == [
                {k: v for k, v in r.items() if "seconds" not in k} for r in theirs
            ], kept


def test_another_way_than_the_recorded_one_is_gone_with_what_is_known(tmp_path: Path) -> None:
    whole, _ = searched(tmp_path, "whole")
    before = whole.ledger.phases["search"].evaluations
    bench = make_bench(tmp_path, "gpt2", dir=whole.dir, preferences=PREFERENCES[1:], steps=2, score=None)
    front = Emorl(HiddenState(), SimplexSubdivision(3)).fit(bench)
    front.policy_for(torch.tensor(PREFERENCES[1], dtype=torch.float64))  # nothing is scored anew: there is no scorer
    assert bench.ledger.phases["search"].evaluations == before


@pytest.mark.parametrize("noise", [1e-10, -1e-10])
def test_of_blends_that_tie_within_rounding_the_first_is_best(noise: float) -> None:
    scores_WK = torch.tensor([[0.2, 0.2], [0.6, 0.2], [0.6 + noise, 0.2 - noise / 3], [0.2, 0.6]], dtype=torch.float64)
    assert int(utilities(scores_WK, torch.tensor([0.75, 0.25], dtype=torch.float64)).argmax()) == 1
