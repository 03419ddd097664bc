"""The study of survival: its comparison finds one bit, its deaths are where they are said to be, and its quick form."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from emorl_bench.core.atomic import write_json, write_text
from emorl_bench.core.errors import UserError
from emorl_bench.core.tensor_file import write_tensors
from studies.survival import __main__ as program
from studies.survival.compare import differences
from studies.survival.exempt import EXEMPT
from studies.survival.plan import trials
from studies.survival.tables import as_csv, as_markdown, counted
from studies.survival.writes import FULL, Death, Hook, kind_of, points, recorded

COST = {"train": {"prompts": 7, "flops": 0.1234567, "wall_seconds": 3.5, "device_seconds": 1.5, "peak_bytes": 9}}
SHARED = ["--methods", "weighted_ppo,emorl", "--seed", "3", "budget.prompts=100"]


# the comparison ---------------------------------------------------------------------------------------
@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A directory with a file of every kind that a run writes."""
    directory = tmp_path / "one"
    (directory / ".sweeps" / "today").mkdir(parents=True)
    (directory / ".sweeps" / "today" / "0.log").write_text("12:00 begins\n")
    (directory / ".lock").touch()
    write_json(directory / "cost.json", COST)
    write_json(directory / "status.json", {"state": "done", "pid": 1, "heartbeat": 5.0, "reward": 0.5, "share": 1.0})
    sessions = [{"started": "monday", "commit": "c0", "python": "abc"}]
    write_json(directory / "provenance.json", {"hash": "f0", "sessions": sessions})
    rows = [{"step": step, "train/reward": 0.25 * step, "learner/a/seconds": 1.0 * step} for step in range(3)]
    write_text(directory / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    write_text(directory / "config.yaml", "seed: 0\n")
    pq.write_table(pa.Table.from_pylist([{"score": 0.5}, {"score": 0.75}]), directory / "scores.parquet")
    tensors = {"policy/w": torch.arange(6.0), "best/w": torch.ones(2, 3)}
    progress = {"step": 4, "cost": COST, "trained": rows}
    write_tensors(directory / "state.safetensors", tensors, {"progress": json.dumps(progress), "sha256": "77"})
    write_tensors(directory / "adapter_model.safetensors", tensors, {"format": "pt"})
    return directory


def copied(run: Path) -> Path:
    other = run.with_name("other")
    shutil.rmtree(other, ignore_errors=True)
    shutil.copytree(run, other)
    return other


def replaced(path: Path, old: str, new: str) -> None:
    content = path.read_bytes()
    assert old.encode() in content
    path.write_bytes(content.replace(old.encode(), new.encode(), 1))


FLIPPED = [
    ("cost.json", b"1234567"),
    ("status.json", b"done"),
    ("provenance.json", b"abc"),
    ("metrics.jsonl", b"0.25"),
    ("config.yaml", b"seed"),
    ("scores.parquet", b"score"),
    ("state.safetensors", b"0.1234567"),
    ("state.safetensors", torch.tensor(3.0).numpy().tobytes()),
    ("adapter_model.safetensors", torch.tensor(5.0).numpy().tobytes()),
    ("adapter_model.safetensors", b"best/w"),
]


@pytest.mark.parametrize(("name", "near"), FLIPPED)
def test_one_bit_is_found_in_every_kind_of_file(run: Path, name: str, near: bytes) -> None:
    other = copied(run)
    assert differences(run, other) == []
    content = bytearray((other / name).read_bytes())
    content[content.index(near)] ^= 1
    (other / name).write_bytes(content)
    (line,) = differences(run, other)
    assert line.startswith(f"{name}: byte ")


def test_every_bit_of_a_table_and_of_tensors_counts(run: Path) -> None:
    for name in ("scores.parquet", "adapter_model.safetensors"):
        whole = (run / name).read_bytes()
        for at in range(0, len(whole), 37):
            other = copied(run)
            (other / name).write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
            if name.endswith("parquet") or at >= 8 + int.from_bytes(whole[:8], "little"):
                assert differences(run, other), (name, at)


@pytest.mark.parametrize("name", ["metrics.jsonl", "scores.parquet", "state.safetensors"])
def test_files_that_are_missing_torn_or_left_over_are_found(run: Path, name: str) -> None:
    other = copied(run)
    (other / name).write_bytes((other / name).read_bytes()[:-3])
    assert len(differences(run, other)) == 1
    (other / name).rename(other / f".{name}.12.0123abcd.tmp")
    assert differences(run, other) == [f"{name}: missing", f".{name}.12.0123abcd.tmp: not in the reference"]


def test_rows_in_another_order_twice_or_missing_are_found(run: Path) -> None:
    rows = (run / "metrics.jsonl").read_text().splitlines()
    for wrong in ([rows[1], rows[0], rows[2]], [*rows, rows[2]], rows[:2]):
        other = copied(run)
        (other / "metrics.jsonl").write_text("".join(f"{row}\n" for row in wrong))
        assert len(differences(run, other)) == 1


def test_clocks_and_processes_may_differ_but_a_missing_clock_is_found(run: Path) -> None:
    other = copied(run)
    for name, old, new in [
        ("cost.json", '"wall_seconds": 3.5', '"wall_seconds": 99.0'),
        ("cost.json", '"peak_bytes": 9', '"peak_bytes": 8'),
        ("status.json", '"pid": 1', '"pid": 2'),
        ("status.json", '"reward": 0.5,', ""),
        ("provenance.json", "monday", "friday"),
        ("metrics.jsonl", '"learner/a/seconds": 1.0', '"learner/a/seconds": 7.0'),
        (".sweeps/today/0.log", "12:00", "13:00"),
    ]:
        replaced(other / name, old, new)
    told: dict[str, Any] = json.loads((other / "provenance.json").read_text())
    write_json(other / "provenance.json", told | {"sessions": [{"started": "x", "commit": "old"}, *told["sessions"]]})
    assert differences(run, other) == []
    replaced(other / "cost.json", '"wall_seconds": 99.0,', "")
    assert len(differences(run, other)) == 1
    assert all(one.reason for one in EXEMPT)


# deaths -----------------------------------------------------------------------------------------------
def written(root: Path) -> None:
    """Two writes by rename and two at the end of a file."""
    for text in ("a" * 40, "b" * 60):
        write_text(root / "status.json", text)
        with (root / "metrics.jsonl").open("a") as file:
            file.write(text[:10] + "\n")


def session(root: Path, death: Death | None, record: Path | None = None) -> int:
    pid = os.fork()
    if pid == 0:
        file = None if record is None else os.open(record, os.O_WRONLY | os.O_CREAT)
        hook = Hook(os.path.join(os.path.realpath(root), ""), file, death)
        hook.install()
        code = 0
        try:
            written(root)
            hook.end()
        except OSError as error:
            code = error.errno or 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


def test_writes_are_found_by_recording(root: Path, tmp_path: Path) -> None:
    assert session(root, None, tmp_path / "record") == 0
    assert recorded(tmp_path / "record") == {"status.json": [40, 60], "metrics.jsonl +": [11, 11]}
    assert points("status.json", [40, 60]) == ["before", "inside", "written", "after"]
    assert points("metrics.jsonl +", [11]) == ["before", "inside", "after"]
    assert points(".lock", [0, 0]) == ["before"]
    assert kind_of("0123456789abcdef.json") == "*.json"


@pytest.mark.parametrize(
    ("kind", "point", "status", "left", "appended"),
    [
        ("status.json", "before", 40, None, 11),
        ("status.json", "inside", 40, 30, 11),
        ("status.json", "written", 40, 60, 11),
        ("status.json", "after", 60, None, 11),
        ("metrics.jsonl +", "before", 60, None, 11),
        ("metrics.jsonl +", "inside", 60, None, 16),
        ("metrics.jsonl +", "after", 60, None, 22),
    ],
)
def test_a_death_leaves_what_it_says(
    root: Path, kind: str, point: str, status: int, left: int | None, appended: int
) -> None:
    assert session(root, Death(kind, 1, point)) == -signal.SIGKILL
    assert (root / "status.json").stat().st_size == status
    assert [path.stat().st_size for path in root.glob(".status.json.*.tmp")] == ([] if left is None else [left])
    assert (root / "metrics.jsonl").stat().st_size == appended


def test_a_full_disk_is_an_error_in_the_middle_of_a_write(root: Path) -> None:
    assert session(root, Death("status.json", 1, FULL, 60)) > 0
    assert (root / "status.json").stat().st_size == 40
    assert session(root, Death("metrics.jsonl +", 3, FULL, 11)) == 0  # there is no such write


# the program ------------------------------------------------------------------------------------------
def plan(tmp_path: Path, *arguments: str) -> Any:
    return program.parsed(["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out"), *arguments])


def test_the_long_form_has_so_many_kills_and_every_point_of_every_write(tmp_path: Path) -> None:
    told = plan(tmp_path)
    assert len(told.methods) >= 8
    writes = {method: {"status.json": [40, 60], "metrics.jsonl +": [11], ".lock": [0]} for method in told.methods}
    writes["emorl"]["search.jsonl +"] = [7, 7]
    every = trials(told, writes)
    assert sum(trial.kills for trial in every if trial.kind in ("single kill", "repeated kills")) >= 100
    assert len({trial.name for trial in every}) == len(every)
    torn = [trial.how for trial in every if trial.kind == "torn writes"]
    assert sorted(torn) == sorted(set(torn))
    assert len(torn) == 4 + 3 + 1 + 3
    assert {trial.method for trial in every if trial.how.startswith("search")} == {"emorl"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--methods", "grop"], "--methods grop: there is no such method"),
        (["--kinds", "flood"], "--kinds flood: give some of single kill"),
        (["--jobs", "0"], "--jobs 0"),
    ],
)
def test_a_wrong_command_is_named(tmp_path: Path, arguments: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        plan(tmp_path, *arguments)


def test_the_tables_count_what_was_lost_and_what_differs() -> None:
    common = {"kind": "torn writes", "how": "a: before", "kills": 1, "sessions": 2, "seconds": 3.0, "death": {}}
    rows = [
        common | {"method": "m", "number": 0, "lost": [], "different": []},
        common | {"method": "m", "number": 1, "lost": ["exit status 1"], "different": []},
        common | {"method": "n", "number": 2, "lost": [], "different": ["cost.json: missing"]},
    ]
    assert counted(rows) == {"trials": 3, "kills": 3, "continued": 1, "lost": 1, "different": 1}
    text = as_markdown(rows, ["budget=smoke"])
    assert "3 kills in 3 trials: 1 lost, 1 different" in text
    assert "| torn writes | m | 2 | 2 | 1 | 1 | 0 |" in text
    assert "cost.json: missing" in text
    assert len(as_csv(rows).splitlines()) == 4


def test_the_quick_form_loses_nothing_and_changes_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Kills, torn writes and a second terminal, in two methods; one of them has experts trained together."""
    kinds = "single kill,torn writes,two terminals"
    arguments = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out"), *SHARED]
    code = program.main([*arguments, "--kills", "5", "--most", "2", "--kinds", kinds])
    text = (tmp_path / "out" / "survival.md").read_text()
    assert code == 0, text
    assert "6 trials: 0 lost, 0 different" in text
    said = capfd.readouterr().err
    assert "6 of 6 trials" in said
    assert "trials a minute" in said
    assert program.main([*arguments, "--kills", "5", "--most", "2", "--kinds", kinds]) == 0  # nothing is run again
    assert "reference" not in capfd.readouterr().err
