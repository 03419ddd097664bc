"""The GPU kit over several visits: what was measured at this commit on this card is not measured again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu.earlier import take_up
from benchmarks.gpu.goals import goals, reached
from benchmarks.gpu.kit import Kit, Number, Part, Settings

ABOUT = {
    "card": "a card",
    "versions": {"torch": "2"},
    "commit": "c" * 40,
    "uncommitted_changes": False,
    "python": "3",
    "started": "2026-01-01T10:00:00",
    "command": ["python", "-m", "benchmarks.gpu"],
    "machine": {"cores": 2},
}


@pytest.fixture(autouse=True)
def untidied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here holds memory, and a collection of garbage takes a second on a busy machine."""
    monkeypatch.setattr(Kit, "tidy", lambda self: None)


def visit(out: Path, *, again: bool = False, **about: object) -> Kit:
    made = Kit(Settings(1.0, out, out / "runs", torch.device("cpu"), True, again), ABOUT | about)
    take_up(made)
    return made


def one(key: str, calls: list[str], *, breaks: bool = False, cut: bool = False) -> Callable[[Kit], None]:
    """A part with one measurement ``key/whole``, and perhaps another that fails or does not fit."""

    def run(kit: Kit) -> None:
        if kit.wants("whole", f"{key}/whole"):
            with kit.attempt("whole", f"{key}/whole"):
                calls.append(key)
                kit.number(f"{key}/whole", Number(key, "whole", float(len(calls)), "s"))
        if cut:
            kit.affords("more", 1e6)
        with kit.attempt("more", f"{key}/more"):
            assert not breaks, "no kernel"

    return run


def parts(calls: list[str], **how: Any) -> list[Part]:
    return [
        Part("first", 1, 0, one("first", calls)),
        Part("second", 1, 0, one("second", calls, **how)),
        Part("study", 1, 0, one("study", calls), goes_on=True),
    ]


@pytest.mark.parametrize(("how", "state"), [({"breaks": True}, "with failures"), ({"cut": True}, "cut short")])
def test_a_visit_goes_on_where_the_last_one_stopped(how: dict[str, bool], state: str, tmp_path: Path) -> None:
    calls: list[str] = []
    visit(tmp_path).run(parts(calls, **how))
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert {name: part["state"] for name, part in found["parts"].items()} == {
        "first": "done",
        "second": state,
        "study": "done",
    }
    second = visit(tmp_path, started="2026-01-02T10:00:00", command=["later"])
    ran: list[str] = []
    second.run(
        [Part(p.name, 1, 0, lambda kit, p=p: (ran.append(p.name), p.run(kit))[0], p.goes_on) for p in parts(calls)]
    )  # type: ignore[misc]
    assert ran == ["second", "study"]  # a part that was cut short runs again, and a study has its own record
    assert calls == ["first", "second", "study"]  # but no measurement was made twice
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert [own["started"] for own in found["visits"]] == ["2026-01-01T10:00:00", "2026-01-02T10:00:00"]
    assert [own["command"] for own in found["visits"]] == [ABOUT["command"], ["later"]]
    assert all(own["commit"] == ABOUT["commit"] and own["machine"] for own in found["visits"])
    assert {number["visit"] for number in found["numbers"].values()} == {0}
    assert {name: part["state"] for name, part in found["parts"].items()}["second"] == "done"
    assert found["failures"] == []
    assert "2 visits" in (tmp_path / "gpu.md").read_text()


@pytest.mark.parametrize(
    "change",
    [{"commit": "d" * 40}, {"card": "another"}, {"uncommitted_changes": True}, {"again": True}],
    ids=lambda change: next(iter(change)),
)
def test_other_code_another_card_or_a_wish_begins_afresh_and_keeps_the_record(
    change: Mapping[str, Any], tmp_path: Path
) -> None:
    calls: list[str] = []
    visit(tmp_path).run(parts(calls))
    before = (tmp_path / "gpu.json").read_text()
    second = visit(tmp_path, **change)
    assert second.numbers == {}
    (kept,) = tmp_path.glob("gpu.*.*.json")
    assert kept.read_text() == before
    second.run(parts(calls))
    assert calls == ["first", "second", "study"] * 2
    assert len(json.loads((tmp_path / "gpu.json").read_text())["visits"]) == 1


def test_a_record_that_was_cut_by_a_full_disk_is_kept_and_measured_again(tmp_path: Path) -> None:
    (tmp_path / "gpu.json").write_text('{"format": 2, "numb')
    assert visit(tmp_path).numbers == {}
    assert len(list(tmp_path.glob("gpu.*.*.json"))) == 1


def number(ratio: float | None = None, **facts: float) -> dict[str, Any]:
    return {"ratio": ratio, "facts": facts}


def test_a_goal_has_the_verdict_of_the_worst_ratio() -> None:
    numbers = {
        "decoding/a/64_rows/blend_of_3": number(0.9, over_3x_rows=1.1),
        "decoding/b/64_rows/blend_of_3": number(0.9, over_3x_rows=1.3),
        "decoding/b/16_rows/blend_of_3": number(0.9, over_3x_rows=9.0),  # other rows: no part of the goal
        "decoding/a/256_rows/generate": number(3.5),
        "decoding/b/256_rows/generate": number(3.0),
        "training/grpo_step/trl": number(1.29),
        "memory/emorl_pair/peak": number(0.8),
        "memory/llama_1b/peak": number(1.0),
    }
    found = [(goal["worst"], goal["of"], goal["verdict"]) for goal in reached(numbers, quick=False)]
    assert found == [
        (1.3, "b", "not met"),
        (3.0, "b", "met"),
        (1.29, "grpo_step", "not met"),
        (None, "", "not measured"),
        (1.0, "llama_1b", "met"),
    ]


def test_every_goal_of_a_whole_run_is_one_of_a_micro_run_on_fewer_rows() -> None:
    whole, micro = goals(quick=False), goals(quick=True)
    assert [replace(goal, what="", keys="") for goal in whole] == [replace(goal, what="", keys="") for goal in micro]
    assert {goal.bound for goal in whole} == {1.2, 3.0, 1.3, 1.0}
