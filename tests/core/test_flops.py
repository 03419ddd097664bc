"""Our counter against torch's own, which counts by the same formulas: equal totals wherever models are used."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from emorl_bench.core.flops import FlopCounter


def t5() -> torch.nn.Module:
    return T5ForConditionalGeneration(
        T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=0)
    )


def gpt2() -> torch.nn.Module:
    return GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=32))


def llama() -> torch.nn.Module:
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=40, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    )


def counted(work: Callable[[], object]) -> tuple[int, int]:
    with FlopCounter() as ours:
        work()
    with FlopCounterMode(display=False) as torchs:
        work()
    return ours.total, torchs.get_total_flops()


@pytest.mark.parametrize("make", [t5, gpt2, llama])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_totals_of_a_model_are_those_of_torch(make: Callable[[], torch.nn.Module], attention: str) -> None:
    model = make()
    model.set_attn_implementation(attention)  # type: ignore[operator]
    ids_BT = torch.arange(12).reshape(3, 4)
    options = {"labels": ids_BT} if make is t5 else {}

    def trained() -> None:
        model(input_ids=ids_BT, **options).logits.sum().backward()

    @torch.inference_mode()
    def read() -> None:
        model(input_ids=ids_BT, **options)

    @torch.no_grad()
    def generated() -> None:
        model.generate(ids_BT, max_new_tokens=5, do_sample=False, pad_token_id=0)  # type: ignore[operator]

    for work in (trained, read, generated):
        ours, torchs = counted(work)
        assert ours == torchs > 0


@pytest.mark.parametrize(
    ("work", "flops"),
    [
        (lambda: torch.ones(2, 3) @ torch.ones(3, 5), 2 * 2 * 3 * 5),
        (lambda: torch.ones(7, 2, 3) @ torch.ones(7, 3, 5), 7 * 2 * 2 * 3 * 5),
        (lambda: torch.einsum("bik,bkj->bij", torch.ones(7, 2, 3), torch.ones(7, 3, 5)), 7 * 2 * 2 * 3 * 5),
        (lambda: torch.nn.functional.linear(torch.ones(2, 3), torch.ones(5, 3), torch.ones(5)), 2 * 2 * 3 * 5),
        (lambda: torch.ones(9).exp() + 1, 0),
    ],
)
@pytest.mark.parametrize("inference", [False, True])
def test_a_product_costs_two_operations_for_each_pair(work: Callable[[], object], flops: int, inference: bool) -> None:
    with torch.inference_mode(inference), FlopCounter() as counter:
        work()
    assert counter.total == flops


def test_results_are_those_without_a_counter() -> None:
    model, ids_BT = gpt2().eval(), torch.arange(12).reshape(3, 4)
    with torch.inference_mode():
        plain = model(input_ids=ids_BT).logits
        with FlopCounter():
            counted = model(input_ids=ids_BT).logits
    assert torch.equal(plain, counted)
