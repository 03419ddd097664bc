"""What a run does for speed on its device (``hardware.check_every``, ``graphs``, ``joint_experts``), and how it chose.

On a CPU every ``auto`` is a rule, so that runs repeat. On a GPU it is measured when a run starts, which no method pays
for, and recorded in ``summary.json``. No choice changes a number but by rounding.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Bench
from emorl_bench.core.types import Joint
from emorl_bench.decoding.decode import Decoder
from emorl_bench.decoding.graphs import CudaGraph, Record
from emorl_bench.decoding.measuring import time_graphs
from emorl_bench.policies.adapter_policy import AdapterPolicy
from emorl_bench.policies.measuring import time_joint

log = logging.getLogger(__name__)

AUTO = "auto"
SELDOM = 16  # tokens between two checks on a GPU: a wait takes about as long as a step


def check_every(hardware: Mapping[str, Any], device: torch.device) -> int:
    """``hardware.check_every``; null is 1 on a CPU, where a check costs nothing. Earlier runs have no such key."""
    every = hardware.get("check_every")
    if every is None:
        return SELDOM if device.type == "cuda" else 1
    return int(every)


@dataclass
class Throughput:
    """What was chosen, and the seconds that were measured for it."""

    check_every: int = 1
    graphs: bool = False
    joint: Joint = field(default_factory=Joint)
    seconds: dict[str, float] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """For ``summary.json``; null is the rule of CPUs."""
        joint = {"joint_decode": self.joint.decode, "joint_update": self.joint.update}
        return {"check_every": self.check_every, "graphs": self.graphs, **joint, "seconds": self.seconds}


def choose(
    hardware: Mapping[str, Any], decoder: Decoder, bench: Bench, learners: int, record: Record = CudaGraph
) -> Throughput:
    """Make all choices, and set the decoder accordingly.

    Args:
        hardware: the settings, with the device decided.
        decoder: the decoder of all policies.
        bench: whose schedule a step is timed at.
        learners: how many adapters learn at one time.
        record: what records steps.

    Raises:
        UserError: graphs were asked for where there can be none.
    """
    device, found = decoder.backbone.device, Throughput(decoder.check_every)
    graphs, joint = hardware.get("graphs", False), hardware.get("joint_experts", AUTO)
    if graphs is True:
        _check_graphs(decoder)
    if decoder.fused is not None and decoder.check_every > 1 and graphs is not False and _records(device, record):
        times = time_graphs(decoder.backbone, decoder.fused, record)
        found.seconds |= {"launched": times.launched, "recorded": times.recorded}
        found.graphs = times.same if graphs is True else times.pays
        decoder.record = record if found.graphs else None
    if joint is True:
        found.joint = Joint(decode=True, update=True)
    elif joint == AUTO and device.type == "cuda" and learners > 1 and decoder.ranks.count == 1:
        policies = [bench.new_policy(f"timed{i}") for i in range(learners)]
        own = [policy for policy in policies if isinstance(policy, AdapterPolicy)]
        prompts = bench.train[: bench.training.batch_prompts]
        found.joint, times_of = time_joint(own, prompts, bench.sampling)
        found.seconds |= times_of
    decoder.joint = found.joint
    if found.seconds:
        log.info("chosen for speed: %s", found.record())
    return found


def _records(device: torch.device, record: Record) -> bool:
    return device.type == "cuda" or record is not CudaGraph


def _check_graphs(decoder: Decoder) -> None:
    if decoder.backbone.device.type != "cuda":
        raise UserError("hardware.graphs=true: only GPUs have CUDA graphs; say hardware.graphs=auto")
    if decoder.check_every == 1:
        raise UserError("hardware.graphs=true: every token is checked; say hardware.check_every=16 as well")
    if decoder.fused is None:
        raise UserError("hardware.graphs=true: this model is decoded by its own modules; say hardware.graphs=auto")
