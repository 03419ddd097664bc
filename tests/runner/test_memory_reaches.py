"""``hardware.block_bytes`` reaches all that makes logits, and what has fitted is recorded."""

from __future__ import annotations

from pathlib import Path

from conftest import MemoryTracker
from support.composing import composed

from emorl_bench.config.compose import plain
from emorl_bench.runner.bench import Workbench
from emorl_bench.scorers.rule import DeviceScorer

SMALL = ("budget=smoke", "hardware=cpu", "tracker=local", "hardware.block_bytes=2097152", "hardware.max_rows=77")


def test_the_key_reaches_policies_and_scorers(tmp_path: Path) -> None:
    config = {**plain(composed(*SMALL)), "names": {}}
    workbench = Workbench.build(config, tmp_path, MemoryTracker())
    assert workbench.bench.new_policy("p").memory is workbench.decoder.memory
    assert workbench.fitted == {"block_bytes": 2097152, "micro_batch": None, "max_rows": 77}
    workbench.decoder.memory.halve(5)
    assert workbench.fitted["micro_batch"] == 2
    panels = (workbench.grader.panel, workbench.grader.held_out)
    placed = [s for panel in panels for s in panel.scorers if isinstance(s, DeviceScorer)]
    assert placed
    assert {scorer.block_bytes for scorer in placed} == {2097152}
