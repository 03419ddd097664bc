"""``emorl-train-scorer``: train a scorer (several with ``-m``), evaluate it on unseen groups, and print its card.

A scorer in the cache is not trained again. Its weights are found by a hash of settings, data and encoder, as in
``emorl-bench``.
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from emorl_bench.cli.harness import one_line, run_hydra
from emorl_bench.config.bounds import check_node, check_open
from emorl_bench.config.checks import check_hardware, check_values
from emorl_bench.config.compose import conf_dir, plain
from emorl_bench.config.schema import Config
from emorl_bench.core.errors import UserError, did_you_mean

PROGRAM = "emorl-train-scorer"
TWINS = ("train", "held_out")


def verify(config: Config) -> None:
    """Check what needs only the configuration.

    Raises:
        UserError: the first error found.
    """
    if (twin := config["twin"]) not in TWINS:
        raise UserError(f"twin={twin}: unknown{did_you_mean(str(twin), TWINS)}")
    check_hardware(config)
    check_values(config)
    check_node(config["scorer"], "scorer", f"choose one of {', '.join(trainable())}")
    check_open(config["scorer"], "scorer")
    for key, value in config["scorer"].items():
        if value == "???":
            raise UserError(f"scorer.{key} is missing: say scorer.{key}=VALUE")


def task(config: DictConfig) -> None:
    """Run one job."""
    with one_line(PROGRAM):
        print(trained_card(plain(config)))


def trained_card(config: Config) -> str:
    """The card of the configured scorer's twin, as Markdown.

    The twin is trained first where the cache does not have it.

    Raises:
        UserError: the scorer is not one that is trained, or training or its data raise it.
    """
    from emorl_bench.config.targets import build, check_targets
    from emorl_bench.runner.placement import chosen_device
    from emorl_bench.scorer_training.artefacts import CARD_TEXT
    from emorl_bench.scorers.trained import Trained

    verify(config)
    check_targets({"scorer": config["scorer"]})
    scorer = build(config["scorer"])
    if not isinstance(scorer, Trained):
        raise UserError(
            f"scorer={config['scorer']['_target_']}: is not trained; choose one of {', '.join(trainable())}"
        )
    scorer = scorer.held_out() if config["twin"] == "held_out" else scorer
    directory = scorer.on(chosen_device(config["hardware"])).train(afresh=config["force"])
    return f"{(directory / CARD_TEXT).read_text(encoding='utf-8')}\nKept in {directory}"


def trainable() -> list[str]:
    """Names of the configurations in ``conf/scorer`` that name an encoder to train."""
    return sorted(file.stem for file in Path(conf_dir(), "scorer").glob("*.yaml") if "\nencoder:" in file.read_text())


def main() -> None:
    """Run the program."""
    run_hydra(PROGRAM, "train_scorer", task, verify)


if __name__ == "__main__":
    main()
