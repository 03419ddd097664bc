"""What a computation allocates; the GPU kit counts by the same means where there is no GPU."""

from benchmarks.allocations import Allocations

__all__ = ["Allocations"]
