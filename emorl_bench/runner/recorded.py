"""The configuration that a run directory holds, read as data: nothing in it is imported, called or looked up."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from emorl_bench.core.damage import read_text, reading
from emorl_bench.core.errors import UserError

FILE = "config.yaml"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where PyYAML has it: ten times as fast
FILES = (".json", ".jsonl", ".yaml", ".parquet", ".safetensors", ".diff")
"""Endings of files in a run directory; no directory is named so."""
MOST_VALUES = 20_000  # of a configuration; a large one has 300
REMEDY = "repeat its emorl-bench command with force=true"


def recorded_config(run: Path) -> dict[str, Any]:
    """The configuration of a run. It was written resolved, so ``${...}`` in it is text and stays text.

    Raises:
        UserError: the file is missing or damaged, or something in the directory is no file.
    """
    check_regular(run)
    found = load_yaml(run / FILE)
    if not isinstance(found, dict):
        raise UserError(f"{run / FILE}: is no configuration; {REMEDY}")
    return {str(key): value for key, value in found.items()}


def load_yaml(file: Path) -> Any:
    """Plain values from a YAML file of a run directory: no tags, no interpolation, nothing that grows when it is read.

    Raises:
        UserError: the file is missing, damaged, or holds more values than any configuration.
    """
    with reading(file, REMEDY):
        found = yaml.load(read_text(file), LOADER)
    if not _fits(found):
        raise UserError(f"{file}: holds more than {MOST_VALUES} values, or itself; {REMEDY}")
    return found


def _fits(found: Any) -> bool:
    """Whether there are at most `MOST_VALUES`. Aliases of YAML can make ten lines into billions, or into a circle."""
    waiting, seen = [found], 0
    while waiting and seen <= MOST_VALUES:
        node, seen = waiting.pop(), seen + 1
        if isinstance(node, dict):
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)
    return seen <= MOST_VALUES


def check_regular(run: Path) -> None:
    """Check that a run directory holds files and directories only, so that no reader waits for a FIFO or a device.

    Raises:
        UserError: names the first other entry, or the first directory in the place of a file.
    """
    if (odd := irregular(run)) is not None:
        raise UserError(f"{odd}: is no regular file; delete it, then repeat the command (force=true begins afresh)")


def irregular(run: Path) -> Path | None:
    """The first entry below a run directory that is neither a regular file nor a directory, or in a file's place.

    A link counts as what it leads to; one that leads nowhere counts as absent.
    """
    for above, directories, names in os.walk(run):
        wrong = [name for name in directories if name.endswith(FILES)]
        wrong += [name for name in names if Path(above, name).exists() and not Path(above, name).is_file()]
        if wrong:
            return Path(above, min(wrong))
    return None
