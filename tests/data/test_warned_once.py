"""A run reads its corpus several times; what is odd about it is said once."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from emorl_bench.data import pair
from emorl_bench.data.sources import Source


def test_a_corpus_that_is_read_again_warns_no_more(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [f"statement {i}" + f",answer {i}" * 8 for i in range(12)]
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "topic_clean_umich.csv").write_text("\n".join([*rows, rows[3]]) + "\n")
    with caplog.at_level(logging.WARNING):
        for name in ("one", "one", "other"):
            assert len(pair.load(Source(str(tmp_path / name), pair.FILE))) == 12
    assert caplog.text.count("1 duplicate prompts removed") == 2
