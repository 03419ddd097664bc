"""``emorl-bench``: one configuration or a sweep of them, by Hydra.

No torch at module level: a typo is answered in about a second. All checking that needs only the configuration happens
before Hydra starts a job; errors that are the user's to mend are one line and exit code 2, with the traceback behind
``HYDRA_FULL_ERROR=1``.
"""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from typing import Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from emorl_bench.core.errors import UserError
from emorl_bench.runner import plugins, schema
from emorl_bench.runner.compose import VERSION_BASE, conf_dir, precheck
from emorl_bench.runner.dry_run import dry_run
from emorl_bench.runner.job_process import run_apart

INTERRUPTED = 130
GRACE = 15.0  # seconds; a busy launcher takes several to end the others


def task(config: DictConfig) -> float | None:
    """One job, whatever launched it: one of a sweep has a process of its own, here or from its launcher."""
    hydra_config = HydraConfig.get()
    work = partial(_run, config, list(hydra_config.overrides.task), dict(hydra_config.runtime.choices))
    if hydra_config.mode == RunMode.MULTIRUN:
        own = plugins.own_process(hydra_config.launcher["_target_"])
        value: float | None = work() if own else run_apart(work, hydra_config.job_logging)
        return value
    try:
        return work()
    except UserError as error:
        if _full_error():
            raise
        _exit(str(error))


def _run(config: DictConfig, overrides: list[str], names: dict[str, Any]) -> float | None:
    from emorl_bench.runner.job import run

    return run(config, overrides, names)


def main() -> None:
    schema.register()
    plugins.register()
    parser = get_args_parser()
    parser.add_argument("--dry-run", action="store_true")
    args = parser.parse_args()
    sys.argv = [argument for argument in sys.argv if argument != "--dry-run"]  # Hydra reads the others again
    runs = not (args.help or args.hydra_help or args.cfg or args.info or args.shell_completion)
    try:
        if runs and args.dry_run:
            return dry_run(args)
        if runs:
            precheck(args)
        hydra.main(version_base=VERSION_BASE, config_path=str(conf_dir()), config_name="config")(task)()
    except UserError as error:
        if _full_error():
            raise
        _exit(str(error))
    except KeyboardInterrupt:
        print("\ninterrupted; the same command continues", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _full_error() -> bool:
    return os.environ.get("HYDRA_FULL_ERROR") == "1"


def _exit(message: str) -> NoReturn:
    """One line, once: of several ranks the first speaks, and the launcher then ends the others.

    A rank that is still here after a moment has an error of its own.
    """
    if os.environ.get("RANK", "0") != "0":
        time.sleep(GRACE)
    print(f"emorl-bench: {' '.join(message.split())}", file=sys.stderr, flush=True)
    sys.exit(2)


if __name__ == "__main__":
    from emorl_bench import cli  # other processes find `task` under this name only

    cli.main()
