"""The differentiable pass of training: plain, with gradient checkpointing and, on demand, with torch.compile.

Three experts make forward and backward passes on given responses. Keys of the last line, for each shape: ``time_SHAPE``
is the time with recomputation over that without, and ``saved_SHAPE`` the bytes kept for the backward pass without
recomputation over those with. ``--sides plain,recomputed,compiled`` takes minutes more. ``compile_SHAPE`` is then the
time without torch.compile over that with compiled blocks. The first pass, which compiles them, is in the notes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import Parameter
from transformers.modeling_layers import GradientCheckpointingLayer

from benchmarks.models import SHAPES, Setting, Shape, micro, random_setting
from benchmarks.record import Options, Record, options, run
from benchmarks.timing import interleaved, say, seconds_of, timed
from emorl_bench.core.errors import UserError
from emorl_bench.core.types import Rollout
from emorl_bench.policies.together import hidden_together

SAMPLES = 4  # samples of each prompt
BATCH = {"tiny": 4, "tiny_llama": 4, "small": 2}  # prompts of each expert
SIDES: dict[str, tuple[bool, bool]] = {"plain": (False, False), "recomputed": (True, False), "compiled": (False, True)}
EXTRA = {"shapes": (",".join(BATCH), "which of them"), "sides": ("plain,recomputed", "also: compiled")}


def main(argv: Sequence[str] | None) -> None:
    """Run the benchmark.

    Raises:
        UserError: a shape or a side is unknown, or what `options` raises.
    """
    given = options("recompute", __doc__, argv, EXTRA)
    names, sides = chosen(given, "shapes", BATCH), chosen(given, "sides", SIDES)
    record = Record(given)
    for name in names:
        shape = replace(SHAPES[name], prompts=BATCH[name])
        record.use_threads(shape.threads)
        measure(record, micro(shape) if given.quick else shape, name, sides)
    record.close()


def chosen(given: Options, option: str, known: Iterable[str]) -> list[str]:
    """The names of a comma-separated option.

    Raises:
        UserError: a name is not among the known ones.
    """
    names = given.extra[option].split(",")
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"--{option}={','.join(unknown)}: known are {', '.join(known)}")
    return names


@dataclass
class TrainingPass:
    """The differentiable pass of three experts, each on its own prompts and responses.

    Attributes:
        shape: the architecture and the work.
        options: the command line.
        recomputed: whether gradients are checkpointed.
        compiled: whether blocks are compiled.
    """

    shape: Shape
    options: Options
    recomputed: bool
    compiled: bool

    @cached_property
    def setting(self) -> Setting:
        """The model and its experts, made once."""
        setting = random_setting(self.shape, dtype=self.options.dtype, device=self.options.device)
        if self.compiled:
            for block in setting.backbone.model.modules():
                if isinstance(block, GradientCheckpointingLayer):
                    block.forward = torch.compile(block.forward, dynamic=True)  # type: ignore[method-assign]
        if self.recomputed:
            setting.backbone.checkpoint_gradients()
        return setting

    def rollouts(self) -> list[Rollout]:
        """Random responses to new prompts, one rollout for each expert."""
        return [responses(self.setting, self.shape.new_tokens) for _ in self.setting.experts]

    def prepare(self) -> Callable[[], object]:
        """Draw rollouts; the function that is returned makes the forward and the backward pass."""
        given, policies = self.rollouts(), self.setting.experts
        parameters = [parameter for policy in policies for parameter in policy.parameters()]

        def act() -> None:
            hidden_MBTH = hidden_together(policies, given)
            torch.autograd.grad(hidden_MBTH, parameters, torch.ones_like(hidden_MBTH))

        return act

    def saved(self) -> int:
        """Bytes that a forward pass keeps for the backward pass."""
        return saved_bytes(partial(hidden_together, self.setting.experts, self.rollouts()))


def responses(setting: Setting, tokens: int) -> Rollout:
    """A rollout of random tokens."""
    examples = tuple(example for example in setting.prompts() for _ in range(SAMPLES))
    shape, device = (len(examples), tokens), setting.backbone.device
    ids_BT = torch.randint(3, setting.backbone.vocabulary, shape, device=device)
    return Rollout(examples, ("",) * len(examples), ids_BT, torch.ones_like(ids_BT).bool(), ids_BT.float(), SAMPLES)


def saved_bytes(act: Callable[[], Tensor]) -> int:
    """The bytes of the distinct storages that a pass keeps for its backward pass, without parameters."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        result = act()
    assert result.requires_grad
    return sum(kept.values())


def measure(record: Record, shape: Shape, name: str, sides: Sequence[str]) -> None:
    """Time all sides of one shape in turns, and count the bytes that they keep."""
    given = record.options
    passes = {side: TrainingPass(shape, given, *SIDES[side]) for side in sides}
    for side, one in passes.items():
        record.notes[f"first pass, {name}, {side}"] = seconds_of(one.prepare(), given.device)
        say(f"{name}, {side}: first pass {record.notes[f'first pass, {name}, {side}']:.3g} s")
    turns = {side: timed(one.prepare, given.device) for side, one in passes.items()}
    timings = interleaved(name, turns, given.repeats)
    kept = {side: one.saved() for side, one in passes.items()}
    for side, timing in timings.items():
        record.row(f"{name}, {side}", timing, saved_mib=kept[side] / 2**20, rows=3 * shape.prompts * SAMPLES)
    if {"plain", "recomputed"} <= set(sides):
        record.ratio(f"time_{name}", timings["recomputed"].median / timings["plain"].median)
        record.ratio(f"saved_{name}", kept["plain"] / kept["recomputed"])
    if {"plain", "compiled"} <= set(sides):
        record.ratio(f"compile_{name}", timings["plain"].median / timings["compiled"].median)


if __name__ == "__main__":
    sys.exit(run(main))
