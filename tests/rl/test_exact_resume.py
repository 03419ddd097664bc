"""A training that is killed again and again ends with the bytes, the rows and the cost of one that is not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_bench
from safetensors import safe_open

from emorl_bench.core.protocols import Bench
from emorl_bench.core.tensor_file import write_tensors
from emorl_bench.rl.checkpoint import END
from emorl_bench.rl.loop import single_policy_run, train, train_runs
from emorl_bench.rl.weighting import one_hot

CLOCKS = ("wall_seconds", "device_seconds", "peak_bytes")
WRITE = """
import sys, torch
from pathlib import Path
from emorl_bench.core.tensor_file import write_tensors
tensors = {name: torch.arange(6.0).reshape(2, 3) for name in ("b", "a", "c")}
write_tensors(Path(sys.argv[1]), tensors, {str(i): "told" for i in range(9)})
"""


class Killed(BaseException):
    """Stands for kill -9: nothing gets to clean up after it."""


def made(place: Path, name: str) -> Bench:
    bench = make_bench(place, "gpt2", steps=10, dir=place / name)
    bench.ledger.flops_every = 3
    return bench


def trained(bench: Bench) -> dict[str, Any]:
    train(bench, bench.new_policy("p"), one_hot(0, 2, "linear"), name="p", budget=bench.budget)
    phases = {name: {k: v for k, v in asdict(cost).items() if k not in CLOCKS} for name, cost in phases_of(bench)}
    rows = [{k: v for k, v in row.items() if not k.endswith("seconds")} for row in bench.tracker.rows]
    exported = {p.name: p.read_bytes() for p in (bench.dir / "checkpoints" / "p" / "p").iterdir()}
    with safe_open(bench.dir / "checkpoints" / "p" / END, "pt") as file:
        last = {key: file.get_tensor(key) for key in sorted(file.keys())}
    return {"phases": phases, "rows": rows, "exported": exported, "last": last}


def phases_of(bench: Bench) -> list[tuple[str, Any]]:
    return [(name, cost) for name, cost in bench.ledger.phases.items() if name != "setup"]


def dying(bench: Bench, after: int) -> Callable[..., torch.Tensor]:
    calls = iter(range(after))

    def score(rollout: Any) -> torch.Tensor:
        if next(calls, None) is None:
            raise Killed
        return bench.score(rollout)

    return score


@pytest.mark.parametrize("after", [4, 7])
def test_a_training_killed_again_and_again_ends_with_the_same_bytes_rows_and_cost(tmp_path: Path, after: int) -> None:
    expected, deaths = trained(made(tmp_path, "whole")), 0
    assert expected["phases"]["train/p"]["flops"] > 0
    while True:
        bench = made(tmp_path, "killed")
        try:
            found = trained(replace(bench, score=dying(bench, after)))
            break
        except Killed:
            deaths += 1
            assert deaths < 20
    assert deaths > 1
    assert found["phases"] == expected["phases"]
    assert found["rows"] == expected["rows"]
    assert [list(row) for row in found["rows"]] == [list(row) for row in expected["rows"]]  # keys in their order
    assert found["exported"] == expected["exported"]
    assert found["last"].keys() == expected["last"].keys()
    assert all(torch.equal(tensor, expected["last"][key]) for key, tensor in found["last"].items())


def test_a_training_that_died_while_it_exported_is_exported_when_it_is_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = trained(made(tmp_path, "whole"))["exported"]
    bench = made(tmp_path, "killed")
    run = single_policy_run(bench, bench.new_policy("p"), one_hot(0, 2, "linear"), name="p", budget=bench.budget)
    monkeypatch.setattr(type(run.policies["p"]), "save", lambda *_: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        train_runs(bench, [run])
    monkeypatch.undo()
    assert not (bench.dir / "checkpoints" / "p" / END).exists()  # what has ended is exported
    assert trained(made(tmp_path, "killed"))["exported"] == expected


def test_bytes_of_a_tensor_file_are_equal_between_processes_and_anybody_reads_it(tmp_path: Path) -> None:
    written = []
    for seed in ("1", "2", "3"):
        path = tmp_path / seed
        subprocess.run([sys.executable, "-c", WRITE, str(path)], check=True, env={**os.environ, "PYTHONHASHSEED": seed})
        written.append(path.read_bytes())
    assert len(set(written)) == 1
    with safe_open(tmp_path / "1", "pt") as file:
        assert file.metadata() == {str(i): "told" for i in range(9)}
        assert sorted(file.keys()) == ["a", "b", "c"]
        assert file.get_tensor("b").tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    half = {"x": torch.ones(3, dtype=torch.float16), "y": torch.zeros(0)}
    write_tensors(tmp_path / "half", half, {})
    with safe_open(tmp_path / "half", "pt") as file:
        assert {key: file.get_tensor(key).shape[0] for key in file.keys()} == {"x": 3, "y": 0}  # noqa: SIM118
