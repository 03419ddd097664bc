"""The bfloat16 look at the vocabulary finds the token that the whole product finds, or says that it does not pay."""

from __future__ import annotations

import pytest
import torch
from conftest import make_bank, shaken, word_prompts
from torch import nn

from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Sampling
from emorl_bench.decoding import bf16_argmax
from emorl_bench.decoding.bf16_argmax import LEAST_WEIGHTS, Bf16Argmax
from emorl_bench.ensemble.blending import HiddenState

WIDTH = 64
VOCABULARY = 20_011  # no multiple of a group


@pytest.fixture(autouse=True)
def bfloat16_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what is tested does not depend on the machine: slow bfloat16 rounds just the same."""
    monkeypatch.setattr(bf16_argmax, "_fast_bfloat16", lambda: True)


def head_of(weight_VH: torch.Tensor) -> nn.Linear:
    head = nn.Linear(*weight_VH.T.shape, bias=False)
    head.weight = nn.Parameter(weight_VH, requires_grad=False)
    return head


def screen_of(weight_VH: torch.Tensor) -> Bf16Argmax:
    screen = Bf16Argmax.of(head_of(weight_VH))
    assert screen is not None
    return screen


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("rows", [1, 7, 300])
def test_the_token_is_that_of_the_whole_product(rows: int, scale: float) -> None:
    rng = torch.Generator().manual_seed(rows)
    weight_VH = torch.randn(VOCABULARY, WIDTH, generator=rng) * scale
    states_LH = torch.randn(rows, WIDTH, generator=rng)
    screen = screen_of(weight_VH)
    exact_L = (states_LH.double() @ weight_VH.double().T).argmax(1)
    assert torch.equal(screen.argmax(states_LH), exact_L)
    assert screen.pays


def test_float32_decides_between_tokens_that_bfloat16_cannot_tell_apart() -> None:
    rng = torch.Generator().manual_seed(0)
    weight_VH = torch.randn(VOCABULARY, WIDTH, generator=rng)
    states_LH = torch.randn(40, WIDTH, generator=rng)
    best_L = (states_LH @ weight_VH.T).argmax(1)
    rivals_L = (best_L + 5_000) % VOCABULARY  # each the best token's copy, better by less than bfloat16 sees
    weight_VH[rivals_L] = weight_VH[best_L] + 2e-5 * states_LH
    assert torch.equal(screen_of(weight_VH).argmax(states_LH), (states_LH @ weight_VH.T).argmax(1))
    assert (screen_of(weight_VH).argmax(states_LH) == rivals_L).float().mean() > 0.9


def test_of_equal_logits_the_first_token_is_taken() -> None:
    weight_VH = torch.zeros(VOCABULARY, WIDTH)
    weight_VH[[17, 5_017, VOCABULARY - 1]] = 1.0
    assert screen_of(weight_VH).argmax(torch.ones(3, WIDTH)).tolist() == [17, 17, 17]
    weight_VH[[17, 5_017]] = 0.0  # the last row, which is repeated to fill a group
    assert screen_of(weight_VH).argmax(torch.ones(1, WIDTH)).tolist() == [VOCABULARY - 1]


def test_logits_that_all_lie_far_from_zero_are_left_to_the_whole_product() -> None:
    """Their rounding is larger than their differences: nearly all come into question."""
    weight_VH = 100 + torch.randn(VOCABULARY, WIDTH, generator=torch.Generator().manual_seed(0))
    screen = screen_of(weight_VH)
    assert screen.argmax(torch.ones(2, WIDTH)) is None
    assert not screen.pays


def test_states_that_are_no_numbers_still_give_a_token() -> None:
    screen = screen_of(torch.randn(VOCABULARY, WIDTH, generator=torch.Generator().manual_seed(0)))
    assert screen.argmax(torch.full((2, WIDTH), torch.nan)).tolist() == [VOCABULARY - 1] * 2


@pytest.mark.parametrize(
    "head",
    [
        nn.Linear(WIDTH, VOCABULARY, bias=True),
        nn.Linear(WIDTH, VOCABULARY, bias=False).double(),
        nn.Linear(WIDTH, LEAST_WEIGHTS // WIDTH - 1, bias=False),
    ],
    ids=["a bias", "float64", "small"],
)
def test_heads_that_are_not_screened(head: nn.Linear) -> None:
    assert Bf16Argmax.of(head) is None


def test_a_greedy_decode_is_the_same_with_and_without(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bf16_argmax, "LEAST_WEIGHTS", 1)
    greedy, said = Sampling(12, temperature=0.0), []
    for screened in (True, False):
        bank = make_bank(architecture)
        if not screened:
            bank.decoder.__dict__["bf16_argmax"] = None
        experts = [shaken(bank, seed) for seed in (1, 2)]
        blend = HiddenState().blend(experts, torch.tensor([[0.3, 0.7], [0.6, 0.4]]))
        said += [generator.generate(word_prompts(6), greedy, stream(0)).responses for generator in (blend, experts[0])]
        assert (bank.decoder.bf16_argmax is not None and bank.decoder.bf16_argmax.pays) == screened
    assert said[:2] == said[2:]
