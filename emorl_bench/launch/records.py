"""What the run directories of a sweep say of its jobs, found by their overrides: other launchers tell no process."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.utils import filter_overrides

from emorl_bench.launch.job_process import Outcome
from emorl_bench.launch.run_value import OBJECTIVE, RunValue
from emorl_bench.launch.sweep_job import SweepJob, place


class Records:
    """Reads ``status.json`` and ``overrides.yaml`` of the runs of these jobs, from now on."""

    def __init__(self, jobs: Sequence[SweepJob]) -> None:
        """Records that were written before this call are of earlier runs."""
        self.since = time.time()
        self.jobs = {job.number: job for job in jobs}
        self._runs: dict[int, Path] = {}

    def look(self) -> Iterator[tuple[SweepJob, Mapping[str, Any]]]:
        """Each job whose run has been heard of since the start and has not ended before, with its ``status.json``."""
        for number, job in list(self.jobs.items()):
            run = self._runs.get(number) or self._find(job)
            status = _read(run / "status.json") if run is not None else {}
            if run is None or not self._is_new(status):
                continue
            self._runs[number] = run
            if status.get("state") in ("done", "failed"):
                del self.jobs[number]
            yield job, status

    def outcome(self, job: SweepJob, status: Mapping[str, Any]) -> Outcome | None:
        """How a job has ended; None where it goes on, or only its launcher knows."""
        run = self._runs[job.number]
        if status.get("state") == "failed":
            return "failed", f"{status.get('error')} (run: {run})"
        value = _read(run / "summary.json").get(OBJECTIVE)
        if status.get("state") == "done" and isinstance(value, int | float):
            return "done", RunValue.of(value, str(run))
        return None

    def _find(self, job: SweepJob) -> Path | None:
        directory, own = place(job.config), list(filter_overrides(job.overrides))
        if directory is None:
            return None
        for file in directory.glob(f"s{job.config.seed}-*/status.json"):
            if self._is_new(_read(file)) and _lines(file.with_name("overrides.yaml")) == own:
                return file.parent
        return None

    def _is_new(self, status: Mapping[str, Any]) -> bool:
        heartbeat = status.get("heartbeat")
        return isinstance(heartbeat, int | float) and heartbeat >= self.since


def _read(file: Path) -> Mapping[str, Any]:
    """A record; empty where it is being replaced, or was removed by ``force=true``: the next look finds it."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _lines(file: Path) -> list[str] | None:
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return found if isinstance(found, list) else None
