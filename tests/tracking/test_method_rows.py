"""Rows of the whole method: means of learners, experts that others replace, axes that add up, and no row twice."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest

from emorl_bench.tracking.method_rows import AXES, MethodRows

Log = tuple[dict[str, float], int]


def validated(learner: str, step: int, **scores: float) -> Log:
    """What a learner logs at a validation: its scores by objective, and what it has spent."""
    mean = sum(scores.values()) / len(scores)
    row = {f"eval/{learner}/{name}": score for name, score in scores.items()}
    row |= {f"eval/{learner}/mean_reward": mean, f"eval/{learner}/utility": mean}
    return row | spent(learner, step), step


def trained(learner: str, step: int, **numbers: float) -> Log:
    return {f"train/{learner}/{name}": n for name, n in numbers.items()} | spent(learner, step), step


def spent(learner: str, step: int) -> dict[str, float]:
    axes = {"data_points": 10.0 * step, "tokens": 50.0 * step, "seconds": 0.5 * step}
    return {f"spent/{learner}/{axis}": value for axis, value in axes.items()} | {"data_points": 8.0 * step}


def rows_of(logged: list[Log], made: MethodRows | None = None) -> list[dict[str, float]]:
    made = made or MethodRows()
    return [row for metrics, step in logged if (row := made.row(metrics, step)) is not None]


def test_one_learner_is_the_method() -> None:
    eval_row, train_row = rows_of(
        [validated("policy", 0, a=0.2, b=0.6), trained("policy", 1, reward=0.5, kl=0.1, a=0.3)]
    )
    assert {k: eval_row[k] for k in ("eval/a", "eval/b", "eval/mean_reward", "eval/utility")} == {
        "eval/a": 0.2, "eval/b": 0.6, "eval/mean_reward": pytest.approx(0.4), "eval/utility": pytest.approx(0.4)
    }  # fmt: skip
    assert (train_row["train/reward"], train_row["train/kl"], train_row["train/a"]) == (0.5, 0.1, 0.3)
    assert train_row["learner/policy/train/reward"] == 0.5
    assert (train_row["data_points"], train_row["tokens"], train_row["seconds"]) == (10, 50, 0.5)
    assert not [key for key in train_row if key.startswith("spent/")]


def test_experts_are_shown_by_their_mean_and_spend_together() -> None:
    logged = [validated("a", 0, a=0.2), validated("b", 0, b=0.6)]
    logged += [
        trained("a", 1, reward=0.1, a=0.1),
        trained("b", 1, reward=0.5, b=0.5),
        trained("a", 2, reward=0.3, a=0.3),
    ]
    rows = rows_of(logged)
    assert [row.get("eval/mean_reward") for row in rows[:2]] == [0.2, pytest.approx(0.4)]
    assert [row["train/reward"] for row in rows[2:]] == [0.1, pytest.approx(0.3), pytest.approx(0.4)]
    assert (rows[-1]["train/a"], "train/b" in rows[-1]) == (0.3, False)
    assert [row["data_points"] for row in rows] == [0, 0, 10, 20, 30]
    assert rows[-1]["learner/a/data_points"] == 20


def test_a_policy_on_top_of_experts_replaces_them_and_so_does_the_best_blend() -> None:
    experts = [validated("a", 0, a=0.9), validated("b", 0, b=0.7), trained("a", 1, reward=0.9, a=0.9)]
    on_top = rows_of([*experts, validated("net", 1, a=0.3, b=0.5), trained("net", 1, reward=0.4, a=0.35)])
    assert (on_top[-2]["eval/mean_reward"], on_top[-2]["eval/a"]) == (pytest.approx(0.4), 0.3)
    assert (on_top[-1]["train/reward"], on_top[-1]["train/a"]) == (0.4, 0.35)
    found = {"search/a": 0.5, "search/b": 0.6, "search/mean_reward": 0.55, "search/utility": 0.55}
    found |= {"search/evaluations": 3.0, "spent/search/data_points": 12.0}
    blend = rows_of([*experts, (found, 3)])[-1]
    assert {blend[f"eval/{k}"] for k in ("mean_reward", "utility")} == {0.55}
    assert (blend["eval/a"], blend["search/evaluations"], blend["data_points"]) == (0.5, 3, 10 + 12)


def test_the_last_row_says_what_was_chosen_without_a_search_and_the_kl_that_nobody_measured() -> None:
    end = {"train/kl": 2.0, "search/evaluations": 0.0, "spent/policy/data_points": 77.0}
    history = [validated("policy", 0, a=0.2), validated("policy", 5, a=0.6), validated("policy", 9, a=0.4)]
    last = rows_of([*history, (end, 9)])[-1]
    assert (last["search/utility"], last["train/kl"], last["data_points"]) == (0.6, 2.0, 90)
    measured = rows_of([*history, trained("policy", 9, kl=1.5), (end | {"spent/policy/data_points": 97.0}, 9)])[-1]
    assert "train/kl" not in measured
    assert measured["data_points"] == 97
    only_experts = rows_of([validated("a", 0, a=0.2), (end, 1)])[-1]
    assert "search/utility" not in only_experts, "what experts are worth alone is not what they are worth together"


def session(steps: int) -> list[Log]:
    """Two learners in turns, then a search: what a run logs that nobody kills."""
    logged = [validated(name, 0, x=0.1, y=0.2) for name in ("p", "q")]
    for step in range(1, steps + 1):
        logged += [trained(name, step, reward=step / 10, kl=step / 100) for name in ("p", "q")]
        if step % 3 == 0:
            logged += [validated(name, step, x=step / 20, y=0.2) for name in ("p", "q")]
    for asked in (2, 4, 6):
        spends = {"spent/search/data_points": 8.0 * asked, "spent/search/tokens": 4.0, "spent/search/seconds": 0.1}
        logged.append(({"search/utility": asked / 10, "search/evaluations": asked} | spends, asked))
    return logged


@pytest.mark.parametrize("seed", range(20))
def test_a_killed_run_has_the_rows_of_one_that_was_left_alone(seed: int) -> None:
    """A session that goes on begins at any earlier point, or logs everything again; the record is the same."""
    rng, logged = random.Random(seed), session(9)
    expected, record = rows_of(logged), []
    done = 0
    while done < len(logged):
        begin = rng.choice([0, rng.randint(0, done)])
        done = rng.randint(max(begin, 1), len(logged))
        record += rows_of(logged[begin:done], MethodRows.after(record))
    assert record == expected
    for axis in AXES:
        assert all(before[axis] <= after[axis] for before, after in pairwise(record))


def test_a_ladder_repeats_its_lower_rungs_and_goes_on() -> None:
    made, logged = MethodRows(), session(9)
    rungs = [logged[:8], logged[:14], logged]
    record: list[dict[str, Any]] = []
    for rung in rungs:
        made.again()
        record += rows_of(rung, made)
    assert record == rows_of(logged)


def test_two_rows_of_one_step_are_not_a_repetition() -> None:
    made = MethodRows()
    twice = rows_of([({"train/a/loss": 0.0}, 1), ({"train/a/loss": 0.5}, 1)], made)
    assert [row["learner/a/train/loss"] for row in twice] == [0.0, 0.5]
    made.again()
    assert rows_of([({"train/a/loss": 0.0}, 1), ({"train/a/loss": 0.5}, 1), ({"train/a/loss": 0.7}, 1)], made)[0][
        "learner/a/train/loss"
    ] == 0.7  # fmt: skip
