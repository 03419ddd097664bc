"""Which classes a ``_target_`` may name: those of this distribution's ``conf`` and of the user's own ``--config-dir``.

A ``_target_`` is a call. A configuration that names any function of any package could start a program, so a name is
looked up in files that the user has installed or written, before it is imported. A run directory is read back as data:
it may name only what ``conf`` names, and no code of a user or of a model, unless the user trusts it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from emorl_bench.core.errors import UserError, did_you_mean

TARGET = re.compile(r"""_target_["']?\s*:\s*["']?([A-Za-z_][\w.]*)""")
OURS = ("emorl_bench.", "baselines.")
DEPTH = 3  # directories of groups below a configuration directory; a run directory lies deeper, and names nothing
CODE = ("function", "trust_remote_code")
"""Keys beside ``_target_`` whose value makes code run: a user's function, and the code that comes with a model."""


def conf_dir() -> Path:
    """The directory ``conf``: beside the package in a wheel, else in the checkout.

    The working directory does not matter.
    """
    package = Path(__file__).resolve().parent.parent
    beside = package / "conf"
    return beside if beside.is_dir() else package.parent / "conf"


@lru_cache(maxsize=16)
def named_in(directory: Path) -> frozenset[str]:
    """Every class or function that the YAML files of a configuration directory name, those in comments included."""
    files = (file for depth in range(DEPTH + 1) for file in directory.glob("/".join(["*"] * depth + ["*.yaml"])))
    texts = (file.read_text(encoding="utf-8", errors="replace") for file in files if file.is_file())
    return frozenset(name for text in texts for name in TARGET.findall(text))


def is_named(target: str, directories: Iterable[Path]) -> bool:
    """Whether a file of ``conf`` or of the directories names this target.

    Of this distribution, a module that ``conf`` names counts with all its classes, because alternatives such as the
    forms of `ensemble.blending` lie side by side. `targets.check_targets` sees that it is a class of that module.
    """
    installed = named_in(conf_dir())
    if target in installed or any(target in named_in(directory) for directory in directories):
        return True
    return target.startswith(OURS) and target.rpartition(".")[0] in {name.rpartition(".")[0] for name in installed}


def check_named(config: Mapping[str, Any], directories: Iterable[Path] = ()) -> None:
    """Check every ``_target_`` of a plain configuration, without importing one.

    Args:
        config: the configuration.
        directories: the user's own configuration directories.

    Raises:
        UserError: the first that neither ``conf`` nor a directory names.
    """
    own = tuple(directories)
    for key, target in _values(config, "_target_"):
        if isinstance(target, str) and not is_named(target, own):  # what is no text is refused elsewhere
            alike = [name for name in named_in(conf_dir()) if name.startswith(OURS)]
            hint = did_you_mean(target, alike) if target.startswith(OURS) else ""
            raise UserError(
                f"{key}={target}: is named neither by conf nor by a file of --config-dir; to use a class of your own, "
                f"write it into a YAML file of a directory, and give --config-dir DIRECTORY{_close(hint)}"
            )


def check_is_data(config: Mapping[str, Any], run: Path) -> None:
    """Check that a configuration that was read back from a run directory starts no code that this project lacks.

    Raises:
        UserError: it names a class that ``conf`` does not name, or a `CODE` key is set.
    """
    found = [(key, target) for key, target in _values(config, "_target_") if not is_named(str(target), ())]
    found += [(key, value) for name in CODE for key, value in _values(config, name) if value]
    for key, value in found:
        raise UserError(
            f"RUN='{run}': its config.yaml says {key}={value}, which is code that emorl-bench does not bring; "
            "say --trust if this run is your own or you know who made it"
        )


def _close(hint: str) -> str:
    return hint if "did you mean" in hint else ""


def _values(node: Any, name: str, where: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of the key ``name`` below a node, with its full key."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            here = f"{where}.{key}" if where else str(key)
            if key == name:
                yield here, value
            yield from _values(value, name, here)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _values(value, name, f"{where}[{index}]")
