"""``emorl-bench``: one configuration or a sweep of them, by Hydra.

No torch at module level: a typo is answered in about a second. All checking that needs only the configuration happens
before Hydra starts a job; errors that are the user's to mend are one line and exit code 2, with the traceback behind
``HYDRA_FULL_ERROR=1``.
"""

from __future__ import annotations

import os
import sys

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from emorl_bench.core.errors import UserError
from emorl_bench.runner import launcher, schema
from emorl_bench.runner.compose import VERSION_BASE, conf_dir, precheck

INTERRUPTED = 130


def task(config: DictConfig) -> float | None:
    """One job, whatever launched it."""
    from emorl_bench.runner.job import run

    hydra_config = HydraConfig.get()
    try:
        return run(config, list(hydra_config.overrides.task), dict(hydra_config.runtime.choices))
    except UserError as error:
        if hydra_config.mode == RunMode.RUN and not _full_error():
            _exit(str(error))
        raise


def main() -> None:
    schema.register()
    launcher.register()
    args = get_args_parser().parse_args()
    runs = not (args.help or args.hydra_help or args.cfg or args.info or args.shell_completion)
    try:
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


def _exit(message: str) -> None:
    print(f"emorl-bench: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
