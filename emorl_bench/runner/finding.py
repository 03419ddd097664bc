"""Finished runs by a directory of them: a run itself, or the newest below a method, a task or a whole ``runs_dir``."""

from __future__ import annotations

from pathlib import Path

from emorl_bench.core.errors import UserError
from emorl_bench.runner.identity import read_json, summary_if_done

DEPTH = 4  # runs_dir/<task>/<model>/<method>/<run>


def find_run(given: Path) -> Path:
    """The run in a directory, or the one below it that ended last.

    Raises:
        UserError: there is no finished run.
    """
    if (given / "config.yaml").is_file() and (given / "summary.json").is_file():
        return given
    found = [
        file.parent
        for depth in range(1, DEPTH + 1)
        for file in given.glob("/".join(["*"] * depth + ["summary.json"]))
        if file.with_name("config.yaml").is_file() and summary_if_done(file.parent) is not None
    ]
    if not found:
        raise UserError(
            f"RUN='{given}': no finished run there; give a directory with a config.yaml and a summary.json, "
            "or one above such directories (emorl-bench status RUNS lists them)"
        )
    return max(found, key=_ended)


def _ended(run: Path) -> float:
    return float((read_json(run / "status.json") or {}).get("heartbeat", 0.0))
