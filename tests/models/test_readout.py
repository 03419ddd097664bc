"""Log-probabilities in blocks: against plain autograd, finite differences and, in bytes, against the budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from support.allocations import Allocations
from torch import Tensor

from emorl_bench.core.types import Example, Rollout
from emorl_bench.models.readout import COPIES, divergence, response_logprobs, rows_within, token_logprobs

WORDS, WIDTH = 13, 6
MIB = 1 << 20


def rollout_of(lengths: list[int], temperature: float = 1.0, words: int = WORDS, device: str = "cpu") -> Rollout:
    """Answers of these lengths; the mask is on the CPU, because how many tokens there are must be known."""
    rng, rows, width = torch.Generator().manual_seed(5), len(lengths), max(lengths)
    mask_BT = torch.arange(width) < torch.tensor(lengths)[:, None]
    ids_BT = torch.randint(words, (rows, width), generator=rng).to(device)
    example = (Example("0", ""),) * rows
    return Rollout(example, ("",) * rows, ids_BT, mask_BT, torch.zeros(rows, width), 1, temperature)


def frozen_head(dtype: torch.dtype, scale: float = 1.0) -> Callable[[Tensor], Tensor]:
    """A head as a backbone has it: a scale like T5's, and an id without a token."""
    rng = torch.Generator().manual_seed(1)
    weight_VH = torch.randn(WORDS, WIDTH, generator=rng).to(dtype)
    unused_V = torch.arange(WORDS) == 3
    return lambda hidden: torch.nn.functional.linear(hidden * scale, weight_VH).masked_fill(unused_V, -1e30)


def plain_logprobs(head: Any, hidden_BTH: Tensor, rollout: Rollout) -> Tensor:
    """The formula as it stands in a book: all logits, a log-softmax over them, and the chosen ones."""
    logits_BTV = head(hidden_BTH)
    logits_BTV = logits_BTV if logits_BTV.dtype == torch.float64 else logits_BTV.float()
    logits_BTV = logits_BTV / rollout.temperature
    chosen_BT = logits_BTV.gather(-1, rollout.response_ids_BT[..., None]).squeeze(-1)
    return (chosen_BT - logits_BTV.logsumexp(-1)) * rollout.response_mask_BT


def hidden_of(rollout: Rollout, dtype: torch.dtype) -> Tensor:
    shape = (*rollout.response_ids_BT.shape, WIDTH)
    return torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(dtype).requires_grad_()


def both(head: Any, rollout: Rollout, dtype: torch.dtype, block: int) -> list[tuple[Tensor, Tensor]]:
    """Values and gradients under a random slope: in blocks, and by the plain formula."""
    slope_BT = torch.randn(rollout.response_ids_BT.shape, generator=torch.Generator().manual_seed(3))
    found = []
    for way in (lambda *a: response_logprobs(*a, block), plain_logprobs):
        hidden_BTH = hidden_of(rollout, dtype)
        values_BT = way(head, hidden_BTH, rollout)
        (slope,) = torch.autograd.grad(values_BT, hidden_BTH, slope_BT.to(values_BT))
        found.append((values_BT.detach(), slope))
    return found


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_one_block_has_the_bits_of_plain_autograd(dtype: torch.dtype, temperature: float) -> None:
    mine, plain = both(frozen_head(dtype, 0.5), rollout_of([4, 2, 5], temperature), dtype, MIB)
    assert torch.equal(mine[0], plain[0])
    assert torch.equal(mine[1], plain[1])


@pytest.mark.parametrize("rows", [1, 2, 7])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_many_blocks_have_the_gradients_of_plain_autograd(rows: int, temperature: float) -> None:
    rollout, block = rollout_of([4, 1, 5, 3], temperature), rows * COPIES * 8 * WORDS
    head = frozen_head(torch.float64, 0.5)
    assert rows_within(block, head, torch.zeros(1, WIDTH, dtype=torch.float64)) == rows
    mine, plain = both(head, rollout, torch.float64, block)
    torch.testing.assert_close(mine[0], plain[0], atol=1e-12, rtol=0)
    torch.testing.assert_close(mine[1], plain[1], atol=1e-12, rtol=0)


@pytest.mark.parametrize("keep", [True, False])
def test_gradients_are_finite_differences(keep: bool) -> None:
    hidden_LH = hidden_of(rollout_of([5]), torch.float64)[0].detach().requires_grad_()
    chosen_L, head = torch.tensor([0, 3, 12, 5, 5]), frozen_head(torch.float64)
    chosen_L[1] = 4  # not the id without a token, whose logarithm is -1e30

    def by_blocks(hidden: Tensor) -> Tensor:
        return token_logprobs(head, hidden, chosen_L, 0.7, keep=keep)

    assert torch.autograd.gradcheck(by_blocks, (hidden_LH,))


def test_a_graph_that_is_kept_can_be_used_twice() -> None:
    hidden_LH = hidden_of(rollout_of([5]), torch.float64)[0].detach().requires_grad_()
    found_L = token_logprobs(frozen_head(torch.float64), hidden_LH, torch.arange(5), keep=True)
    first, second = (torch.autograd.grad(found_L.sum(), hidden_LH, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("block", [1, 2 * COPIES * 8 * WORDS, MIB])
def test_the_divergence_is_the_sum_over_the_vocabulary(block: int) -> None:
    head = frozen_head(torch.float64)
    own_TH, base_TH = (hidden_of(rollout_of([5, 5]), torch.float64)[row].detach() for row in (0, 1))
    p_TV, q_TV = ((head(h) / 0.7).softmax(-1) for h in (own_TH, base_TH))
    expected_T = torch.where(p_TV > 0, p_TV * (p_TV / q_TV).log(), 0.0).sum(-1)
    torch.testing.assert_close(divergence(head, own_TH, base_TH, 0.7, block), expected_T, atol=1e-12, rtol=0)


# bytes ------------------------------------------------------------------------------------------------
LARGE, ANSWERS, TOKENS, BUDGET = 151_936, 256, 256, 64 * MIB


def large_head(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """On the device ``meta``: shapes without numbers, so that the size of the real thing costs nothing."""
    weight_VH, unused_V = (
        torch.empty(LARGE, 8, dtype=dtype, device="meta"),
        torch.empty(LARGE, dtype=torch.bool, device="meta"),
    )
    return lambda hidden: torch.nn.functional.linear(hidden, weight_VH).masked_fill(unused_V, -1e30)


def large(dtype: torch.dtype, *, gradients: bool) -> tuple[Rollout, Tensor]:
    rollout = rollout_of([TOKENS - 1] * (ANSWERS - 1) + [TOKENS], 0.7, LARGE, "meta")
    hidden_BTH = torch.empty(ANSWERS, TOKENS, 8, dtype=dtype, device="meta", requires_grad=gradients)
    return rollout, hidden_BTH


def trained(dtype: torch.dtype, budget: int) -> None:
    rollout, hidden_BTH = large(dtype, gradients=True)
    values_BT = response_logprobs(large_head(dtype), hidden_BTH, rollout, budget)
    torch.autograd.grad(values_BT.sum(), hidden_BTH)


def read(dtype: torch.dtype, budget: int) -> None:
    rollout, hidden_BTH = large(dtype, gradients=False)
    response_logprobs(large_head(dtype), hidden_BTH, rollout, budget)


def compared(dtype: torch.dtype, budget: int) -> None:
    _, hidden_BTH = large(dtype, gradients=False)
    for row in range(4):
        divergence(large_head(dtype), hidden_BTH[row], hidden_BTH[row], 0.7, budget)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("work", [trained, read, compared])
def test_all_that_exists_of_logits_stays_within_the_budget(
    work: Callable[[torch.dtype, int], None], dtype: torch.dtype
) -> None:
    with Allocations() as seen:
        work(dtype, BUDGET)
    beside = 24 * ANSWERS * TOKENS * 8 + dtype.itemsize * LARGE * 8  # hidden states and values, and the head
    assert BUDGET / 4 < seen.largest <= BUDGET
    assert BUDGET / 2 < seen.peak <= BUDGET + beside


def test_the_plain_formula_would_need_74_gibibytes() -> None:
    """What the measure says of the formula that the blocks replace, without gradients; so it sees what is allocated."""
    rollout, hidden_BTH = large(torch.float32, gradients=False)
    rollout = replace(rollout, response_mask_BT=rollout.response_mask_BT.to("meta"))
    with Allocations() as seen:
        plain_logprobs(large_head(torch.float32), hidden_BTH, rollout)
    assert seen.largest == 4 * ANSWERS * TOKENS * LARGE
    assert (74 << 30) < seen.peak < (75 << 30)
