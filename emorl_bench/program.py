"""What the programs that Hydra configures share beside `cli`: composing first, one-line errors, exit codes.

No torch at module level: a typo is answered in about a second.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig

from emorl_bench.config.compose import VERSION_BASE, conf_dir, plain, precheck
from emorl_bench.core.errors import UserError, did_you_mean

DEVICES = ("auto", "cpu", "cuda")
INTERRUPTED = 130

Config = Mapping[str, Any]


def run(name: str, root: str, verify: Callable[[Config], None], work: Callable[[Config], object]) -> None:
    """``name`` on the command line: ``work`` on what ``conf/<root>.yaml`` composes to, after ``verify``."""

    def job(config: DictConfig) -> None:
        try:
            work(plain(config))
        except UserError as error:
            _stop(name, error)

    args = get_args_parser().parse_args()
    runs = not (args.help or args.hydra_help or args.cfg or args.info or args.shell_completion)
    try:
        if runs:
            precheck(args, root, verify)
        hydra.main(version_base=VERSION_BASE, config_path=str(conf_dir()), config_name=root)(job)()
    except UserError as error:
        _stop(name, error)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command begins again", file=sys.stderr)
        sys.exit(INTERRUPTED)


def check_hardware(config: Config) -> None:
    """Raise a `UserError` where ``hardware`` names no device or no number of threads."""
    hardware = config["hardware"]
    if hardware["device"] not in DEVICES:
        raise UserError(f"hardware.device={hardware['device']}: unknown{did_you_mean(hardware['device'], DEVICES)}")
    if not isinstance(threads := hardware["threads"], int) or threads < 1:
        raise UserError(f"hardware.threads={threads}: give a whole number above 0")
    if not isinstance(config["force"], bool):
        raise UserError(f"force={config['force']}: give true or false")


def device_of(config: Config) -> Any:
    """The torch device that ``hardware.device`` asks for; torch is held to ``hardware.threads``."""
    import torch

    name, available = config["hardware"]["device"], torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UserError("hardware.device=cuda: no GPU that torch can use was found; say hardware.device=cpu")
    torch.set_num_threads(config["hardware"]["threads"])
    return torch.device("cuda" if name != "cpu" and available else "cpu")


def _stop(name: str, error: UserError) -> None:
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        raise error
    print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
    sys.exit(2)
