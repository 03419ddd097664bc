"""``emorl-train-scorer``: train a scorer (several with ``-m``), judge it on groups it has not seen, print its card.

What is in the cache is not trained again: the weights are found by a hash of settings, data and encoder, the same that
``emorl-bench`` looks for. As there, no torch at module level, and an error that is the user's to mend is one line.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig

from emorl_bench.core.errors import UserError, did_you_mean
from emorl_bench.runner.compose import VERSION_BASE, conf_dir, plain, precheck

ROOT = "train_scorer"
TWINS = ("train", "held_out")
DEVICES = ("auto", "cpu", "cuda")
INTERRUPTED = 130


def verify(config: Mapping[str, Any]) -> None:
    """What can be known to be wrong from the configuration alone; raises the first `UserError`."""
    for key, value, known in (
        ("twin", config["twin"], TWINS),
        ("hardware.device", config["hardware"]["device"], DEVICES),
    ):
        if value not in known:
            raise UserError(f"{key}={value}: unknown{did_you_mean(str(value), known)}")
    if not isinstance(threads := config["hardware"]["threads"], int) or threads < 1:
        raise UserError(f"hardware.threads={threads}: give a whole number above 0")
    if not isinstance(config["force"], bool):
        raise UserError(f"force={config['force']}: give true or false")
    for key, value in config["scorer"].items():
        if value == "???":
            raise UserError(f"scorer.{key} is missing: say scorer.{key}=VALUE")


def job(config: DictConfig) -> None:
    try:
        print(trained_card(plain(config)))
    except UserError as error:
        if _full_error():
            raise
        _exit(str(error))


def trained_card(config: Mapping[str, Any]) -> str:
    """The card of the configured scorer's twin, as Markdown; trained first where the cache has none.

    Raises:
        UserError: the scorer is not one that is trained, or what training and its data may raise.
    """
    import torch
    from hydra.utils import instantiate

    from emorl_bench.runner.targets import check_targets
    from emorl_bench.scorer_training.artefacts import CARD_TEXT
    from emorl_bench.scorers.trained import Trained

    verify(config)
    check_targets({"scorer": config["scorer"]})
    torch.set_num_threads(config["hardware"]["threads"])
    scorer = instantiate(dict(config["scorer"]), _convert_="object")
    if not isinstance(scorer, Trained):
        raise UserError(
            f"scorer={config['scorer']['_target_']}: is not trained; choose one of {', '.join(trainable())}"
        )
    scorer = scorer.held_out() if config["twin"] == "held_out" else scorer
    directory = scorer.on(_device(config["hardware"]["device"])).train(afresh=config["force"])
    return f"{(directory / CARD_TEXT).read_text(encoding='utf-8')}\nKept in {directory}"


def trainable() -> list[str]:
    """Names of the configurations in ``conf/scorer`` that say which encoder they are trained on."""
    return sorted(file.stem for file in Path(conf_dir(), "scorer").glob("*.yaml") if "\nencoder:" in file.read_text())


def main() -> None:
    args = get_args_parser().parse_args()
    runs = not (args.help or args.hydra_help or args.cfg or args.info or args.shell_completion)
    try:
        if runs:
            precheck(args, ROOT, verify)
        hydra.main(version_base=VERSION_BASE, config_path=str(conf_dir()), config_name=ROOT)(job)()
    except UserError as error:
        if _full_error():
            raise
        _exit(str(error))
    except KeyboardInterrupt:
        print("\ninterrupted; the same command begins again", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _device(name: str) -> Any:
    import torch

    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UserError("hardware.device=cuda: no GPU that torch can use was found; say hardware.device=cpu")
    return torch.device("cuda" if name != "cpu" and available else "cpu")


def _full_error() -> bool:
    return os.environ.get("HYDRA_FULL_ERROR") == "1"


def _exit(message: str) -> NoReturn:
    print(f"emorl-train-scorer: {' '.join(message.split())}", file=sys.stderr, flush=True)
    sys.exit(2)


if __name__ == "__main__":
    main()
