"""The index of finished runs: it answers "done before" for a configuration without importing torch.

What decides a run's numbers is its configuration and the fingerprint of data, scorers and base model
(`runner.fingerprints`). The fingerprint takes torch and seconds. For the embedded tasks it follows from the files of
this package and the installed packages alone. So a job that is done leaves an entry: its fingerprint, and a hash of
those files (`code`). While the hash is the same, so is the fingerprint, and the run directory is looked up with it.

The index never decides more than that. Where an entry is missing, damaged or of other files, where a task reads data of
the user, or where only torch can tell the device, nothing is answered, and the job checks as it always did.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from emorl_bench.config.checks import launched
from emorl_bench.config.hardware import decided_on_cpu, may_have_gpu
from emorl_bench.core.atomic import remove_left_over, write_json
from emorl_bench.launch.run_value import OBJECTIVE, RunValue
from emorl_bench.runner.identity import identity, place, read_json, summary_if_done

PLACE = ".finished"
EMBEDDED = "embedded:"
SELF_CONTAINED = (
    "emorl_bench.tasks.reflections.Reflections",
    "emorl_bench.tasks.sums.Sums",
    "emorl_bench.scorers.embedded.Embedded",
    "emorl_bench.scorers.sums.SumScorer",
    "emorl_bench.scorers.answer_format.AnswerFormat",
    "emorl_bench.scorers.diversity_2.Diversity2",
    "emorl_bench.scorers.edit_rate.EditRate",
    "emorl_bench.scorers.length_band.LengthBand",
)
"""Classes of tasks and scorers that read nothing but files of this package."""


def recall(settings: Mapping[str, Any], now: str | None = None) -> RunValue | None:
    """The value of a run that is done, or None where that is not certain.

    Args:
        settings: the plain configuration with ``names``.
        now: `code`, where it has just been computed.
    """
    if settings["force"] or launched() > 1 or (decided := _decided(settings)) is None:
        return None
    entry = read_json(_entry(decided)) or {}
    if not isinstance(fingerprint := entry.get("fingerprint"), str) or entry.get("code") != (now or code()):
        return None
    directory = place(decided, fingerprint)
    value = (summary_if_done(directory) or {}).get(OBJECTIVE)
    return RunValue.of(value, str(directory), skipped=True) if isinstance(value, int | float) else None


def remember(settings: Mapping[str, Any], fingerprint: str, imported: str) -> None:
    """Leave an entry for a run that is done.

    Args:
        settings: its configuration.
        fingerprint: that of its data, scorers and model.
        imported: `code` from before the fingerprint was computed. Where files have changed since, nothing is left.
    """
    decided = _decided(settings)
    if decided is not None and imported == code():
        entry = _entry(decided)
        remove_left_over(entry.parent, entry.name)  # the run's lock is held, and only this run writes its entry
        write_json(entry, {"code": imported, "fingerprint": fingerprint})


def code() -> str:
    """Hash of what a self-contained fingerprint follows from: this package's files, Python and installed packages."""
    digest = hashlib.sha256(sys.version.encode())
    for file in _files():
        digest.update(f"\0{file}\0".encode())
        digest.update(file.read_bytes())
    installed = {path.name for place in sys.path if place for path in Path(place).glob("*.dist-info")}
    digest.update(json.dumps(sorted(installed)).encode())
    return digest.hexdigest()


def _files() -> Iterator[Path]:
    package = Path(__file__).resolve().parent.parent
    yield from sorted(package.rglob("*.py"))
    yield from sorted(path for path in (package / "assets" / "shipped").rglob("*") if path.is_file())


def _decided(settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The settings with the device decided; None where the index has no say."""
    device = settings["hardware"]["device"]
    on_cpu = device == "cpu" or (device == "auto" and not may_have_gpu())
    inside = str(settings["model"]["path"]).startswith(EMBEDDED) and set(_targets(settings["task"])) <= set(
        SELF_CONTAINED
    )
    return {**settings, "hardware": decided_on_cpu(settings["hardware"])} if on_cpu and inside else None


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        yield from (str(value) for key, value in node.items() if key == "_target_")
        for value in node.values():
            yield from _targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from _targets(value)


def _entry(decided: Mapping[str, Any]) -> Path:
    """One small file for each configuration, so that jobs that end together do not write the same file."""
    places = {"task": decided["task"], "model": decided["model"]}  # names of data and models that `identity` leaves out
    key = hashlib.sha256(identity(decided, json.dumps(places, sort_keys=True)).encode()).hexdigest()[:16]
    return Path(decided["runs_dir"]).expanduser() / PLACE / f"{key}.json"
