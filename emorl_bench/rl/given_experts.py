"""Experts that were trained elsewhere, in the place of the bank's."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Bench, Policy
from emorl_bench.policies.adapter_policy import AdapterPolicy
from emorl_bench.policies.peft_reading import check_directory, read_adapters

KEY = "method.experts"
Given = Sequence[str] | str  # directories; one text may name several, with commas between them

log = logging.getLogger(__name__)


def check_given(given: Given | None) -> None:
    """Look for the adapters before a model is loaded.

    Raises:
        UserError: a directory holds no adapter of PEFT.
    """
    for path in _paths(given or ()):
        check_directory(path, KEY)


def _paths(given: Given) -> list[str]:
    return given.split(",") if isinstance(given, str) else [str(path) for path in given]


def given_experts(bench: Bench, given: Given) -> list[Policy]:
    """One expert for each objective, in the order of ``bench.objectives``, from directories of PEFT LoRA adapters.

    Their training is no part of this run, so it is not in its cost.

    Args:
        bench: the bench, whose base model they are for.
        given: the directories, in the order of the objectives.

    Raises:
        UserError: there are more or fewer than objectives, the policies of this bench are no adapters, or
            `read_adapters` refuses one.
    """
    paths = _paths(given)
    if len(paths) != len(bench.objectives):
        raise UserError(
            f"{KEY} names {len(paths)} adapters for {len(bench.objectives)} objectives; "
            f"give one for each, in this order: {', '.join(bench.objectives)}"
        )
    policies = [bench.new_policy(name) for name in bench.objectives]
    own = [policy for policy in policies if isinstance(policy, AdapterPolicy)]
    if len(own) < len(policies):
        raise UserError(f"{KEY}: the policies of this run are no adapters")
    adapters, unproved = read_adapters(paths, own[0].backbone, KEY)
    for path in unproved:
        log.warning(
            "%s: %s does not say by a hash which base model it is for; names and shapes fit this one", KEY, path
        )
    log.warning("%s: the experts were trained elsewhere; their training is not in the cost of this run", KEY)
    return [replace(policy, own=adapter) for policy, adapter in zip(own, adapters, strict=True)]
