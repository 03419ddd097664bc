"""A damaged run is one line among the unfinished ones; the report of all other runs is written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.synthetic_runs import write_run

from emorl_bench.cli.report import report
from emorl_bench.report.read import Unfinished, read_runs


def replaced(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda run: void((run / name).write_bytes(content))


def void(_: object) -> None:
    return None


def changed(**changes: Any) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        summary = json.loads((run / "summary.json").read_text())
        summary |= changes
        (run / "summary.json").write_text(json.dumps({k: v for k, v in summary.items() if v != "gone"}))

    return change


def instead(name: str, make: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        (run / name).unlink()
        make(run / name)

    return change


DAMAGE = {
    "status: not utf-8": replaced("status.json", b"\xff\xfe\xfd"),
    "status: deep": replaced("status.json", b"[" * 100_000),
    "status: a directory": instead("status.json", Path.mkdir),
    "status: a pipe": instead("status.json", os.mkfifo),
    "summary: not utf-8": replaced("summary.json", b"\xff" * 99),
    "summary: deep": replaced("summary.json", b'{"a":' * 100_000),
    "summary: a directory": instead("summary.json", Path.mkdir),
    "summary: a list": replaced("summary.json", b"[1]"),
    "no names": changed(names="gone"),
    "names of another type": changed(names=[1]),
    "a method that is a number": changed(names={"task": "reflections", "model": "seq2seq", "method": 3}),
    "seed": changed(seed="x"),
    "preferences": changed(preferences="abc"),
    "objectives": changed(objectives=["a"]),
    "objectives that are numbers": changed(objectives=[1, 2, 3]),
    "decoding": changed(decoding={}),
    "points": changed(decoding={"greedy": {"points": [], "uniform": {"objectives": {}}}}),
    "cost": changed(cost=5),
    "members": changed(members=[1]),
    "config": replaced("config.yaml", b"a: [1\nb: }"),
    "config: binary": replaced("config.yaml", b"\xff\xfe\0\0"),
    "scores": replaced("scores.parquet", b"garbage" * 20),
    "scores: empty": replaced("scores.parquet", b""),
}
HARMLESS = {
    "metrics": replaced("metrics.jsonl", b'garbage\n\xff\xfe\n[1]\n{"step": 3, "eval/policy/mean_reward": "x"}\n'),
    "search": replaced("search.jsonl", b'{"weights": "x"}\n{}\n{"weights": [1], "preference": [], "utility": null}\n'),
    "provenance": replaced("provenance.json", b'{"sessions": 5}'),
    "provenance: binary": replaced("provenance.json", b"\xff\xfe"),
}


def test_every_damage_is_one_line_and_the_report_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "runs"
    for method in ("emorl", "base"):
        for seed in (0, 1):
            write_run(runs, method, seed)
    for seed, damage in enumerate(DAMAGE.values(), 10):
        damage(write_run(runs, "param_merge", seed))
    for seed, damage in enumerate(HARMLESS.values(), 50):
        damage(write_run(runs, "cory", seed))
    sound, unfinished = read_runs(runs)
    assert len(unfinished) == len(DAMAGE)
    assert len(sound) == 4 + len(HARMLESS)
    text = report(runs, tmp_path / "report").read_text()
    for run in unfinished:
        assert "\n" not in run.reason
        (line,) = [line for line in text.splitlines() if f"`{run.name}`" in line]
        assert line.startswith("- ")
    assert f"{len(DAMAGE)} failed or unfinished runs" in capsys.readouterr().out


def test_a_damaged_run_names_the_file_and_the_remedy(tmp_path: Path) -> None:
    write_run(tmp_path, "emorl", 0)
    changed(seed="x")(write_run(tmp_path, "emorl", 1))
    _, (found,) = read_runs(tmp_path)
    assert isinstance(found, Unfinished)
    assert found.state == "damaged"
    assert found.reason.startswith("summary.json is damaged (")
    assert found.reason.endswith("repeat its command with force=true")


def test_a_method_that_never_improved_says_so(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    write_run(runs, "emorl", 0, best_step={"reflection": 0, "empathy": 8, "fluency": 4})
    write_run(runs, "cory", 0, best_step={"pioneer": 0, "observer": 0})
    write_run(runs, "base", 0, best_step={})
    text = report(runs, tmp_path / "report").read_text()
    assert "so its row is that of the untrained model: cory (seed 0)." in text
    assert "so this learner is untrained: emorl (reflection)." in text
    write_run(tmp_path / "others", "emorl", 0, best_step={"reflection": 4})
    assert "step 0" not in report(tmp_path / "others", tmp_path / "second").read_text()
