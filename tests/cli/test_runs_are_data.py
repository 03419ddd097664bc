"""A run directory that is read back is data: nothing in it is called, imported or looked up, unless it is trusted."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.composing import composed

from emorl_bench.cli import bench, generate
from emorl_bench.cli.generate import read_config
from emorl_bench.config.compose import plain
from emorl_bench.config.targets import build
from emorl_bench.core.errors import UserError
from emorl_bench.report.read import read_runs
from emorl_bench.runner.dry_run import _same
from emorl_bench.runner.status import status_lines

SPAWN = {"_target_": "setuptools._distutils.spawn.spawn"}


def leave(place: Path, config: dict[str, Any]) -> Path:
    """A finished run with this configuration."""
    run = place / "runs" / "t" / "m" / "x" / "s0-1"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    (run / "summary.json").write_text(json.dumps({"objectives": ["even", "odd"]}))
    (run / "status.json").write_text(json.dumps({"state": "done", "heartbeat": 1.0}))
    return run


def whole(*overrides: str) -> dict[str, Any]:
    return plain(composed("tracker=local", *overrides))


def refused(run: Path, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit, match="2"):
        generate.main([str(run), "--text", "hello"])
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    return said.err


def test_a_program_named_in_a_run_is_not_started(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    owned = tmp_path / "owned"
    run = leave(tmp_path, {**whole(), "task": {**SPAWN, "cmd": ["touch", str(owned)]}})
    assert "task._target_=setuptools._distutils.spawn.spawn" in refused(run, capsys)
    assert not owned.exists()


@pytest.mark.parametrize(
    ("key", "node"),
    [
        ("method", {"_target_": "torch.hub.load"}),
        ("update", {"_target_": "numpy.load", "file": "x", "allow_pickle": True}),
        ("tracker", {"_target_": "logging.FileHandler", "filename": "x"}),
        ("method", {"_target_": "emorl_bench.offline.fetching.subprocess.run"}),
        ("method", {"_target_": "emorl_bench.building.build.ship"}),
        ("method", {"search": [{"deep": {"_target_": "shutil.rmtree", "path": "x"}}]}),
        ("task", {"scorers": {"mine": {"_target_": "emorl_bench.scorers.python.Python", "function": "os.system"}}}),
        ("model", {"trust_remote_code": True}),
        ("task", {"scorers": {"judge": {"trust_remote_code": True}}}),
    ],
)
def test_code_that_this_project_does_not_bring_needs_trust(
    tmp_path: Path, key: str, node: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run = leave(tmp_path, {**whole(), key: node})
    assert "say --trust" in refused(run, capsys)
    assert read_config(run, trusted=True)[key] == node


def test_what_conf_names_needs_no_trust(tmp_path: Path) -> None:
    config = whole("method=aim", "task=sums")
    assert read_config(leave(tmp_path, config)) == {**config, "runs_dir": str(tmp_path.resolve() / "runs")}


def test_the_environment_is_not_read_for_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "told")
    text = "${oc.env:SECRET} ${seed} ${"
    run = leave(tmp_path, {**whole(), "task": {"_target_": "builtins.dict", "text": text, "list": [text]}})
    config = read_config(run, trusted=True)
    assert config["task"]["text"] == text
    assert build(config["task"]) == {"text": text, "list": [text]}, "nor when its parts are built"


LAUGHS = "\n".join(f"k{i}: &k{i} [{', '.join([f'*k{i - 1}' if i else 'ha'] * 9)}]" for i in range(12))


@pytest.mark.parametrize(
    "text", ["", "- a\n", "a: [", "\x00", "!!python/object/apply:os.system [true]", "a: &a [*a]", LAUGHS]
)
def test_a_damaged_configuration_is_one_line(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = leave(tmp_path, {})
    (run / "config.yaml").write_text(text)
    assert "force=true" in refused(run, capsys)


@pytest.mark.parametrize("name", ["status.json", "search.jsonl", "state.safetensors", "deep/state.json"])
@pytest.mark.parametrize("kind", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_refused_at_once_by_every_reader(
    tmp_path: Path, name: str, kind: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run = leave(tmp_path, whole())
    odd = run / name
    odd.parent.mkdir(exist_ok=True)
    odd.unlink(missing_ok=True)
    kind(odd)
    with pytest.raises(UserError, match="is no regular file"):
        read_config(run)
    found, unfinished = read_runs(tmp_path)
    assert found == []
    assert [one.reason for one in unfinished] == [f"{name} is no regular file; delete it"]
    assert any("is no regular file" in line for line in status_lines(tmp_path / "runs"))
    assert not _same(run, {"hardware": {}})


def test_a_pickle_of_a_job_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["emorl-bench", "--experimental-rerun", str(tmp_path / "config.pickle")])
    with pytest.raises(SystemExit, match="2"):
        bench.main()
    assert "reads a pickle" in capsys.readouterr().err
