"""The GPU kit without a GPU: every part leaves its numbers, and time and failures are accounted for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.gpu import __main__ as program
from benchmarks.gpu import checks, launches, study
from benchmarks.gpu.kit import Kit, Number, Part, Settings
from benchmarks.gpu.table import table
from emorl_bench.core.errors import UserError

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
ABOUT = {
    "card": "no GPU",
    "versions": {"torch": "2"},
    "commit": None,
    "uncommitted_changes": False,
    "python": "3",
    "started": "now",
}
LEAVES = {  # what each part leaves at least, by the beginning of its keys
    "tests": {"tests/passed", "tests/sampler_trainer_mismatch_nats_a_token/bfloat16", "tests/gradient_relative_error"},
    "decoding": {
        "decoding/peaks/bandwidth",
        *(
            f"decoding/{shape}/4_rows/{side}"
            for shape in ("smollm2_135m", "t5_base")
            for side in ("one_policy", "one_policy_3x_rows", "blend_of_3", "3_blends", "generate")
        ),
    },
    "training": {
        "training/three_experts/8_rows/rollout",
        "training/three_experts/8_rows/update",
        "training/profile/decode_step",
        "training/profile/update",
    },
    "memory": {f"memory/{preset}/peak" for preset in ("cory_gsm8k", "emorl_pair", "gpt2")},
    "choices": set(),
    "attention": {"attention/float32/sdpa", "attention/bfloat16/sdpa"},
    "quantised": set(),
    "vllm": set(),
    "several": set(),
    "study": {"study/runs", "study/bfloat16_less_float32/weighted_scst"},
}


def kit(directory: Path, *, minutes: float = 1.0) -> Kit:
    return Kit(Settings(minutes, directory, directory / "runs", CPU, True), ABOUT)


def rehearsed(out: Path, parts: Sequence[str], minutes: float = 40) -> dict[str, Any]:
    """The command in a micro size, in a process of its own, as a person would start it."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--quick", "--parts", ",".join(parts)]
    command += ["--minutes", str(minutes), "--out", str(out)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=2500, check=False)
    found: dict[str, Any] = json.loads((out / "gpu.json").read_text())
    assert done.returncode == 0, found["failures"]
    assert found["failures"] == []
    assert {name: part["state"] for name, part in found["parts"].items()} == dict.fromkeys(parts, "done")
    for key in (key for part in parts for key in LEAVES[part]):
        assert any(known.startswith(key) for known in found["numbers"]), key
    assert all(np.isfinite(number["value"]) for number in found["numbers"].values())
    shown = (out / "gpu.md").read_text()
    assert done.stdout.strip() == shown.strip()  # the table is printed last, and is all that is printed
    assert "its numbers mean nothing" in shown
    return found


def test_the_tests_and_the_study_run_and_leave_their_numbers(tmp_path: Path) -> None:
    numbers = rehearsed(tmp_path, ("tests", "study"))["numbers"]
    assert numbers["tests/failed"]["value"] == 0
    assert numbers["tests/passed"]["value"] >= 8
    assert numbers["study/runs"]["value"] == 2


def test_every_part_that_measures_runs_and_leaves_its_numbers(tmp_path: Path) -> None:
    """What has no package or no card here is left out for a reason, and goals say what they found."""
    found = rehearsed(tmp_path, [part for part in LEAVES if part not in ("tests", "study")])
    assert "=== decoding" in (tmp_path / "log.txt").read_text()
    absent = {entry["part"] for entry in found["skipped"]}
    for part in ("vllm", "several", "quantised"):
        assert part in absent or any(key.startswith(f"{part}/") for key in found["numbers"]), part
    assert all(entry["why"] for entry in found["skipped"])
    goals = {goal["what"]: goal for goal in found["goals"]}
    assert len(goals) == 5
    assert all(goal["verdict"] in ("met", "not met") for what, goal in goals.items() if "TRL" not in what)
    memory = goals["measured peak of memory over the planned one"]
    assert memory["verdict"] == "met"
    assert set(memory["found"]) == {"cory_gsm8k", "emorl_pair", "gpt2"}
    assert all(ratio > 0.3 for ratio in memory["found"].values())
    facts = found["numbers"]["memory/gpt2/peak"]["facts"]
    assert max(facts["rollout_GB"], facts["update_GB"]) == found["numbers"]["memory/gpt2/peak"]["value"]
    assert 0.3 < facts["update_over_planned"] <= 1
    assert 0.3 < facts["rollout_over_planned"] <= 1
    assert "| goal | wanted | worst | of | |" in (tmp_path / "gpu.md").read_text()


def test_a_failure_is_recorded_and_the_next_part_runs(tmp_path: Path) -> None:
    made = kit(tmp_path)

    def breaks(_: Kit) -> None:
        made.number("one/first", Number("one", "before it broke", 1.0, "s"))
        raise RuntimeError("no such\nkernel")

    made.run([Part("one", 1, 0, breaks), Part("two", 1, 0, lambda k: k.number("two/x", Number("two", "x", 2.0, "s")))])
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert {name: part["state"] for name, part in found["parts"].items()} == {"one": "with failures", "two": "done"}
    assert set(found["numbers"]) == {"one/first", "two/x"}
    assert found["failures"] == [{"part": "one", "what": "the part", "error": "RuntimeError: no such kernel"}]
    assert "Traceback" in (tmp_path / "log.txt").read_text()
    assert "Failed: one, the part: RuntimeError: no such kernel" in (tmp_path / "gpu.md").read_text()


def test_time_that_a_part_leaves_over_goes_to_the_next_and_too_little_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    made, shares = replace(kit(tmp_path, minutes=1.0), started=0.0), []

    def spend(seconds: float) -> Any:
        def run(k: Kit) -> None:
            shares.append(k.left)
            assert not k.affords("something long", 1e6)
            now[0] += seconds

        return run

    made.run(
        [Part("a", 2, 0, spend(10)), Part("b", 1, 0, spend(40)), Part("c", 1, 11, spend(0)), Part("d", 1, 0, print)]
    )
    assert shares == [pytest.approx(60 * 2 / 5), pytest.approx(50 / 3)]
    assert made.parts["c"]["state"] == "skipped"  # 10 s are left for c and d
    assert {"part": "c", "what": "all of it", "why": "5 s are left for it, and it needs 11"} in made.skipped
    assert [entry["what"] for entry in made.skipped] == ["something long", "something long", "all of it"]


def test_the_table_is_made_of_the_numbers_alone(tmp_path: Path) -> None:
    made = kit(tmp_path)
    made.number("p/x", Number("p", "a | b", 12345.6, "tokens/s", 2.5, "one over two, time", {"share_of_bound": 0.4}))
    made.tables["A profile"] = [{"kernel": "gemm", "ms": 1.25}]
    again = table(json.loads(json.dumps(made.contents())))
    assert "| p | a / b | 12,346 | tokens/s | 2.5 | one over two, time | share of bound 0.4 |" in again
    assert "| kernel | ms |\n|---|---|\n| gemm | 1.25 |" in again


def test_tests_that_take_too_long_are_stopped_and_what_they_said_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"test": "t.py::a[float32-t5]", "outcome": "passed", "measured": {"gap": 0.25}, "why": ""}
    sleeps = f"import time; open({str(tmp_path / 'tests.jsonl')!r}, 'w').write({json.dumps(said)!r}); time.sleep(60)"
    monkeypatch.setattr(checks, "command", lambda _: [sys.executable, "-c", sleeps])
    made = kit(tmp_path)
    made._until = time.monotonic() + checks.PATIENCE + 5
    started = time.monotonic()
    checks.run_tests(made)
    assert time.monotonic() - started < 30
    assert [entry["what"] for entry in made.failures] == ["the tests that had not ended"]
    assert made.numbers["tests/passed"].value == 1
    assert made.numbers["tests/gap/float32"].value == 0.25


def test_bfloat16_and_float32_are_compared_seed_by_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rewards = {("bfloat16", 0): 0.5, ("float32", 0): 0.4, ("bfloat16", 1): 0.7, ("float32", 1): 0.4, ("float32", 2): 9}
    monkeypatch.setattr(study, "type_of", lambda path: path.name)
    runs: list[Any] = [
        SimpleNamespace(
            method="m", seed=seed, dir=Path(dtype), decoding={"greedy": {"uniform": {"mean_reward": reward}}}
        )
        for (dtype, seed), reward in rewards.items()
    ]
    made = kit(tmp_path)
    study.compare_types(made, runs)
    (number,) = made.numbers.values()
    assert number.value == pytest.approx(0.2)
    assert number.facts["pairs"] == 2
    half = 12.706 * 0.1  # Student's t with one degree of freedom times the standard error, (0.3 - 0.1) / 2
    assert number.facts["low_95"] == pytest.approx(0.2 - half, abs=1e-3)
    assert number.facts["high_95"] == pytest.approx(0.2 + half, abs=1e-3)


def test_a_profile_counts_what_is_called() -> None:
    a = torch.randn(64, 64)
    found = launches.profiled(lambda: (a @ a).relu(), CPU)
    assert found.operators == 2
    assert found.kernels == 0
    assert {"aten::mm", "aten::relu"} & {row["operator"] for row in found.top}
    assert sum(row["share"] for row in found.top) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["--minutes", "0"], "--minutes=0"),
        (["--minutes", "nan"], "--minutes=nan"),
        (["--parts", "memory,mind"], "--parts=memory,mind: no part 'mind'; parts are tests, decoding"),
    ],
)
def test_bad_input_is_named(line: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        program.options(line)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_gpu_that_is_not_there_is_an_error() -> None:
    with pytest.raises(UserError, match="--device=cuda: no GPU"):
        program.options([])


def test_the_script_is_short_enough_to_be_passed_on_a_command_line() -> None:
    assert len((ROOT / "benchmarks/gpu.sh").read_text()) < 2000
