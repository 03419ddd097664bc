"""How the runs of a directory stand: read from their ``status.json``, without torch and without touching them."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emorl_bench.core.errors import UserError
from emorl_bench.core.words import counted
from emorl_bench.progress import duration
from emorl_bench.runner.identity import read_json
from emorl_bench.runner.recorded import irregular

SILENT = 60.0  # seconds without a heartbeat, after which a run counts as ended
STATES = ("done", "running", "unfinished")


@dataclass(frozen=True)
class Stand:
    """One run: where it is, and how it stands."""

    path: Path
    state: str
    """One of `STATES`."""
    remark: str
    status: Mapping[str, Any]


def stand_of(path: Path, status: Mapping[str, Any]) -> tuple[str, str]:
    """State and remark of the run in a directory, from its ``status.json``."""
    if status.get("state") == "done" and read_json(path / "summary.json") is not None:
        return "done", ""
    ago = time.time() - float(status.get("heartbeat", 0.0))
    if status.get("state") == "running" and ago < SILENT and not _gone(status):
        return "running", f"process {status.get('pid')} on {status.get('host')}, last heard of {ago:.0f} s ago"
    ended = status.get("error") or "stopped"
    return "unfinished", f"{ended} in phase '{status.get('phase', 'start')}'; the run goes on from its last checkpoint"


def _gone(status: Mapping[str, Any]) -> bool:
    """Whether this machine knows that the run's process has ended without a word, as after ``kill -9``."""
    pid = status.get("pid")
    if status.get("host") != socket.gethostname() or not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)  # sends nothing
    except ProcessLookupError:
        return True
    except OSError:  # a process of somebody else
        return False
    return False


def stands(runs_dir: Path) -> list[Stand]:
    """Every run below a directory, in the order of their paths."""
    found = []
    for file in sorted(runs_dir.glob("*/*/*/s*-*/status.json")):
        if (odd := irregular(file.parent)) is not None:
            found.append(Stand(file.parent, "unfinished", f"{odd.name} is no regular file; delete it", {}))
            continue
        status = read_json(file) or {}
        found.append(Stand(file.parent, *stand_of(file.parent, status), status))
    return found


def status_lines(runs_dir: Path) -> list[str]:
    """Counts, a line for each run that is not done, and the headline table of those that are.

    Raises:
        UserError: there is no run below the directory.
    """
    found = stands(runs_dir.expanduser())
    if not found:
        raise UserError(f"RUNS='{runs_dir}': no run there; give the runs_dir of a sweep")
    counts = {state: sum(stand.state == state for stand in found) for state in STATES}
    said = ", ".join(f"{number} {state}" for state, number in counts.items() if number)
    lines = [f"{runs_dir}: {counted(len(found), 'run')}: {said}"]
    for stand in found:
        if stand.state != "done":
            lines.append(f"{stand.state:<10} {stand.path.relative_to(runs_dir.expanduser())}: {_how(stand)}")
    done = [stand.path for stand in found if stand.state == "done"]
    return [*lines, "", *_table(done)] if done else lines


def _table(done: Sequence[Path]) -> list[str]:
    from emorl_bench.runner.headline import Finished, headline  # takes scipy, which takes half a second

    return headline([run for path in done if (run := Finished.read(path))])


def _how(stand: Stand) -> str:
    if stand.state == "unfinished":
        return stand.remark
    status = stand.status
    words = {"share": "{:.0%} of the budget", "reward": "reward {:.3f}", "tokens_per_second": "{:,.0f} tokens/s"}
    shown = [text.format(status[key]) for key, text in words.items() if status.get(key) is not None]
    ago = time.time() - float(status.get("heartbeat", 0.0))
    doing = str(status.get("doing") or status.get("phase", "start"))
    return ", ".join([doing, *shown, f"last heard of {duration(ago)} ago"])
