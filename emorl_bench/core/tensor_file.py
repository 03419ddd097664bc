"""Safetensors files whose bytes are a function of their content, and which are complete or absent.

The library writes metadata in an order that differs between processes. Here the header is sorted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from emorl_bench.core.atomic import atomic

SIZE = 8  # bytes of the little-endian length that a file begins with; the header is padded to a multiple of it


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Replace a file by these tensors, or leave it as it is."""
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    written = memoryview(save(ready, dict(metadata)))
    end = SIZE + int.from_bytes(written[:SIZE], "little")
    header = json.dumps(json.loads(bytes(written[SIZE:end])), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % SIZE)
    with atomic(path) as temporary, temporary.open("wb") as file:
        file.write(len(header).to_bytes(SIZE, "little") + header)
        file.write(written[end:])
