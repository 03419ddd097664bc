"""What a computation allocates, counted at every operation of torch: on a CPU, or without any memory on ``meta``."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

HIDDEN = {torch.ops.aten.logsumexp.default: 1}  # temporaries as large as the input that no hook sees, by operation


class Allocations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """``largest``: bytes of the largest storage. ``peak``: the most bytes that were alive at one time."""

    def __init__(self) -> None:
        """Begin with nothing; what was allocated before the mode is entered does not count."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.largest, self.peak, self.alive = 0, 0, 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and count the storages of its results that are new."""
        given = tree_leaves((args, kwargs or {}))
        inputs = {id(x.untyped_storage()) for x in given if isinstance(x, torch.Tensor)}
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and id(storage := tensor.untyped_storage()) not in inputs:
                self._count(storage)
        if func in HIDDEN:
            self.peak = max(self.peak, self.alive + HIDDEN[func] * args[0].nbytes)
        return out

    def _count(self, storage: Any) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.largest, self.alive = max(self.largest, size), self.alive + size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._freed, size)

    def _freed(self, size: int) -> None:
        self.alive -= size
