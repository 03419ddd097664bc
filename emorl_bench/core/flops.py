"""Counting the floating-point operations of matrix products, by the formulas of `torch.utils.flop_counter`.

torch's own `FlopCounterMode` gives the same totals, and a breakdown by module. It pays for it by looking up every
operation anew, which makes a counted call of a tiny model several times as long. Here that is looked up once.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class FlopCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what runs inside its block, backward passes included. ``total`` is the number of operations so far."""

    def __init__(self) -> None:
        """Begin at 0."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and add what it costs."""
        kwargs = kwargs or {}
        formula = flop_registry.get(getattr(func, "_overloadpacket", None))
        if formula is None and _composite(func):  # such as `linear` in inference mode: its parts are counted
            with self:
                return func.decompose(*args, **kwargs)
        result = func(*args, **kwargs)
        if formula is not None:
            self.total += formula(*args, **kwargs, out_val=result)
        return result


@cache
def _composite(func: Any) -> bool:
    """Whether an operation consists of others that could be seen."""
    return isinstance(func, torch._ops.OpOverload) and func.has_kernel_for_dispatch_key(
        torch._C.DispatchKey.CompositeImplicitAutograd
    )
