"""The bank of single-objective experts: each is trained once, reused by every method, and charged to every method.

The directory of an expert is named by a hash of what the expert depends on, and of nothing else: the data, the base
model and its adapter, the update rule and its schedule, the seed, the scorer of its own objective, and the amount that
it may spend. The other objectives of the task, and their number, are no part of it. Each expert is trained, validated
and charged as if its own objective were the only one. So one more objective costs one more expert.

A larger amount continues from where a smaller one has ended, with the numbers of a training that never stopped. Missing
experts are trained at the same time. Each has the numbers that it would have alone, up to rounding, so how they are
trained is no part of the hash either.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from emorl_bench.core.atomic import remove_left_over
from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Bench, Policy
from emorl_bench.core.types import Budget
from emorl_bench.rl.checkpoint import FILE
from emorl_bench.rl.loop import single_policy_run, train_runs
from emorl_bench.rl.weighting import one_hot

PROMPTS = re.compile(r"prompts(\d+)")
TAKING = ".taking"  # a lock that is held for the moment in which a process locks experts


def expert_bank(bench: Bench, *, reserve: float = 0.0, learners: int | None = None) -> list[Policy]:
    """One expert for each objective, in the order of ``bench.objectives``; `expert_budget` says what each may spend."""
    experts = {name: bench.new_policy(name) for name in bench.objectives}
    _train_or_wait(bench, experts, expert_budget(bench, reserve=reserve, learners=learners))
    return list(experts.values())


def expert(bench: Bench, objective: str, *, reserve: float = 0.0) -> Policy:
    """The expert of one objective, the same as in the bank."""
    policy = bench.new_policy(objective)
    _train_or_wait(bench, {objective: policy}, expert_budget(bench, reserve=reserve))
    return policy


def expert_budget(bench: Bench, *, reserve: float = 0.0, learners: int | None = None) -> Budget:
    """What each expert may spend: `Budget.expert_prompts`, or else an even share of what ``reserve`` leaves.

    Args:
        bench: the bench, whose budget is divided.
        reserve: the share of the prompts that is kept for a search.
        learners: number of learners that divide the rest, where there are more of them than experts.

    Raises:
        UserError: ``reserve`` is no share, or the experts together would exceed what is left to them.
    """
    if not 0 <= reserve < 1:
        raise UserError(f"method.search_share={reserve}: give a share of the budget from 0 to below 1")
    whole, each = bench.budget.reserving(reserve), bench.budget.expert_prompts
    share, experts = whole.share(learners or len(bench.objectives)), len(bench.objectives)
    if each is None:
        return share
    if whole.prompts is not None and each * experts > whole.prompts:
        raise UserError(
            f"budget.expert_prompts={each}: {experts} experts take {each * experts} of {whole.prompts} prompts, "
            "which are those that the search leaves; raise budget.prompts"
        )
    return replace(share, prompts=each)


def expert_dir(bench: Bench, objective: str, amount: Budget) -> Path:
    """The directory of the expert that may spend this amount."""
    scorer = bench.runtime.scorer_fingerprints.get(objective, "")
    key = hashlib.sha256(f"{bench.runtime.fingerprint}/{bench.seed}/{objective}/{scorer}".encode()).hexdigest()[:16]
    limits = [f"{limit}{value:g}" for limit, value in asdict(amount).items() if value is not None]
    return bench.runtime.experts_dir / f"{objective}-s{bench.seed}-{key}" / ("-".join(limits) or "unlimited")


def smaller(directory: Path) -> list[Path]:
    """The directories of the same expert with fewer prompts, most prompts first; none where other limits are given."""
    found = {int(match[1]): path for path in directory.parent.glob("*") if (match := PROMPTS.fullmatch(path.name))}
    mine = PROMPTS.fullmatch(directory.name)
    fewer = sorted((prompts for prompts in found if mine and prompts < int(mine[1])), reverse=True)
    return [found[prompts] for prompts in fewer if (found[prompts] / FILE).exists()]


def _train_or_wait(bench: Bench, experts: Mapping[str, Policy], share: Budget) -> None:
    """Train experts to their end here; wait for those that another process is training.

    Several processes may ask at once. No process waits while it holds the lock of an expert, so they cannot block one
    another. The checkpoint of a killed process is continued by the next one, which takes all experts that are free: so
    those that were trained together go on together. Among the ranks of one run the first holds the locks.
    """
    missing = dict(experts)
    while missing:
        with ExitStack() as held:
            mine = bench.runtime.ranks.once(partial(_take, bench, list(missing), share, held))
            _train(bench, {name: missing.pop(name) for name in mine}, share)
        if missing:
            bench.runtime.ranks.once(partial(_await, bench, list(missing), share))


def _train(bench: Bench, experts: Mapping[str, Policy], share: Budget) -> None:
    runs = []
    for name, policy in experts.items():
        place, weighting = expert_dir(bench, name, share), one_hot(0, 1, bench.reward)
        below = bench.runtime.ranks.once(partial(smaller, place))
        own = bench.only(name)
        runs.append(single_policy_run(own, policy, weighting, name=name, budget=share, dir=place, earlier=below))
    train_runs(bench, runs)


def _lock(bench: Bench, objective: str, share: Budget) -> FileLock:
    directory = expert_dir(bench, objective, share)
    directory.mkdir(parents=True, exist_ok=True)
    return FileLock(directory / "lock")


def _take(bench: Bench, objectives: Sequence[str], share: Budget, held: ExitStack) -> list[str]:
    """Lock all experts that are free, and name them. One process does so at a time, so that no two divide a bank."""
    bench.runtime.experts_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(bench.runtime.experts_dir / TAKING):
        return [name for name in objectives if _taken(_lock(bench, name, share), expert_dir(bench, name, share), held)]


def _await(bench: Bench, objectives: Sequence[str], share: Budget) -> None:
    """Wait until another process has left the experts. A process that is killed leaves the last one last."""
    print(f"expert {objectives[-1]}: another process is training it; waiting", file=sys.stderr, flush=True)
    with _lock(bench, objectives[-1], share):
        pass


def _taken(lock: FileLock, directory: Path, held: ExitStack) -> bool:
    try:
        held.enter_context(lock.acquire(timeout=0))
    except Timeout:
        return False
    remove_left_over(directory)
    return True
