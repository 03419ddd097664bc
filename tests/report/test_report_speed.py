"""A report of 129 runs is written while one waits: at most 15 s of one core, with progress."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from support.synthetic_runs import add_gold, write_run

from emorl_bench.cli.report import report

METHODS, SEEDS = 43, 3
SECONDS = 15.0


@pytest.mark.slow
def test_129_runs_take_at_most_15_seconds_of_one_core(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emorl_bench.progress.PLAIN_EVERY", 0.0)
    for i in range(METHODS):
        kind = "emorl" if i % 2 else "cory"
        names = {"task": "reflections", "model": "seq2seq", "method": f"method_{i:02}"}
        for seed in range(SEEDS):
            add_gold(write_run(tmp_path / f"runs/{i}", kind, seed, level=0.3 + 0.01 * i), 0.05, names=names)
    begun = time.process_time()
    path = report(tmp_path / "runs", tmp_path / "out")
    assert time.process_time() - begun <= SECONDS
    shown = capsys.readouterr().err
    assert "reading: 60/129 runs" in shown
    assert "writing: 5/10 parts" in shown
    assert len(list(path.parent.glob("*.svg"))) >= 4
