"""One policy for each preference: what each is trained on, what they cost, who answers, and resumption."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from conftest import WordShare, make_bench, word_prompts

from baselines.morlhf import Morlhf, in_order, named, shares
from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Bench
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Budget, Sampling, Training
from emorl_bench.indicators.fronts import simplex_grid
from emorl_bench.rl.loop import train
from emorl_bench.rl.scst import Scst
from emorl_bench.rl.weighting import FixedWeights

CORNERS = ((1.0, 0.0), (0.0, 1.0), (0.5, 0.5))
SAMPLED = Sampling(8, 1.0, 4)


SHARE = 32  # four steps of four prompts, and two validations of eight


def small(make: Callable[..., Bench], **changes: Any) -> Bench:
    """A budget of `SHARE` for each policy."""
    training = Training(batch_prompts=4, samples_per_prompt=4, validate_every=4, window=50, checkpoint_every=2)
    given = {"training": training, "budget": Budget(prompts=SHARE * len(CORNERS)), "preferences": CORNERS}
    return make("gpt2", **(given | changes))


@pytest.mark.parametrize("architecture", ["t5", "gpt2"])
def test_every_preference_gets_what_it_asks_for(bench: Callable[..., Bench], architecture: str) -> None:
    made = bench(architecture, steps=36, update=Scst(learning_rate=4e-2, kl_coefficient=0.0), preferences=CORNERS)
    solution = Morlhf().fit(made)
    first, second = (
        made.score(solution.policy_for(w).generate(word_prompts(24), SAMPLED, stream(9))).mean(0)
        for w in map(torch.tensor, CORNERS[:2])
    )
    assert first[0] > second[0] + 0.1
    assert second[1] > first[1] + 0.1
    assert len({id(solution.policy_for(torch.tensor(w))) for w in CORNERS}) == 3


def test_each_policy_is_the_one_that_its_preference_alone_would_train(
    bench: Callable[..., Bench], tmp_path: Any
) -> None:
    """Side by side or not: the policy of a preference is that of its weighted sum on its share of the budget."""
    made = small(bench)
    solution = Morlhf().fit(made)
    for weights in CORNERS:
        alone = small(bench, dir=tmp_path / named(weights))
        policy = alone.new_policy(named(weights))
        train(alone, policy, FixedWeights(weights), name=named(weights), budget=Budget(prompts=SHARE))
        found = solution.policy_for(torch.tensor(weights)).adapter()  # type: ignore[attr-defined]
        for key, value in policy.adapter().items():
            torch.testing.assert_close(found[key], value, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("each", "spent"), [(False, [16, 16, 16]), (True, [56, 56, 56])])
def test_the_budget_is_divided_or_each_has_the_whole_and_all_is_charged(
    bench: Callable[..., Bench], each: bool, spent: list[int]
) -> None:
    made = small(bench)
    Morlhf(each=each).fit(made)
    phases = made.ledger.phases
    assert [phases[f"train/{name}"].prompts for name in ("1-0", "0-1", "0.5-0.5")] == spent
    assert made.ledger.spent <= SHARE * 3 * (3 if each else 1)
    assert made.ledger.totals()["data_points_sum"] == made.ledger.spent > sum(spent)


def test_shares_are_even_and_pay_for_a_step_and_its_validations(bench: Callable[..., Bench]) -> None:
    select = word_prompts(32)  # so a step of 16 and two validations take 80
    shared = {1536: [153] * 10, 800: [80] * 10, 768: [80] * 9, 96: [80], 5: [5]}
    for prompts, each in shared.items():
        made = bench("t5", budget=Budget(prompts=prompts, samples=1000), training=Training(), select=select)
        assert shares(made, 10) == [Budget(share, 1000 // len(each)) for share in each]
    assert shares(bench("t5", budget=Budget(seconds=60)), 3) == [Budget(seconds=20)] * 3


def test_no_share_falls_as_the_budget_grows(bench: Callable[..., Bench]) -> None:
    """So what is graded at a share of the budget is the beginning of the whole run."""
    select, before = word_prompts(32), [0] * 10
    for prompts in range(80, 1700, 40):
        mine = shares(bench("t5", budget=Budget(prompts=prompts), training=Training(), select=select), 10)
        now = [share.prompts for share in mine] + [0] * (10 - len(mine))
        assert all(new >= old for new, old in zip(now, before, strict=True))
        before = now


def test_the_most_even_preference_goes_first_then_the_corners() -> None:
    order = in_order([tuple(row) for row in simplex_grid(3, 3).tolist()])
    assert len(order) == len(set(order)) == 10
    assert named(order[0]) == "0.3333-0.3333-0.3333"
    assert {named(w) for w in order[1:4]} == {"1-0-0", "0-1-0", "0-0-1"}
    assert len({named(w) for w in order}) == 10


def test_a_preference_without_a_policy_is_answered_by_the_nearest_one(bench: Callable[..., Bench]) -> None:
    made = small(bench, budget=Budget(prompts=40))  # pays for a step of two: the centre and a corner
    solution = Morlhf().fit(made)
    names = [solution.policy_for(torch.tensor(w)).name for w in CORNERS]  # type: ignore[attr-defined]
    assert names == ["1-0", "0.5-0.5", "0.5-0.5"]
    between = torch.tensor([0.8, 0.2], dtype=torch.float64)
    assert solution.policy_for(between).name == "1-0"  # type: ignore[attr-defined]


def test_a_killed_run_goes_on_and_ends_with_the_same_policies(tmp_path: Any) -> None:
    def made(name: str, **changes: Any) -> Bench:
        (tmp_path / name).mkdir(exist_ok=True)
        return small(lambda *a, **k: make_bench(tmp_path / name, *a, **k), **changes)

    def dying(bench: Bench) -> Bench:
        calls = 0

        def score(rollout: Any) -> torch.Tensor:
            nonlocal calls
            calls += 1
            if calls == 14:
                raise KeyboardInterrupt
            return bench.score(rollout)

        return replace(bench, score=score)

    whole = Morlhf().fit(made("whole"))
    with pytest.raises(KeyboardInterrupt):
        Morlhf().fit(dying(made("killed")))
    resumed = Morlhf().fit(made("killed"))
    frozen = Morlhf().fit(made("killed", frozen=True))
    for preference in CORNERS:
        adapters = [s.policy_for(torch.tensor(preference)).adapter() for s in (whole, resumed, frozen)]  # type: ignore[attr-defined]
        for key, value in adapters[0].items():
            assert torch.equal(value, adapters[1][key])
            assert torch.equal(value, adapters[2][key])


def test_without_preferences_there_is_nothing_to_train(bench: Callable[..., Bench]) -> None:
    with pytest.raises(UserError, match="this bench names none"):
        Morlhf().fit(bench("t5", scorers=[WordShare("even", 0)]))
