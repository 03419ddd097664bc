"""A stand-in for CUDA graphs on a CPU: the operations of a function are recorded, and replayed on the same memory.

As in a CUDA graph nothing of the host is replayed: a number of Python that has changed since has no effect.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Recorder(TorchDispatchMode):
    made = 0

    def __init__(self, work: Callable[[], Tensor]) -> None:
        super().__init__()
        self.steps: list[tuple[Any, Any, Any, Any]] = []
        held = [(tensor, tensor.clone()) for tensor in _written_by(work)]
        with self:
            self.output = work()
        for tensor, before in held:  # recording runs nothing on a GPU
            tensor.copy_(before)
        type(self).made += 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        given = {x.untyped_storage().data_ptr() for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        outs = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
        fresh = [x for x in outs if x.untyped_storage().data_ptr() not in given]
        if fresh or func._schema.is_mutable:  # a view needs no work: it shows the same memory
            self.steps.append((func, args, kwargs, fresh))
        return out

    def replay(self) -> None:
        for func, args, kwargs, fresh in self.steps:
            out = func(*args, **kwargs)
            found = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
            for kept, new in zip(fresh, found, strict=False):
                kept.copy_(new)


class _Written(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.tensors: list[Tensor] = []
        self.copies: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.is_mutable:
            self.tensors.append(args[0])
            self.copies.append(args[0].clone())
        return func(*args, **(kwargs or {}))


def _written_by(work: Callable[[], Tensor]) -> list[Tensor]:
    """The tensors that a function writes to; what it wrote is undone."""
    with _Written() as written:
        work()
    for tensor, before in reversed(list(zip(written.tensors, written.copies, strict=True))):
        tensor.copy_(before)
    return written.tensors
