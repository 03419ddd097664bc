"""``emorl-warm-up``: a base model learns from a task's written answers, and is saved as a new base model."""

from __future__ import annotations

from emorl_bench.config.checks import check_data, check_model, check_values
from emorl_bench.core.errors import UserError
from emorl_bench.program import Config, check_hardware, device_of, run

ABOVE_ZERO = ("epochs", "batch", "learning_rate", "max_new_tokens")


def verify(config: Config) -> None:
    """What can be known to be wrong from the configuration alone; raises the first `UserError`."""
    check_hardware(config)
    check_values(config)
    check_model(config["model"])
    for key in ABOVE_ZERO:
        if not isinstance(value := config[key], int | float) or value <= 0:
            raise UserError(f"{key}={value}: give a number above 0")
    check_data(config["task"])


def work(config: Config) -> None:
    from emorl_bench.config.targets import check_targets
    from emorl_bench.runner.supervised import warm_up

    check_targets({"task": config["task"]})
    print(f"warm model: {warm_up(config, device_of(config))}")


def main() -> None:
    run("emorl-warm-up", "warm_up", verify, work)


if __name__ == "__main__":
    main()
