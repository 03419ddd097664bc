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

CORNERS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]], dtype=torch.float64)
SAMPLED = Sampling(8, 1.0, 4)


def small(make: Callable[..., Bench], steps: int, **changes: Any) -> Bench:
    training = Training(batch_prompts=4, samples_per_prompt=4, validate_every=4, window=50, checkpoint_every=2)
    given = {"training": training, "budget": Budget(prompts=4 * steps), "preferences_WK": CORNERS}
    return make("gpt2", **(given | changes))


@pytest.mark.parametrize("architecture", ["t5", "gpt2"])
def test_every_preference_gets_what_it_asks_for(bench: Callable[..., Bench], architecture: str) -> None:
    made = bench(architecture, steps=36, update=Scst(learning_rate=4e-2), preferences_WK=CORNERS)
    solution = Morlhf().fit(made)
    first, second = (
        made.score(solution.policy_for(w).generate(word_prompts(24), SAMPLED, stream(9))).mean(0) for w in CORNERS[:2]
    )
    assert first[0] > second[0] + 0.1
    assert second[1] > first[1] + 0.1
    assert len({id(solution.policy_for(w)) for w in CORNERS}) == 3


def test_each_policy_is_the_one_that_its_preference_alone_would_train(
    bench: Callable[..., Bench], tmp_path: Any
) -> None:
    """Side by side or not: the policy of a preference is that of its weighted sum on its share of the budget."""
    made = small(bench, 9)
    solution = Morlhf().fit(made)
    for preference in CORNERS:
        weights = tuple(preference.tolist())
        alone = small(bench, 9, dir=tmp_path / named(weights))
        policy = alone.new_policy(named(weights))
        train(alone, policy, FixedWeights(weights), name=named(weights), budget=Budget(prompts=12))
        found = solution.policy_for(preference).adapter()  # type: ignore[attr-defined]
        for key, value in policy.adapter().items():
            torch.testing.assert_close(found[key], value, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("each", "spent"), [(False, [16, 16, 16]), (True, [48, 48, 48])])
def test_the_budget_is_divided_or_each_has_the_whole_and_all_is_charged(
    bench: Callable[..., Bench], each: bool, spent: list[int]
) -> None:
    made = small(bench, 12)
    Morlhf(each=each).fit(made)
    phases = made.ledger.phases
    assert [phases[f"train/{name}"].prompts for name in ("1-0", "0-1", "0.5-0.5")] == spent
    assert made.ledger.totals()["data_points_sum"] >= sum(spent)


def test_shares_are_whole_batches_that_the_budget_pays_for(bench: Callable[..., Bench]) -> None:
    for prompts, parts, expected in (
        (1536, 10, [160] * 6 + [144] * 4),
        (768, 10, [80] * 8 + [64] * 2),
        (96, 10, [16] * 6),  # fewer batches than preferences
        (100, 3, [32] * 3),
        (5, 3, [16]),
    ):
        made = bench("t5", budget=Budget(prompts=prompts, samples=1000), training=Training(batch_prompts=16))
        found = shares(made, parts)
        assert [share.prompts for share in found] == expected
        assert {share.samples for share in found} == {1000 // len(expected)}
    assert shares(bench("t5", budget=Budget(seconds=60)), 3) == [Budget(seconds=20)] * 3


def test_the_most_even_preference_goes_first_then_the_corners() -> None:
    order = in_order(torch.from_numpy(simplex_grid(3, 3)))
    assert len(order) == len(set(order)) == 10
    assert named(order[0]) == "0.3333-0.3333-0.3333"
    assert {named(w) for w in order[1:4]} == {"1-0-0", "0-1-0", "0-0-1"}
    assert len({named(w) for w in order}) == 10


def test_a_preference_without_a_policy_is_answered_by_the_nearest_one(bench: Callable[..., Bench]) -> None:
    made = small(bench, 2)  # two batches: the centre and a corner
    solution = Morlhf().fit(made)
    names = [solution.policy_for(w).name for w in CORNERS]  # type: ignore[attr-defined]
    assert names == ["1-0", "0.5-0.5", "0.5-0.5"]
    between = torch.tensor([0.8, 0.2], dtype=torch.float64)
    assert solution.policy_for(between).name == "1-0"  # type: ignore[attr-defined]


def test_a_killed_run_goes_on_and_ends_with_the_same_policies(tmp_path: Any) -> None:
    def made(name: str, **changes: Any) -> Bench:
        (tmp_path / name).mkdir(exist_ok=True)
        return small(lambda *a, **k: make_bench(tmp_path / name, *a, **k), 12, **changes)

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
        adapters = [s.policy_for(preference).adapter() for s in (whole, resumed, frozen)]  # type: ignore[attr-defined]
        for key, value in adapters[0].items():
            assert torch.equal(value, adapters[1][key])
            assert torch.equal(value, adapters[2][key])


def test_without_preferences_there_is_nothing_to_train(bench: Callable[..., Bench]) -> None:
    with pytest.raises(UserError, match="this bench names none"):
        Morlhf().fit(bench("t5", scorers=[WordShare("even", 0)]))
