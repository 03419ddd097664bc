"""How much memory a run may take at a time, and what has been found to fit into it.

``block_bytes`` bounds what is made of logits at a time. A smaller block costs some speed and changes no number but for
rounding. Its default is a share of the free memory, rounded down to a power of two and bounded, so that two machines
of one kind have the same.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch  # not imported at run time: a dry run reads this file without torch

SHARE = 1 / 16  # of the free memory, for a block
SMALLEST, LARGEST = 1 << 24, 1 << 30  # a larger block is no faster: it has more than a thousand rows of any vocabulary
UNKNOWN = 1 << 32  # bytes that are taken to be free where the system does not say


@dataclass
class Memory:
    """What fits; one object for all policies on one base model.

    ``micro_batch`` is the most rows of a pass outside decoding, and None as long as memory has never run out.
    """

    block_bytes: int = LARGEST
    micro_batch: int | None = None

    @classmethod
    def planned(cls, block_bytes: int | None, device: torch.device) -> Memory:
        """Blocks of this size; None is the share of what is free on the device now."""
        return cls(share_of(free_bytes(device)) if block_bytes is None else block_bytes)

    def halve(self, rows: int) -> None:
        """Remember that a pass of so many rows does not fit, and say it."""
        self.micro_batch = max(1, rows // 2)
        said = f"update: out of memory; continuing with at most {self.micro_batch} rows in a pass"
        print(said, file=sys.stderr, flush=True)


def share_of(free: int) -> int:
    """The default size of a block where ``free`` bytes are free."""
    share = max(SMALLEST, min(LARGEST, int(free * SHARE)))
    return 1 << (share.bit_length() - 1)


def free_bytes(device: torch.device) -> int:
    """Bytes that can still be allocated on a device. Memory that torch holds and does not use counts as free."""
    if device.type != "cuda":
        return free_on_machine()
    import torch

    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + held


def free_on_machine(root: Path = Path("/")) -> int:
    """Bytes that the machine can still give, within the limit of a container, if there is one."""
    found = [free for free in (_available(root), _left_in_container(root)) if free is not None]
    return max(0, min(found)) if found else _by_pages()


def _available(root: Path) -> int | None:
    """``MemAvailable`` of Linux: what is free, and what the system gives back on demand."""
    lines = _text(root / "proc/meminfo").splitlines()
    kilobytes = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(kilobytes[0]) * 1024 if kilobytes else None


def _left_in_container(root: Path) -> int | None:
    """What a control group (version 2) leaves; file pages that can be dropped count as free."""
    group = root / "sys/fs/cgroup"
    limit, used = (_text(group / name).strip() for name in ("memory.max", "memory.current"))
    if not (limit.isdigit() and used.isdigit()):
        return None
    rows = (line.split() for line in _text(group / "memory.stat").splitlines())
    dropped = sum(int(row[1]) for row in rows if row[0] == "inactive_file")
    return int(limit) - int(used) + dropped


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _by_pages() -> int:
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):  # macOS does not count free pages
        return UNKNOWN
