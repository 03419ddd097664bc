"""Where a number came from: commit, uncommitted changes, versions, machine and command."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

SUMMARY_VERSION = 1  # of summary.json; the report reads this version only
PACKAGES = ("emorl-bench", "torch", "transformers", "peft", "tokenizers", "numpy", "hydra-core", "wandb", "moocore")
GIT_SECONDS = 10


def provenance(threads: int, device: str, ranks: int = 1) -> dict[str, Any]:
    """The record of one session, ready for JSON."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "commit": _git("rev-parse", "HEAD"),
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := installed_version(name))},
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "device": device,
            "accelerator": _accelerator(device),
            "threads": threads,
            "ranks": ranks,  # number of processes of the run, each with this many threads
        },
    }


def assets_hash(config: Mapping[str, Any]) -> str | None:
    """Hash of the embedded assets, if the run's model or one of its scorers is embedded; else None."""
    model = str(config["model"]["path"]).startswith("embedded:")
    scorers = [str(scorer.get("_target_", "")) for scorer in config["task"].get("scorers", {}).values()]
    if not model and not any(".scorers.embedded" in target for target in scorers):
        return None
    return embedded_assets()


def embedded_assets() -> str:
    """The hash of all embedded assets as they are now."""
    from emorl_bench.assets.shipped import content_key

    return content_key()


def with_model(record: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """The record with the base model's source (directory, package or commit of the hub) added to its last session."""
    *earlier, last = record["sessions"] or [{}]
    return {**record, "sessions": [*earlier, {**last, "model": dict(model)}]}


def code_diff() -> str:
    """The uncommitted changes of the checkout; empty outside a checkout."""
    return _git("diff", "HEAD") or ""


def _git(*arguments: str) -> str | None:
    """Output of git in the directory of the code; None where there is no git, or no checkout."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None


def installed_version(package: str) -> str | None:
    """The version of an installed package; None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """The processor's name. Linux keeps it where `platform` does not look."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _accelerator(device: str) -> str | None:
    if device != "cuda":
        return None
    import torch

    return torch.cuda.get_device_name()
