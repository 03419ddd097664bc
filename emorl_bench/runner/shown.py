"""How a run is shown by trackers: its place among others, and the view that its configuration names."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emorl_bench.config.targets import build
from emorl_bench.runner.directory import RunDirectory
from emorl_bench.runner.fingerprints import comparison_fingerprint
from emorl_bench.tracking.fanout import Fanout, Open
from emorl_bench.tracking.jsonl import Jsonl
from emorl_bench.tracking.view import RunIdentity, Viewer

PROGRAM = "emorl-bench"
TAG = 64  # characters; W&B refuses longer tags
COMMIT = 10  # digits of a commit


def open_tracker(settings: Mapping[str, Any], directory: RunDirectory, fingerprint: str) -> Fanout:
    """The record of a run, and the view that ``tracker`` names."""

    def note(state: str) -> None:
        directory.note(tracker=state)

    record, viewer = Jsonl(directory.path, on_log=directory.beat), settings["tracker"]
    opened: Open = lambda rows: _viewer(viewer).open(identity_of(settings, directory, fingerprint), rows)  # noqa: E731
    return Fanout(record, opened, note)


def identity_of(settings: Mapping[str, Any], directory: RunDirectory, fingerprint: str) -> RunIdentity:
    """The run as trackers show it; ``fingerprint`` is that of its configuration."""
    names = settings["names"]
    session = (directory.read_json("provenance.json") or {"sessions": [{}]})["sessions"][-1]
    machine = session.get("machine", {})
    hardware = machine.get("accelerator") or machine.get("processor") or settings["hardware"]["device"]
    marks = [names.get("task"), names.get("model"), names.get("method"), names.get("budget")]
    tags = [*marks, (session.get("commit") or "")[:COMMIT], hardware]
    return RunIdentity(
        id=directory.hash,
        method=names["method"],
        task=names["task"],
        model=names["model"],
        seed=settings["seed"],
        sweep=comparison_fingerprint(settings, fingerprint)[:8],
        directory=directory.path,
        runs_dir=Path(settings["runs_dir"]).expanduser().resolve(),
        config=settings,
        tags=tuple(dict.fromkeys(str(tag)[:TAG] for tag in tags if tag)),
        notes=shlex.join([PROGRAM, *directory.overrides]),
    )


def _viewer(settings: Mapping[str, Any]) -> Viewer:
    viewer: Viewer = build(settings)
    return viewer
