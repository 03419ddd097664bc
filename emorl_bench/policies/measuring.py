"""Whether several learners are faster together than one after the other, on this device at this size."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from emorl_bench.core.clock import seconds_of
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Example, Joint, Sampling
from emorl_bench.policies.adapter_policy import AdapterPolicy
from emorl_bench.policies.together import can_stack, generate_together, hidden_together

Times = dict[str, float]


def time_joint(
    policies: Sequence[AdapterPolicy], prompts: Sequence[Example], sampling: Sampling
) -> tuple[Joint, Times]:
    """Time rollouts, and passes with gradients, of some policies on one base; nothing is charged or changed.

    Args:
        policies: as many as will learn at one time.
        prompts: those of one step.
        sampling: that of the rollouts.

    Returns:
        what is faster together, and the seconds of what fitted into memory.
    """
    decoder, found = policies[0].decoder, policies[0].decoder.joint
    rngs = [stream(0, "joint", str(i)) for i in range(len(policies))]

    def decode(together: bool) -> None:
        decoder.joint = Joint(decode=together, update=together)
        generate_together(policies, prompts, sampling, rngs)

    try:
        with decoder.ledger.free():
            rollout = policies[0].generate(prompts, sampling, stream(0, "joint"))

            def update(groups: Sequence[Sequence[AdapterPolicy]]) -> None:
                for group in groups:
                    slopes = hidden_together(group, [rollout] * len(group)).sum()
                    torch.autograd.grad(slopes, [p for policy in group for p in policy.parameters()])

            alone = [[policy] for policy in policies]
            decodes = _timed(decoder.backbone.device, lambda: decode(True), lambda: decode(False))
            updates = _timed(decoder.backbone.device, lambda: update([policies]), lambda: update(alone))
    finally:
        decoder.joint = found
    stacks = can_stack(policies)
    joint = Joint(decode=decodes[0] < decodes[1], update=stacks and updates[0] < updates[1])
    names = ("decode_together", "decode_alone", "update_together", "update_alone")
    found_s = dict(zip(names, (*decodes, *updates), strict=True))
    return joint, {name: seconds for name, seconds in found_s.items() if math.isfinite(seconds)}


def _timed(device: torch.device, together: Callable[[], None], alone: Callable[[], None]) -> Sequence[float]:
    """The seconds of both. What does not fit into memory takes for ever, and training divides it by itself."""
    try:
        return seconds_of(device, together, alone)
    except torch.OutOfMemoryError:
        pass
    torch.cuda.empty_cache()
    return math.inf, math.inf
