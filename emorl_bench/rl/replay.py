"""A replay buffer: the groups of samples of the last steps, to learn from them again.

The buffer is part of the learner's checkpoint, so a training that resumes draws the same groups. Rewards stay as they
were when the answers were scored, also where a method has changed its weights since.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from emorl_bench.core.types import Example, Rollout
from emorl_bench.policies.together import concatenated


@dataclass(frozen=True)
class Group:
    """The samples of one prompt and their rewards (G,)."""

    rollout: Rollout
    rewards: Tensor


def groups_of(rollout: Rollout, rewards_B: Tensor) -> list[Group]:
    """Divide a rollout into groups, one for each prompt."""
    g = rollout.group_size
    starts = range(0, len(rollout.examples), g)
    return [Group(replace(rollout.rows(range(low, low + g)), group_size=g), rewards_B[low : low + g]) for low in starts]


def joined(groups: Sequence[Group]) -> tuple[Rollout, Tensor]:
    """Groups of equal size as one rollout, and its rewards (B,)."""
    whole = concatenated([group.rollout for group in groups])
    size = groups[0].rollout.group_size
    return replace(whole, group_size=size), torch.cat([group.rewards for group in groups])


class Replay:
    """At most ``capacity`` groups; the oldest leave first. A group without any reward is not stored."""

    def __init__(self, capacity: int) -> None:
        """The buffer is empty."""
        self.groups: deque[Group] = deque(maxlen=capacity)

    def add(self, groups: Sequence[Group]) -> None:
        """Store groups, the oldest first."""
        self.groups.extend(group for group in groups if not group.rewards.isnan().all())

    def draw(self, count: int, rng: torch.Generator) -> list[Group]:
        """``count`` different groups in random order, or all groups where there are fewer."""
        order = torch.randperm(len(self.groups), generator=rng)[:count].tolist()
        return [self.groups[i] for i in order]

    def state_dict(self) -> dict[str, Tensor]:
        """The stored groups as tensors; texts are JSON in a tensor of bytes (uint8)."""
        if not self.groups:
            return {}
        rollout, rewards_B = joined(list(self.groups))
        said = {
            "examples": [asdict(example) for example in rollout.examples],
            "responses": rollout.responses,
            "group_size": rollout.group_size,
            "temperature": rollout.temperature,
        }
        return {
            "replay/said": torch.tensor(list(json.dumps(said).encode()), dtype=torch.uint8),
            "replay/ids": rollout.response_ids_BT,
            "replay/mask": rollout.response_mask_BT,
            "replay/logprobs": rollout.logprobs_BT,
            "replay/rewards": rewards_B,
        }

    def load_state_dict(self, state: Mapping[str, Tensor], device: torch.device) -> None:
        """Set the buffer to what `state_dict` has returned, with its tensors on a device."""
        self.groups.clear()
        if "replay/said" not in state:
            return
        said = json.loads(bytes(state["replay/said"].tolist()))
        ids_BT, mask_BT, logprobs_BT = (state[f"replay/{name}"].to(device) for name in ("ids", "mask", "logprobs"))
        examples = tuple(Example(**example) for example in said["examples"])
        size, temperature = said["group_size"], said["temperature"]
        rollout = Rollout(examples, tuple(said["responses"]), ids_BT, mask_BT, logprobs_BT, size, temperature)
        self.add(groups_of(rollout, state["replay/rewards"]))
