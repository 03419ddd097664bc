"""Output that cannot be written does not stop a program: a real process for each case, without torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import logging, sys
from pathlib import Path
from emorl_bench.core.terminal import reader_left, tolerate

tolerate(goes_on=sys.argv[2] == "run")
logging.basicConfig(stream=sys.stdout, level=logging.INFO)
try:
    for number in range(3000):
        print(f"line {number} of Größe \\udcff", flush=True)
        logging.info("logged %d", number)
finally:
    Path(sys.argv[1]).write_text(f"{reader_left()} {sys.stdout.isatty()}")
"""


def program(tmp_path: Path, kind: str = "run") -> list[str]:
    return [sys.executable, "-c", PROGRAM, str(tmp_path / "result"), kind]


def result(tmp_path: Path) -> str:
    return (tmp_path / "result").read_text()


@pytest.mark.parametrize("kind", ["run", "look"])
def test_a_reader_may_leave(tmp_path: Path, kind: str) -> None:
    with subprocess.Popen(program(tmp_path, kind), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"line 0")
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 0
    assert result(tmp_path) == "True False"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_run_goes_on_where_its_output_finds_no_room_and_says_so_once(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(program(tmp_path), stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (
        0,
        "the output cannot be written (No space left on device); the run goes on\n",
    )
    assert result(tmp_path).startswith("True")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_program_whose_output_is_its_result_fails_then(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(program(tmp_path, "look"), stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1
    assert "OSError: [Errno 28]" in done.stderr


@pytest.mark.parametrize(
    ("encoding", "shown"), [("ascii", b"Gr\\xf6\\xdfe \\udcff"), ("utf-8", "Größe \\udcff".encode())]
)
def test_what_a_terminal_cannot_show_is_escaped(tmp_path: Path, encoding: str, shown: bytes) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "LC_ALL": "C"}
    done = subprocess.run(program(tmp_path), capture_output=True, env=environment, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.splitlines()[0] == b"line 0 of " + shown
    assert result(tmp_path) == "False False"


def test_streams_that_are_closed_from_the_beginning_are_nowhere(tmp_path: Path) -> None:
    command = ["sh", "-c", '"$@" >&- 2>&-', "sh", *program(tmp_path)]
    assert subprocess.run(command, timeout=60).returncode == 0
    assert result(tmp_path) == "False False"


def test_a_terminal_stays_one(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    try:
        with subprocess.Popen(program(tmp_path), stdout=theirs, stderr=subprocess.PIPE) as process:
            os.close(theirs)
            assert b"line 0" in os.read(ours, 200)
            while process.poll() is None:
                try:
                    os.read(ours, 65536)
                except OSError:  # the other side has ended
                    break
            assert process.wait(60) == 0
    finally:
        os.close(ours)
    assert result(tmp_path).endswith("True")
