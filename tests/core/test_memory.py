"""Free memory as the system states it, and the default of a block."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from emorl_bench.core.memory import LARGEST, SMALLEST, UNKNOWN, Memory, free_on_machine, share_of


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


MEMINFO = "MemTotal: 9000 kB\nMemFree: 100 kB\nMemAvailable: 5000 kB\n"


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ({}, 5000 * 1024),
        ({"memory.max": "max\n", "memory.current": "1\n"}, 5000 * 1024),
        ({"memory.max": "3000000\n", "memory.current": "2500000\n"}, 500_000),
        ({"memory.max": "3000000\n", "memory.current": "2500000\n", "memory.stat": "inactive_file 250000\n"}, 750_000),
        ({"memory.max": "30\n", "memory.current": "40\n"}, 0),
    ],
    ids=["no container", "no limit", "limit", "limit and files", "beyond the limit"],
)
def test_free_is_what_the_machine_and_its_container_leave(tmp_path: Path, group: dict[str, str], expected: int) -> None:
    files = {"proc/meminfo": MEMINFO} | {f"sys/fs/cgroup/{name}": text for name, text in group.items()}
    assert free_on_machine(machine(tmp_path, files)) == expected


def test_a_system_that_says_nothing_has_some_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> int:
        raise ValueError(name)

    monkeypatch.setattr("os.sysconf", unknown)
    assert free_on_machine(tmp_path) == UNKNOWN


@pytest.mark.parametrize(
    ("free", "expected"),
    [(0, SMALLEST), (24 << 30, LARGEST), (80 << 30, LARGEST), (8 << 30, 1 << 29), ((8 << 30) + 12345, 1 << 29)],
)
def test_the_default_block_is_a_power_of_two_within_bounds(free: int, expected: int) -> None:
    assert share_of(free) == expected


def test_a_given_block_is_taken_as_it_is() -> None:
    assert Memory.planned(12345678, torch.device("cpu")).block_bytes == 12345678
    assert SMALLEST <= Memory.planned(None, torch.device("cpu")).block_bytes <= LARGEST
