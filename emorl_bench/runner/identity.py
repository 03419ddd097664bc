"""Which run is which: its hash, its place, and whether it is done. Nothing here imports torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emorl_bench.config.schema import what_decides
from emorl_bench.core.damage import read_text

ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
NAMED = ("task", "model", "method")  # the groups that name a run's place


def identity(config: Mapping[str, Any], fingerprint: str) -> str:
    """64 hex digits, which are equal where two runs would give the same numbers."""
    names = [config["names"][name] for name in NAMED]
    text = json.dumps([_by_content(what_decides(config)), names, fingerprint], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _by_content(decided: dict[str, Any]) -> dict[str, Any]:
    """Settings in which adapters that the method is given (``method.experts``) are named by a hash of their files."""
    method = decided.get("method")
    if isinstance(method, dict) and (given := method.get("experts")):
        paths = given.split(",") if isinstance(given, str) else given
        decided["method"] = method | {"experts": [_hash_of(str(path)) for path in paths]}
    return decided


def _hash_of(directory: str) -> str:
    """A hash of an adapter's two files; the name of the directory where it lacks them, which the method refuses."""
    files = [Path(directory).expanduser() / name for name in ADAPTER]
    if not all(file.is_file() for file in files):
        return directory
    return hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()


def place(config: Mapping[str, Any], fingerprint: str) -> Path:
    """The run directory: ``runs_dir/<task>/<model>/<method>/s<seed>-<the first 8 digits of the hash>``."""
    above = Path(config["runs_dir"]).expanduser().resolve().joinpath(*(config["names"][name] for name in NAMED))
    return above / f"s{config['seed']}-{identity(config, fingerprint)[:8]}"


def summary_if_done(directory: Path) -> dict[str, Any] | None:
    """The summary of a run that is done; None for any other directory."""
    status = read_json(directory / "status.json") or {}
    return read_json(directory / "summary.json") if status.get("state") == "done" else None


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file, or None where there is no complete one. A FIFO or a device is not opened."""
    if not path.is_file():
        return None
    try:
        value = json.loads(read_text(path))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
