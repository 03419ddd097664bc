"""``emorl-sft``: fine-tune a base model on a task's written answers, and save it as a new base model."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from emorl_bench.cli.harness import one_line, run_hydra
from emorl_bench.config.checks import check_data, check_hardware, check_model, check_values
from emorl_bench.config.compose import plain
from emorl_bench.config.schema import Config
from emorl_bench.core.errors import UserError

PROGRAM = "emorl-sft"
ABOVE_ZERO = ("epochs", "batch", "learning_rate", "max_new_tokens")


def verify(config: Config) -> None:
    """Check what needs only the configuration.

    Raises:
        UserError: the first error found.
    """
    check_hardware(config)
    check_values(config)
    check_model(config["model"])
    if (kind := config["model"].get("quantisation")) is not None:
        raise UserError(f"model.quantisation={kind}: all weights are trained here, so none can be packed; say null")
    for key in ABOVE_ZERO:
        if isinstance(value := config[key], bool) or not isinstance(value, int | float) or value <= 0:
            raise UserError(f"{key}={value}: give a number above 0")
    check_data(config["task"])


def task(config: DictConfig) -> None:
    """Run one job."""
    with one_line(PROGRAM):
        print(f"warm model: {_trained(plain(config))}")


def _trained(config: Config) -> Path:
    from emorl_bench.config.targets import check_targets
    from emorl_bench.runner.placement import chosen_device
    from emorl_bench.runner.sft import fine_tune

    check_targets({"task": config["task"]})
    return fine_tune(config, chosen_device(config["hardware"]))


def main() -> None:
    """Run the program."""
    run_hydra(PROGRAM, "sft", task, verify)


if __name__ == "__main__":
    main()
