"""CUDA graphs of a decode step: its kernels are recorded once and launched again together (``hardware.graphs``).

A graph holds addresses and shapes. So only a step on static rows can be recorded (`fused.static`), and it is recorded
anew after its rows have changed. A step that cannot be recorded is launched kernel by kernel, and a line says so.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

Step = Callable[[Tensor], Tensor]


class Recorded(Protocol):
    """A recorded step."""

    output: Tensor
    """What the step returns; each replay overwrites it."""

    def replay(self) -> None:
        """Do it again, on what its inputs now hold."""


Record = Callable[[Callable[[], Tensor]], Recorded]
"""Records what a function does to the device. The function may run, or not, while it is recorded."""


class CudaGraph:
    """A `Recorded` on a GPU. Recording runs nothing."""

    def __init__(self, work: Callable[[], Tensor]) -> None:
        """Record the kernels of ``work``.

        Raises:
            RuntimeError: something in it cannot be recorded.
        """
        self.graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self.graph.capture_begin(capture_error_mode="thread_local")
            try:
                self.output = work()
            finally:
                self.graph.capture_end()
        torch.cuda.current_stream().wait_stream(stream)

    def replay(self) -> None:
        """See `Recorded.replay`."""
        self.graph.replay()


class Replays:
    """The steps of one decode. Where shapes have changed, a step is made as it is, and the next one is recorded.

    The first step after a change lets the libraries allocate what may not be allocated while a graph is recorded.
    """

    def __init__(self, record: Record) -> None:
        """Nothing is recorded yet."""
        self.record: Record | None = record
        self.version: int | None = None
        self.recorded: Recorded | None = None
        self.tokens_R: Tensor | None = None

    def step(self, step: Step, tokens_R: Tensor, version: int) -> Tensor:
        """Hidden states after the tokens; ``version`` tells whether shapes are those of the last step."""
        if self.record is None or version != self.version:
            self.version, self.recorded = version, None
            return step(tokens_R)
        if self.recorded is None:
            held_R = tokens_R.clone()
            try:
                self.recorded = self.record(lambda: step(held_R))
            except RuntimeError as error:
                reason = (str(error).splitlines() or [""])[0]
                print(f"decode: no CUDA graphs, {reason}", file=sys.stderr, flush=True)
                self.record = None
                return step(tokens_R)
            self.tokens_R = held_R
        assert self.tokens_R is not None
        self.tokens_R.copy_(tokens_R)
        self.recorded.replay()
        return self.recorded.output
