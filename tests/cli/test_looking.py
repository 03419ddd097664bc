"""``emorl-bench status`` and ``emorl-bench list``: quick looks that load no model."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from emorl_bench.cli import bench
from emorl_bench.cli.looking import GROUPS, first_sentence, option_lines
from emorl_bench.config.compose import conf_dir


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["emorl-bench", *arguments])
    bench.main()


def leave(root: Path, name: str, **status: Any) -> Path:
    place = root / "sums" / "tiny_t5" / "emorl" / name
    place.mkdir(parents=True)
    (place / "status.json").write_text(json.dumps({"heartbeat": time.time(), "phase": "fit"} | status))
    return place


def test_status_tells_running_from_ended_and_shows_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = leave(tmp_path, "s0-00000000", state="done")
    point = {"mean_reward": 0.625}
    names = {"task": "sums", "model": "tiny_t5", "method": "emorl"}
    summary = {"names": names, "decoding": {"greedy": {"uniform": point}}}
    (done / "summary.json").write_text(json.dumps(summary))
    alive = {"pid": os.getpid(), "host": socket.gethostname(), "state": "running", "doing": "train right, brief"}
    leave(tmp_path, "s1-00000000", **alive, share=0.42, reward=0.5, tokens_per_second=1234.0)
    leave(tmp_path, "s2-00000000", state="failed", error="RuntimeError: out of memory")
    leave(tmp_path, "s3-00000000", state="running", heartbeat=time.time() - 3600)
    (leave(tmp_path, "s4-00000000") / "status.json").write_text('{"state": "do')
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    leave(tmp_path, "s5-00000000", **alive | {"pid": killed.pid})
    run(monkeypatch, "status", str(tmp_path))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{tmp_path}: 6 runs: 1 done, 1 running, 4 unfinished"
    assert lines[1].startswith("running    sums/tiny_t5/emorl/s1-00000000: train right, brief, 42% of the budget, ")
    assert "reward 0.500, 1,234 tokens/s, last heard of" in lines[1]
    assert lines[2].startswith("unfinished sums/tiny_t5/emorl/s2-00000000: RuntimeError: out of memory in phase 'fit'")
    assert "stopped" in lines[3]  # killed an hour ago, before it could say so
    assert lines[5].startswith("unfinished sums/tiny_t5/emorl/s5-00000000: stopped in phase 'fit'")  # a moment ago
    assert lines[-1].split() == ["sums", "tiny_t5", "greedy", "emorl", "1", "0.625"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["status", "nowhere"], "emorl-bench: RUNS='nowhere': no run there"),
        (["list", "methodes"], "emorl-bench: list methodes: there is no such group; did you mean 'methods'?"),
    ],
)
def test_what_is_not_there_is_one_line(
    arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit:
        run(monkeypatch, *arguments)
    error = capsys.readouterr().err
    assert (exit.value.code, error.count("\n")) == (2, 1)
    assert error.startswith(says)


@pytest.mark.parametrize("group", GROUPS)
def test_every_option_has_a_sentence(group: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    files = sorted((conf_dir() / group).glob("*.yaml"))
    assert files
    for file in files:
        assert len(first_sentence(file).split()) >= 3, file
    lines = list(option_lines(conf_dir() / group))
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == [file.stem for file in files]
    assert max(map(len, lines)) <= 100


def test_a_sentence_may_take_several_lines(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("# It begins here and\n# ends here.\n# This is another.\nkey: 1\n")
    assert first_sentence(tmp_path / "x.yaml") == "It begins here and ends here."


def test_neither_loads_torch(tmp_path: Path) -> None:
    leave(tmp_path, "s0-00000000", state="running")
    code = (
        "import sys; from emorl_bench.cli import bench\n"
        "for arguments in (['list', 'methods'], ['status', sys.argv[1]]):\n"
        "    sys.argv[1:] = arguments; bench.main(); sys.argv[1:] = [arguments[-1]]\n"
        "print([m for m in ('torch', 'transformers', 'wandb', 'pyarrow', 'scipy', 'rich') if m in sys.modules])"
    ).replace("sys.argv[1]]", f"{str(tmp_path)!r}]")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
