"""The bank of single-objective experts: content-addressed, trained once, reused by every method, charged to each.

An expert is addressed by what it depends on and by nothing else: the data, the base model and its adapter, the update
rule and its schedule, the seed, its own objective's scorer, and the amount that it may spend. Which other objectives a
task has, and how many, is no part of it: each expert is trained, validated and charged as if its own objective were
the only one. So an objective more is one expert more.

A larger amount goes on from where a smaller one has ended, with the numbers of a training that never stopped. Experts
that are missing learn side by side: each with the numbers that it would have alone, up to rounding, so the way of
training is no part of its address either.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Bench, Policy
from emorl_bench.core.types import Budget
from emorl_bench.rl.checkpoint import FILE
from emorl_bench.rl.loop import single_policy_run, train_runs
from emorl_bench.rl.weighting import one_hot

PROMPTS = re.compile(r"prompts(\d+)")


def expert_bank(bench: Bench, *, reserve: float = 0.0, learners: int | None = None) -> list[Policy]:
    """One expert for each objective, in the order of ``bench.objectives``, each with what `expert_budget` gives it."""
    experts = {name: bench.new_policy(name) for name in bench.objectives}
    _train_or_wait(bench, experts, expert_budget(bench, reserve=reserve, learners=learners))
    return list(experts.values())


def expert(bench: Bench, objective: str, *, reserve: float = 0.0) -> Policy:
    """The expert of one objective, which is that of the bank."""
    policy = bench.new_policy(objective)
    _train_or_wait(bench, {objective: policy}, expert_budget(bench, reserve=reserve))
    return policy


def expert_budget(bench: Bench, *, reserve: float = 0.0, learners: int | None = None) -> Budget:
    """What each expert may spend: `Budget.expert_prompts`, or else an even share of what ``reserve`` leaves.

    ``reserve``: the share of the prompts that is kept for a search. ``learners``: how many divide the rest, where
    these are more than the experts.

    Raises:
        UserError: no share, or the experts together would exceed what is left to them.
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
    """Where the expert lies that may spend so much."""
    scorer = bench.runtime.scorer_fingerprints.get(objective, "")
    key = hashlib.sha256(f"{bench.runtime.fingerprint}/{bench.seed}/{objective}/{scorer}".encode()).hexdigest()[:16]
    limits = [f"{limit}{value:g}" for limit, value in asdict(amount).items() if value is not None]
    return bench.runtime.experts_dir / f"{objective}-s{bench.seed}-{key}" / ("-".join(limits) or "unlimited")


def smaller(directory: Path) -> list[Path]:
    """Where the same expert lies with fewer prompts, the most of them first; none where other limits are given."""
    found = {int(match[1]): path for path in directory.parent.glob("*") if (match := PROMPTS.fullmatch(path.name))}
    mine = PROMPTS.fullmatch(directory.name)
    fewer = sorted((prompts for prompts in found if mine and prompts < int(mine[1])), reverse=True)
    return [found[prompts] for prompts in fewer if (found[prompts] / FILE).exists()]


def _train_or_wait(bench: Bench, experts: Mapping[str, Policy], share: Budget) -> None:
    """Bring experts to their end here, but for those that another process has in hand: these are waited for.

    Several processes may ask at once. Nobody waits while holding a lock, so they cannot block one another; a killed
    trainer's checkpoint is taken up by whoever comes next. Of the ranks of one run the first holds the locks.
    """
    with ExitStack() as held:
        mine = bench.runtime.ranks.once(lambda: [name for name in experts if _taken(_lock(bench, name, share), held)])
        _train(bench, {name: experts[name] for name in mine}, share)
    for name in [name for name in experts if name not in mine]:
        with ExitStack() as held:
            bench.runtime.ranks.once(partial(_await, bench, name, share, held))
            _train(bench, {name: experts[name]}, share)


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


def _await(bench: Bench, objective: str, share: Budget, held: ExitStack) -> None:
    print(f"expert {objective}: another process is training it; waiting", file=sys.stderr, flush=True)
    held.enter_context(_lock(bench, objective, share))


def _taken(lock: FileLock, held: ExitStack) -> bool:
    try:
        held.enter_context(lock.acquire(timeout=0))
    except Timeout:
        return False
    return True
