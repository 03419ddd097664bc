"""``emorl-train-scorer``: train a scorer (several with ``-m``), judge it on groups it has not seen, print its card.

What is in the cache is not trained again: the weights are found by a hash of settings, data and encoder, the same that
``emorl-bench`` looks for.
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from emorl_bench.cli.harness import Config, one_line, run_hydra
from emorl_bench.config.checks import check_hardware
from emorl_bench.config.compose import conf_dir, plain
from emorl_bench.core.errors import UserError, did_you_mean

PROGRAM = "emorl-train-scorer"
TWINS = ("train", "held_out")


def verify(config: Config) -> None:
    """What can be known to be wrong from the configuration alone; raises the first `UserError`."""
    if (twin := config["twin"]) not in TWINS:
        raise UserError(f"twin={twin}: unknown{did_you_mean(str(twin), TWINS)}")
    check_hardware(config)
    for key, value in config["scorer"].items():
        if value == "???":
            raise UserError(f"scorer.{key} is missing: say scorer.{key}=VALUE")


def task(config: DictConfig) -> None:
    with one_line(PROGRAM):
        print(trained_card(plain(config)))


def trained_card(config: Config) -> str:
    """The card of the configured scorer's twin, as Markdown; trained first where the cache has none.

    Raises:
        UserError: the scorer is not one that is trained, or what training and its data may raise.
    """
    from emorl_bench.config.targets import build, check_targets
    from emorl_bench.runner.group import chosen_device
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
    """Names of the configurations in ``conf/scorer`` that say which encoder they are trained on."""
    return sorted(file.stem for file in Path(conf_dir(), "scorer").glob("*.yaml") if "\nencoder:" in file.read_text())


def main() -> None:
    run_hydra(PROGRAM, "train_scorer", task, verify)


if __name__ == "__main__":
    main()
