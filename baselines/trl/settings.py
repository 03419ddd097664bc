"""One of our update rules in the terms of TRL's trainers, so that both learn under the same settings.

A setting without a counterpart in TRL is refused, never dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import UpdateRule
from emorl_bench.rl.grpo import Grpo
from emorl_bench.rl.rloo import Rloo

TrainerName = Literal["grpo", "rloo", "gdpo"]
TRAINERS: tuple[TrainerName, ...] = ("grpo", "rloo", "gdpo")


@dataclass(frozen=True)
class TrlSettings:
    """Settings of one call of a trainer.

    Attributes:
        arguments: arguments of TRL's configuration.
        epochs: how often a step goes through its answers.
        minibatches: the number of parts that each epoch divides the answers into.
    """

    arguments: dict[str, Any]
    epochs: int = 1
    minibatches: int = 1


def trl_settings(trainer: TrainerName, update: UpdateRule, rows: int) -> TrlSettings:
    """The settings of TRL's ``trainer`` for ``rows`` answers a step.

    Raises:
        UserError: this is not the update rule of that trainer, or it has a setting that TRL cannot do.
    """
    settings = _rloo(update) if trainer == "rloo" else _grpo(trainer, update)
    assert isinstance(update, Grpo | Rloo)
    if rows % settings.minibatches:
        raise UserError(f"update.minibatches={settings.minibatches}: TRL divides the {rows} answers of a step evenly")
    size = rows // settings.minibatches
    at_once = _largest_divisor(size, update.micro_batch or size)
    shared = {
        "learning_rate": update.learning_rate,
        "lr_scheduler_type": "constant",
        "weight_decay": update.weight_decay,
        "max_grad_norm": update.clip_norm,
        "beta": update.kl_coefficient,
        "num_iterations": settings.epochs,
        "max_steps": settings.epochs * settings.minibatches,
        "per_device_train_batch_size": at_once,
        "gradient_accumulation_steps": size // at_once,
        "steps_per_generation": rows // at_once,
    }
    return TrlSettings(settings.arguments | shared, settings.epochs, settings.minibatches)


def _grpo(trainer: TrainerName, update: UpdateRule) -> TrlSettings:
    each = trainer == "gdpo"
    if not isinstance(update, Grpo) or (update.normalise == "each") != each:
        raise UserError(f"update: TRL's {trainer.upper()} learns with the settings of update={trainer} alone")
    if each and update.scale != "batch":
        raise UserError(f"update.scale={update.scale}: TRL's GDPO knows update.scale=batch alone")
    arguments = {
        "multi_objective_aggregation": "normalize_then_sum" if each else "sum_then_normalize",
        "scale_rewards": update.scale,
        "loss_type": "grpo" if update.average == "response" else "dapo",
        "epsilon": update.clip,
        "use_bias_correction_kl": False,  # TRL's default is on (DeepSeek-V3.2), where the KL has another gradient
    }
    return TrlSettings(arguments, update.epochs, update.minibatches)


def _rloo(update: UpdateRule) -> TrlSettings:
    if not isinstance(update, Rloo):
        raise UserError("update: TRL's RLOO learns with the settings of update=rloo alone")
    if update.train_on != "ids" or not update.end_token:
        raise UserError(
            f"update.train_on={update.train_on}, update.end_token={update.end_token}: TRL trains on sampled ids and "
            "their end token; use update.train_on=ids update.end_token=true"
        )
    return TrlSettings({"normalize_advantages": False})


def _largest_divisor(of: int, limit: int) -> int:
    """The largest micro-batch of at most ``limit`` rows; TRL's micro-batches all have one size."""
    return next(n for n in range(min(of, limit), 0, -1) if of % n == 0)
