"""What every program shares: one line for an error that is the user's to mend, exit codes, and Hydra's composition.

Exit codes: 0, 2 after a `UserError`, 130 after Ctrl-C. ``HYDRA_FULL_ERROR=1`` shows the traceback of a `UserError`.
No torch at module level: a typo is answered in about a second.
"""

from __future__ import annotations

import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig

from emorl_bench.config.compose import VERSION_BASE, conf_dir, precheck, runnable
from emorl_bench.core.errors import UserError

WRONG, INTERRUPTED = 2, 130
GRACE = 15.0  # seconds; a busy launcher takes several to end the others

Config = Mapping[str, Any]


@contextmanager
def one_line(program: str, *, traceback: bool = False, again: str = "begins again") -> Iterator[None]:
    """Leave the program with an exit code: a `UserError` inside is said in one line; Ctrl-C with what the same command
    does when it is given ``again``.

    ``traceback``: let a `UserError` through, as ``HYDRA_FULL_ERROR=1`` does.

    Raises:
        SystemExit: in both cases.
    """
    try:
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
    """A program that Hydra configures: ``task`` on what ``conf/<root>.yaml`` composes to, for each job of a sweep.

    All that the command line asks for is composed and verified before Hydra starts a job. ``task`` is a function of a
    module, so that other processes find it by its name; it puts `one_line` around what it does itself, for Hydra would
    print more. With ``dry_run`` the program knows ``--dry-run``, which calls it instead of starting a job.

    Raises:
        SystemExit: something is wrong (`one_line`), or a job of a sweep has failed.
    """
    parser = get_args_parser()
    if dry_run is not None:
        parser.add_argument("--dry-run", action="store_true")
    args = parser.parse_args()
    sys.argv = [argument for argument in sys.argv if argument != "--dry-run"]  # Hydra reads the others again
    runs = not (args.help or args.hydra_help or args.cfg or args.info or args.shell_completion)
    with one_line(program, again=again):
        if runs and dry_run is not None and args.dry_run:
            dry_run(args)
            return
        if runs:
            precheck(args, root, verify)
        hydra.main(version_base=VERSION_BASE, config_path=str(conf_dir()), config_name=root)(task)()


def _say(line: str) -> None:
    """Once: of several ranks the first speaks, and the launcher then ends the others.

    A rank that is still here after a moment has an error of its own.
    """
    if os.environ.get("RANK", "0") != "0":
        time.sleep(GRACE)
    print(line, file=sys.stderr, flush=True)
