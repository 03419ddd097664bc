"""A plugin of pytest that writes one line of JSON for each test as it ends, so a run that is stopped loses nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

FILE = "EMORL_BENCH_GPU_TESTS_RECORD"  # environment variable: the file


def pytest_configure(config: Any) -> None:
    """Register the recorder; pytest's hook."""
    if not hasattr(config, "workerinput"):  # not in a worker: the controller of parallel tests hears of all tests
        config.pluginmanager.register(Recorder(Path(os.environ[FILE])), "gpu-recorder")


class Recorder:
    """Writes the reports of tests to a file."""

    def __init__(self, path: Path) -> None:
        """Write to ``path``."""
        self.path = path

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Append a test's report; pytest's hook."""
        if report.when != "call" and report.outcome == "passed":
            return
        measured = {name: value for name, value in report.user_properties if isinstance(value, int | float)}
        line = {"test": report.nodeid, "outcome": report.outcome, "seconds": report.duration, "measured": measured}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**line, "why": _why(report)}) + "\n")


def _why(report: Any) -> str:
    if report.outcome == "passed":
        return ""
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    return str(report.longrepr)
