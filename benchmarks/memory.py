"""The bytes of weights that are alive while experts are decoded, counted in the interpreter.

A decode of one short prompt has activations and caches of kilobytes. So what is alive during it is weights: the base
model, the adapters, and the fused or folded copies that the decoder has made of them.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.models import Shape, random_setting
from benchmarks.ours import blended, one_policy, scattered_weights

EVERY = 250  # operations between two counts, so each decode has a few counts
KINDS = frozenset({torch.Tensor, torch.nn.Parameter})


@dataclass(frozen=True)
class WeightBytes:
    """Bytes of weights.

    Attributes:
        bare: a base model and one adapter, and nothing else.
        one: what is alive during a decode of one policy.
        three: what is alive during a decode of a blend of three experts.
    """

    bare: int
    one: int
    three: int


def weight_bytes(shape: Shape, dtype: torch.dtype, device: torch.device) -> WeightBytes:
    """Count the bytes of weights of a shape."""
    before = _alive()
    short = replace(shape, prompts=1, prompt_tokens=(4, 4), new_tokens=3, tied=True)
    setting = random_setting(short, dtype=dtype, device=device)
    adapter = sum(tensor.nbytes for tensor in setting.experts[0].adapter().values())
    others = adapter * (len(setting.experts) - 1)  # they are loaded, but one policy does not need them
    bare = _total(_alive(), before) - others
    one = _peak(lambda: one_policy(setting, 1).run(setting.prompts()), before) - others
    weights_WM = scattered_weights(1, len(setting.experts))
    three = _peak(lambda: blended(setting, weights_WM).run(setting.prompts()), before)
    return WeightBytes(bare, one, three)


def _peak(act: Callable[[], object], before: Mapping[int, int]) -> int:
    watch = _Watch(before)
    with watch:
        act()
    return watch.peak


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Look at all living tensors at every 250th operation."""

    def __init__(self, before: Mapping[int, int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.before, self._operations = before, 0
        self.peak: int = _total(_alive(), before)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self._operations += 1
        if self._operations % EVERY == 0:
            self.peak = max(self.peak, _total(_alive(), self.before))
        return out


def _alive() -> dict[int, int]:
    """Address -> bytes of every tensor's storage; views share one."""
    tensors = [thing for thing in gc.get_objects() if type(thing) in KINDS and not thing.is_meta]
    storages = [tensor.untyped_storage() for tensor in tensors]
    return {storage.data_ptr(): storage.nbytes() for storage in storages}


def _total(alive: Mapping[int, int], before: Mapping[int, int]) -> int:
    return sum(size for address, size in alive.items() if address not in before)
