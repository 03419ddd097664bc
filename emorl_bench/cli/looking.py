"""The commands of ``emorl-bench`` that only look: ``status RUNS`` and ``list GROUP``. No torch is imported."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from shutil import get_terminal_size

from emorl_bench.config.compose import conf_dir
from emorl_bench.core.errors import UserError, did_you_mean

GROUPS = ("method", "task", "model", "scorer", "update", "budget", "experiment", "tracker", "hardware")


def status(arguments: Sequence[str]) -> None:
    """Print how the runs below a directory stand, and the headline table of those that are done.

    Raises:
        UserError: there is no such directory, or no run in it.
    """
    parser = argparse.ArgumentParser(prog="emorl-bench status", description="Show the runs of a directory.")
    parser.add_argument("runs", type=Path, nargs="?", default=Path("runs"), help="runs_dir (default: %(default)s)")
    from emorl_bench.runner.status import status_lines

    print("\n".join(status_lines(parser.parse_args(arguments).runs)))


def list_options(arguments: Sequence[str]) -> None:
    """Print the options of a group of the configuration, with one line each.

    Raises:
        UserError: there is no such group.
    """
    parser = argparse.ArgumentParser(prog="emorl-bench list", description="Show what there is to choose from.")
    parser.add_argument("group", help=f"{', '.join(f'{group}s' for group in GROUPS)}")
    given = parser.parse_args(arguments).group
    group = given if given in GROUPS else given.removesuffix("s")
    if group not in GROUPS:
        raise UserError(f"list {given}: there is no such group{did_you_mean(given, [f'{name}s' for name in GROUPS])}")
    print("\n".join(option_lines(conf_dir() / group)))


def option_lines(directory: Path) -> Iterator[str]:
    """A line for each option: its name, and the first sentence of its file, wrapped to the width of the terminal."""
    options = {path.stem: first_sentence(path) for path in sorted(directory.glob("*.yaml"))}
    width = max(map(len, options)) + 2
    for name, sentence in options.items():
        columns = max(60, get_terminal_size().columns)
        yield from textwrap.wrap(f"{name:<{width}}{sentence}", columns, subsequent_indent=" " * width) or [name]


def first_sentence(path: Path) -> str:
    """What the comment at the beginning of a YAML file says first: its lines up to one that ends with a full stop."""
    words: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        words.append(line.lstrip("# ").rstrip())
        if words[-1].endswith("."):
            break
    return " ".join(words)


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {"status": status, "list": list_options}
