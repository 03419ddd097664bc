"""SIGTERM and SIGHUP interrupt a run, whose record says so; a signal that is ignored stays ignored."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from emorl_bench.core.signals import Terminated, signals_interrupt

PROGRAM = """
import sys, time
from emorl_bench.core.signals import signals_interrupt
from emorl_bench.runner.directory import RunDirectory
config = {"runs_dir": sys.argv[1], "force": False, "seed": 0, "hardware": {"threads": 1, "device": "cpu"},
          "names": {"task": "t", "model": "m", "method": "e"}}
with signals_interrupt(), RunDirectory(config, "f") as directory:
    print(directory.path, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def listening() -> Iterator[None]:
    """Tests that are run by ``nohup`` ignore SIGHUP, and so would their processes."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_interrupts_inside_the_block_and_nowhere_else(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt) as raised, signals_interrupt():
        signal.raise_signal(number)
    assert raised.type is Terminated
    assert str(raised.value) == number.name
    assert signal.getsignal(number) == before


def test_what_nohup_ignores_is_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_interrupt():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_run_records_the_signal_that_ended_it(tmp_path: Path, number: signal.Signals) -> None:
    started = subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    directory = Path(started.stdout.readline().strip())
    time.sleep(0.1)
    os.kill(started.pid, number)
    started.wait(30)
    status = json.loads((directory / "status.json").read_text())
    assert (status["state"], status["error"]) == ("failed", f"interrupted by {number.name}")
