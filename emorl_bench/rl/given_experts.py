"""Experts that were trained elsewhere, in the place of the bank's."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Bench, Policy
from emorl_bench.policies.adapter_policy import AdapterPolicy
from emorl_bench.policies.peft_reading import read_adapters

log = logging.getLogger(__name__)


def given_experts(bench: Bench, paths: Sequence[str], key: str) -> list[Policy]:
    """One expert for each objective, in the order of ``bench.objectives``, from directories of PEFT LoRA adapters.

    Their training is no part of this run, so it is not in its cost.

    Args:
        bench: the bench, whose base model they are for.
        paths: the directories, in the order of the objectives.
        key: the configuration key that names them, for messages.

    Raises:
        UserError: there are more or fewer than objectives, the policies of this bench are no adapters, or
            `read_adapters` refuses one.
    """
    if len(paths) != len(bench.objectives):
        raise UserError(
            f"{key} names {len(paths)} adapters for {len(bench.objectives)} objectives; "
            f"give one for each, in this order: {', '.join(bench.objectives)}"
        )
    policies = [bench.new_policy(name) for name in bench.objectives]
    own = [policy for policy in policies if isinstance(policy, AdapterPolicy)]
    if len(own) < len(policies):
        raise UserError(f"{key}: the policies of this run are no adapters")
    adapters, unproved = read_adapters(paths, own[0].backbone, key)
    for path in unproved:
        log.warning(
            "%s: %s does not say by a hash which base model it is for; names and shapes fit this one", key, path
        )
    log.warning("%s: the experts were trained elsewhere; their training is not in the cost of this run", key)
    return [replace(policy, own=adapter) for policy, adapter in zip(own, adapters, strict=True)]
