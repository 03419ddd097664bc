"""The bank of single-objective experts: content-addressed, trained once, reused by every method, charged to each."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from filelock import FileLock, Timeout

from emorl_bench.core.protocols import Bench, Policy
from emorl_bench.rl.loop import train
from emorl_bench.rl.weighting import one_hot


def expert_bank(bench: Bench) -> list[Policy]:
    """One expert for each objective, in the order of ``bench.objectives``; each has an even share of the budget."""
    return [expert(bench, name) for name in bench.objectives]


def expert(bench: Bench, objective: str) -> Policy:
    """The expert of one objective under this bench's fingerprint and seed.

    Several processes may ask at once: the first trains while the others wait; a killed trainer's checkpoint is taken up
    by whoever comes next.
    """
    directory = expert_dir(bench, objective)
    directory.mkdir(parents=True, exist_ok=True)
    weighting = one_hot(bench.objectives.index(objective), len(bench.objectives), bench.reward)
    policy = bench.new_policy(objective)
    lock = FileLock(directory / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"expert {objective}: another process is training it; waiting", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        share = bench.budget.share(len(bench.objectives))
        return train(bench, policy, weighting, name=objective, budget=share, dir=directory)
    finally:
        lock.release()


def expert_dir(bench: Bench, objective: str) -> Path:
    key = hashlib.sha256(f"{bench.fingerprint}/{bench.seed}/{objective}".encode()).hexdigest()[:16]
    return bench.experts_dir / f"{objective}-s{bench.seed}-{key}"
