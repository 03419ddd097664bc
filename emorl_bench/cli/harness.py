"""What all programs share: one line for an error that the user can correct, exit codes, and Hydra's composition.

Exit codes: 0; 2 after a `UserError`; 130 after Ctrl-C. ``HYDRA_FULL_ERROR=1`` shows the traceback of a `UserError`. No
torch is imported at module level, so that a typo is reported in about a second.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig

from emorl_bench.config.compose import VERSION_BASE, conf_dir, precheck, runnable
from emorl_bench.config.schema import Config
from emorl_bench.core.damage import system_limits
from emorl_bench.core.errors import UserError
from emorl_bench.core.terminal import tolerate
from emorl_bench.launch.hooks import hooks

WRONG, INTERRUPTED = 2, 130
GRACE = 15.0  # seconds; a busy launcher needs several to end the other ranks


@contextmanager
def one_line(program: str, *, traceback: bool = False, again: str = "begins again") -> Iterator[None]:
    """Turn an error inside the block into one line and an exit code.

    A `UserError` prints its message, and what the operating system refuses (`core.damage`) is one. Ctrl-C prints what
    the same command will do when it is given again.

    Args:
        program: the name at the beginning of the line.
        traceback: let a `UserError` through, as ``HYDRA_FULL_ERROR=1`` does.
        again: what the same command does next time, such as ``continues``.

    Raises:
        SystemExit: in both cases.
    """
    try:
        with system_limits():
            yield
    except UserError as error:
        if traceback or os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        _say(f"{program}: {' '.join(str(error).split())}")
        sys.exit(WRONG)
    except KeyboardInterrupt:
        print(f"\ninterrupted; the same command {again}", file=sys.stderr)
        sys.exit(INTERRUPTED)


def run_hydra(
    program: str,
    root: str,
    task: Callable[[DictConfig], Any],
    verify: Callable[[Config], None] = runnable,
    *,
    again: str = "begins again",
    dry_run: Callable[[Namespace], None] | None = None,
) -> None:
    """Run a program that Hydra configures.

    All configurations of the command line are composed and verified before Hydra starts a job. ``task`` must be a
    function of a module, so that other processes find it by its name. It uses `one_line` itself, because Hydra would
    print more.

    Args:
        program: the program's name.
        root: ``conf/<root>.yaml`` is composed.
        task: called with the configuration of each job.
        verify: raises a `UserError` for a plain configuration that cannot be run.
        again: what the same command does after Ctrl-C.
        dry_run: called for ``--dry-run`` instead of starting a job; without it the program has no such option.

    Raises:
        SystemExit: something is wrong (`one_line`), or a job of a sweep has failed.
    """
    tolerate(goes_on=True)
    parser = get_args_parser()
    for action in parser._actions:  # Hydra's --version would tell that of Hydra
        if isinstance(action, argparse._VersionAction):
            action.version, action.help = version(program), "show the version and exit"
    if dry_run is not None:
        parser.add_argument("--dry-run", action="store_true")
    args = parser.parse_args()
    sys.argv = [argument for argument in sys.argv if argument != "--dry-run"]  # Hydra reads the others again
    runs = not (args.help or args.hydra_help or args.cfg or args.info or args.shell_completion)
    with one_line(program, again=again):
        check_place()
        if args.experimental_rerun is not None:
            raise UserError(
                f"--experimental-rerun {args.experimental_rerun}: reads a pickle, which can run code; repeat the "
                "command itself, which goes on where the run ended (overrides.yaml of a run directory lists its keys)"
            )
        if runs and dry_run is not None and args.dry_run:
            dry_run(args)
            return
        if runs:
            hooks.composed = precheck(args, root, verify)
        hydra.main(version_base=VERSION_BASE, config_path=str(conf_dir()), config_name=root)(task)()


def version(program: str) -> str:
    """What a program prints for ``--version``."""
    try:
        return f"{program} {metadata.version('emorl-bench')}"
    except metadata.PackageNotFoundError:  # the files alone, without an installation
        return f"{program}, not installed as a package"


def arguments_of(parser: argparse.ArgumentParser, given: Sequence[str] | None) -> argparse.Namespace:
    """The arguments of a program that Hydra does not configure; ``--version`` is one of them."""
    tolerate()
    parser.add_argument("--version", action="version", version=version(parser.prog), help="show the version and exit")
    return parser.parse_args(given)


def check_place() -> None:
    """Check that there is a working directory, which Hydra and relative paths need.

    Raises:
        UserError: it was removed, or may not be read.
    """
    try:
        os.getcwd()
    except OSError as error:
        raise UserError(f"the working directory is gone ({error.strerror}); change to one that exists") from error


def _say(line: str) -> None:
    """Print an error once. Of several ranks, rank 0 prints it, and the launcher then ends the other ranks.

    A rank that is still running after a while has an error of its own.
    """
    if os.environ.get("RANK", "0") != "0":
        time.sleep(GRACE)
    print(line, file=sys.stderr, flush=True)
