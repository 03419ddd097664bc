"""Trains two experts on the device and may kill itself: ``killed_program.py DIR ARCHITECTURE DTYPE DIES_AT OUT``.

``DIES_AT`` is the number of the scoring at which the process sends itself SIGKILL; 0: never. ``OUT`` gets the adapters.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch
from conftest import make_bank, make_bench
from on_device import DEVICE, DTYPES
from safetensors.torch import save_file

from emorl_bench.core.types import Rollout
from emorl_bench.rl.experts import expert_bank


def main(directory: Path, architecture: str, dtype: str, dies_at: int, out: Path) -> None:
    bank = make_bank(architecture, dtype=DTYPES[dtype], device=DEVICE)
    bench = make_bench(directory, architecture, steps=12, bank=bank)
    bench.ledger.flops_every = 0  # operations that are counted are taken apart, and round otherwise in bfloat16
    calls = 0

    def score(rollout: Rollout) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return bench.score(rollout)

    experts = expert_bank(replace(bench, score=score))
    adapters = {f"{e.name}/{k}": v.cpu() for e in experts for k, v in e.adapter().items()}
    save_file(adapters, out, metadata={"scorings": str(calls)})


if __name__ == "__main__":
    place, kind, precision, number, target = sys.argv[1:]
    main(Path(place), kind, precision, int(number), Path(target))
