"""A corpus holds at most ``hardware.max_corpus_mb``: a larger file, a bomb, a FIFO or a device is one line at once."""

from __future__ import annotations

import gzip
import json
import os
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from emorl_bench.core.errors import UserError
from emorl_bench.data import sizes
from emorl_bench.data.reading import rows
from emorl_bench.data.sizes import MEGABYTE, limit_corpora
from emorl_bench.data.sources import Source, read
from emorl_bench.runner.placement import chosen_device

ROW = json.dumps({"text": "a" * 987}) + "\n"  # 1,000 bytes


@pytest.fixture(autouse=True)
def unlimited() -> Iterator[None]:
    yield
    limit_corpora(None)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_file_at_the_limit_is_read_and_one_byte_more_is_refused(tmp_path: Path, name: str) -> None:
    text = (ROW * 999).encode() + ROW.encode()[:-1]
    text += b"\n"
    assert len(text) == MEGABYTE
    limit_corpora(1)
    for more in (b"", b"\n"):
        (tmp_path / name).write_bytes(gzip.compress(text + more) if name.endswith(".gz") else text + more)
        if not more:
            assert len(list(rows(tmp_path / name))) == 1000
            continue
        with pytest.raises(UserError, match=r"holds more than 1 MB.*hardware\.max_corpus_mb=2 or more"):
            list(rows(tmp_path / name))


def test_an_archive_that_unpacks_to_much_is_never_whole_in_memory(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.jsonl.gz"
    bomb.write_bytes(gzip.compress(b" " * 60 * MEGABYTE, 9))
    assert bomb.stat().st_size < MEGABYTE
    limit_corpora(2)
    tracemalloc.start()
    with pytest.raises(UserError, match="holds more than 2 MB"):
        list(rows(bomb))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 10 * MEGABYTE


def test_the_key_of_the_configuration_is_the_limit() -> None:
    hardware = {"device": "cpu", "threads": 1, "max_corpus_mb": 7}
    chosen_device(hardware)
    assert sizes._limits == [7 * MEGABYTE]


@pytest.mark.parametrize("kind", [os.mkfifo, os.mkdir, lambda place: os.symlink("/dev/zero", place)])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: Any) -> None:
    kind(tmp_path / "a.csv")
    with pytest.raises(UserError, match="is no regular file"):
        list(rows(tmp_path / "a.csv"))
    with pytest.raises(UserError, match=r"has no a\.csv in it"):
        list(read(Source(str(tmp_path), "a.csv"), ["text"], "the corpus"))


@pytest.mark.parametrize(("release", "given"), [("3.6.0", {"trust_remote_code": False}), ("5.2.0", {})])
def test_code_of_a_data_set_is_refused_where_the_library_could_run_it(
    monkeypatch: pytest.MonkeyPatch, release: str, given: dict[str, Any]
) -> None:
    asked: list[dict[str, Any]] = []

    def load_dataset(*_: Any, split: str, revision: str | None, **options: Any) -> list[dict[str, str]]:
        asked.append(options)
        return [{"text": "one"}]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(__version__=release, load_dataset=load_dataset))
    assert list(read(Source(None, "unused", hub="someone/set"), ["text"], "")) == [(1, {"text": "one"})]
    assert asked == [given]
