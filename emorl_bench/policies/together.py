"""Several policies at once: whether they can share a forward pass, when that saves time, and their answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Policy
from emorl_bench.core.types import Example, Rollout, Sampling
from emorl_bench.decoding.decode import Decoder
from emorl_bench.models.backbone import responses
from emorl_bench.models.lora import Adapter, active
from emorl_bench.policies.adapter_policy import AdapterPolicy, BackbonePolicy

CPU_ROWS = 32  # more rows than this of one policy keep a CPU busy


def on_one_base(experts: Sequence[Policy]) -> tuple[Decoder, list[Adapter]]:
    """The adapters of several experts, and the decoder that they share.

    Raises:
        UserError: they are not adapters of one loaded base model, so they cannot be averaged.
    """
    own = [expert for expert in experts if isinstance(expert, AdapterPolicy)]
    adapters = [expert.own for expert in own if expert.own is not None]
    if len(adapters) < len(experts) or any(expert.decoder is not own[0].decoder for expert in own):
        names = ", ".join(expert.name for expert in experts)
        raise UserError(f"experts {names}: only adapters of the same loaded base model can be blended")
    return own[0].decoder, adapters


def can_stack(policies: Sequence[Policy]) -> bool:
    """Whether `hidden_together` can run them in one pass, with the numbers of one pass each.

    They must be adapters of one loaded base model. They must have no dropout, because its masks are drawn for one pass.
    """
    own = [policy for policy in policies if isinstance(policy, AdapterPolicy)]
    one_base = len(own) == len(policies) and all(policy.decoder is own[0].decoder for policy in own)
    return one_base and all(policy.own is not None and policy.own.dropout == 0 for policy in own)


def fills_a_pass(policy: Policy, rows: int, *, decoding: bool = False) -> bool:
    """Whether one policy's rows keep the device busy, so that stacking the rows of several policies saves no time.

    It is decided for the run (`Joint`), or by what was measured on CPUs (`benchmarks.train`): at 64 rows each, experts
    one after the other are as fast as together.
    """
    if not isinstance(policy, BackbonePolicy):
        return False
    joint = policy.decoder.joint
    pays = joint.decode if decoding else joint.update
    return policy.backbone.device.type == "cpu" and rows > CPU_ROWS if pays is None else not pays


def generate_together(
    policies: Sequence[Policy], examples: Sequence[Example], sampling: Sampling, rngs: Sequence[torch.Generator]
) -> list[Rollout]:
    """Each policy's answers to the same prompts, equal to those that its own `generate` gives.

    The costs of policy i are charged to the i-th of the open costs (`Ledger.alone`).
    """
    if len(policies) == 1:
        return [policies[0].generate(examples, sampling, rngs[0])]
    decoder, adapters = on_one_base(policies)
    rows = len(examples) * sampling.samples_per_prompt
    if fills_a_pass(policies[0], rows, decoding=True):
        rollouts = []
        for i, (policy, rng) in enumerate(zip(policies, rngs, strict=True)):
            with decoder.ledger.alone(i):
                rollouts.append(policy.generate(examples, sampling, rng))
        return rollouts
    joint = decoder.decode_policies(adapters, None, [examples] * len(policies), sampling, rngs)
    own = [joint.rows(range(i * rows, (i + 1) * rows)) for i in range(len(policies))]
    return [replace(rollout, group_size=sampling.samples_per_prompt) for rollout in own]


def hidden_together(policies: Sequence[Policy], rollouts: Sequence[Rollout]) -> Tensor:
    """(M, B, T, H): each policy's `hidden` of its own rollout, in one pass; T is the longest of all rollouts.

    Several policies must satisfy `can_stack`, and their rollouts must have equal numbers of rows.
    """
    if len(policies) == 1:
        return policies[0].hidden(rollouts[0])[None]
    decoder, adapters = on_one_base(policies)
    with active(decoder.backbone.layers, adapters):
        hidden = decoder.backbone.forced(rollouts)
    return hidden.unflatten(0, (len(rollouts), -1))


def concatenated(rollouts: Sequence[Rollout], fill: int = 0) -> Rollout:
    """The rows of several rollouts as one rollout of groups of one, for computations on single rows."""
    ids_BT, mask_BT = responses(rollouts, fill)
    logprobs = [pad(r.logprobs_BT, (0, ids_BT.shape[1] - r.logprobs_BT.shape[1])) for r in rollouts]
    return Rollout(
        tuple(e for r in rollouts for e in r.examples),
        tuple(text for r in rollouts for text in r.responses),
        ids_BT,
        mask_BT,
        torch.cat(logprobs),
        1,
        rollouts[0].temperature,
    )
