"""What the operating system refuses is one line and exit code 2; a bug keeps its traceback."""

from __future__ import annotations

import errno
import json
import os
import resource
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from emorl_bench.cli.harness import one_line
from emorl_bench.core.atomic import write_json
from emorl_bench.core.damage import json_rows, read_text, reading, refused, system_limits
from emorl_bench.core.errors import UserError
from emorl_bench.runner.identity import read_json


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EROFS, "choose a directory that can be written"),
        (errno.EACCES, "permissions"),
        (errno.EISDIR, "delete the directory"),
        (errno.EIO, "check the disk"),
        (errno.ENODEV, "mend it"),
    ],
)
def test_a_refusal_names_the_file_and_the_remedy(number: int, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit, one_line("emorl-bench"):
        raise OSError(number, os.strerror(number), "/runs/status.json")
    error = capsys.readouterr().err
    assert exit.value.code == 2
    assert error.startswith(f"emorl-bench: /runs/status.json: {os.strerror(number)}; ")
    assert says in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")]
)
def test_a_lack_of_memory_is_said(error: Exception) -> None:
    with pytest.raises(UserError, match=r"memory is full: lower hardware\.max_rows"), system_limits():
        raise error


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("y"), RuntimeError("z"), BrokenPipeError(32, "pipe")])
def test_a_bug_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)), system_limits():
        raise error


def test_a_limit_of_the_size_of_files_is_met_by_every_writer(tmp_path: Path) -> None:
    """The real errors, under a real limit: that of Python's files and that of safetensors."""
    import signal

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        with pytest.raises(UserError, match=r"raise the limit of a file's size"), system_limits():
            write_json(tmp_path / "status.json", {"state": "x" * 10_000})
        with pytest.raises(SafetensorError) as error:
            save_file({"a": torch.zeros(10_000)}, tmp_path / "state.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert "raise the limit of a file's size" in str(refused(error.value))
    assert not (tmp_path / "status.json").exists()


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[" * 100_000, b"", b"[1]", b"{", b"\0" * 9, None])
def test_a_damaged_record_is_no_record(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    assert read_json(path) is None


@pytest.mark.parametrize(
    "line", [b"garbage", b"\0\0\0\0", b"[1, 2]", b"\xff\xfe\xfd", b"3", b"{}}"], ids=lambda line: repr(line)
)
def test_a_damaged_line_is_named_with_its_file(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n' + line + b'\n{"step": 2}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl.* is damaged .*force=true"):
        json_rows(path)


def test_an_incomplete_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2}\n{"st\0\0\0')
    assert json_rows(path) == [{"step": 1}, {"step": 2}]
    assert json_rows(tmp_path / "nowhere.jsonl") == []


def test_a_pipe_in_the_place_of_a_file_does_not_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "status.json")
    with pytest.raises(UserError, match="not a regular file"), reading(tmp_path / "status.json"):
        json.loads(read_text(tmp_path / "status.json"))
