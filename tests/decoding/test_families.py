"""Families of models: what is fused, what is not and says so, and both against transformers' own generate."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import make_bank, shaken, word_prompts, word_tokenizer
from support.families import FUSED, REFUSED, UNFUSED, family

from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Rollout, Sampling
from emorl_bench.decoding.decode import Decoder
from emorl_bench.ensemble.blending import HiddenState
from emorl_bench.models.backbone import Backbone
from emorl_bench.models.causal import CausalBackbone
from emorl_bench.models.loading import check_head
from emorl_bench.models.lora import AdapterSettings
from emorl_bench.policies.adapter_policy import AdapterBank, AdapterPolicy

PROMPTS = word_prompts(5)  # 3 to 7 words
NEVER = -7  # no token has this id
F64 = torch.float64


def bank_of(model: Any, dtype: torch.dtype = F64) -> AdapterBank:
    backbone = CausalBackbone(model.to(dtype), word_tokenizer(), AdapterSettings(rank=4, alpha=8.0), 64)
    return AdapterBank(Decoder(backbone, Ledger()), seed=0)


def generated(
    model: Any, policy: AdapterPolicy, backbone: Backbone, tokens: int, count: int = 5, *, ends: bool = True
) -> list[Any]:
    """Greedy answers of transformers, one prompt at a time, with the policy's update added to the weights."""
    dense = copy.deepcopy(model).to(F64).eval()
    modules = dict(dense.named_modules())
    for name, (a_RI, b_OR) in policy.own.factors.items():
        modules[name].weight.data += (policy.own.scale * b_OR @ a_RI).detach().to(F64)
    rows = []
    for example in PROMPTS[:count]:
        ids = torch.tensor([backbone.prompt_ids(example.prompt)])
        settings = {"max_new_tokens": tokens, "do_sample": False, "eos_token_id": 1 if ends else None}
        out = dense.generate(ids, attention_mask=torch.ones_like(ids), pad_token_id=0, **settings)
        rows.append(out[0, ids.shape[1] :].tolist())
    return rows


def said(rollout: Rollout) -> list[list[int]]:
    return [ids[mask].tolist() for ids, mask in zip(rollout.response_ids_BT, rollout.response_mask_BT, strict=True)]


@pytest.mark.parametrize("name", [*FUSED, *(f"{name} unfused" for name in UNFUSED)])
def test_a_policy_says_what_transformers_says(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    fused = not name.endswith(" unfused")
    model = family((FUSED if fused else UNFUSED)[name.removesuffix(" unfused")])
    plain = copy.deepcopy(model)
    bank = bank_of(model)
    assert (bank.decoder.fused is not None) == fused
    assert ("decoded by its own modules, slower" in capsys.readouterr().err) == (not fused)
    policy = shaken(bank, 1)
    answers = said(policy.generate(PROMPTS, Sampling(9, 0.0), stream(0)))
    assert answers == generated(plain, policy, bank.backbone, 9)
    assert len({tuple(row) for row in answers}) > 1
    sampled = policy.generate(PROMPTS, Sampling(9, 1.0, 3), stream(0))
    torch.testing.assert_close(policy.logprobs(sampled), sampled.logprobs_BT, atol=1e-9, rtol=0)


@pytest.mark.parametrize("build", FUSED.values(), ids=FUSED)
def test_blends_are_those_of_the_modules(build: Callable[[], Any]) -> None:
    weights_WM = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]], dtype=F64)
    answers = []
    for fused in (True, False):
        bank = bank_of(family(build))
        if not fused:
            bank.decoder.fused = None
        trio = [shaken(bank, seed) for seed in (1, 2, 3)]
        answers.append(HiddenState().blend(trio, weights_WM).generate(PROMPTS, Sampling(9, 1.0, 2), stream(0)))
    assert answers[0].responses == answers[1].responses
    torch.testing.assert_close(answers[0].logprobs_BT, answers[1].logprobs_BT, atol=1e-9, rtol=0)


@pytest.mark.parametrize("build", REFUSED.values(), ids=REFUSED)
def test_logits_that_are_capped_are_refused(build: Callable[[], Any]) -> None:
    backbone = CausalBackbone(family(build), word_tokenizer(), AdapterSettings(), 64)
    with pytest.raises(UserError, match="changes its logits after the head"):
        check_head(backbone)


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3", "gemma3"])
def test_sdpa_is_eager_attention_on_rows_with_padding_on_the_left(name: str) -> None:
    """Prompts of unequal length in one batch, decoded by the modules and read again with gradients."""
    f32, found = torch.float32, []
    for attention in ("eager", "sdpa"):
        bank = make_bank(name) if name in ("llama", "gpt2") else bank_of(family((UNFUSED | FUSED)[name]), f32)
        bank.backbone.model.set_attn_implementation(attention)
        bank.decoder.fused = None
        policy = shaken(bank, 1, 0.1)
        rollout = policy.generate(PROMPTS, Sampling(9, 1.0, 2), stream(0))
        logprobs_BT = policy.logprobs(rollout)
        slopes = torch.autograd.grad(logprobs_BT.sum(), list(policy.parameters()), materialize_grads=True)
        found.append((rollout.responses, rollout.logprobs_BT, logprobs_BT, *slopes))
    assert found[0][0] == found[1][0]
    for eager, sdpa in zip(found[0][1:], found[1][1:], strict=True):
        torch.testing.assert_close(eager, sdpa, atol=1e-3, rtol=1e-3)


def test_answers_of_1024_tokens_from_shared_prompts_are_those_of_generate() -> None:
    """Two experts as the corners of one blend: rows of a prompt share its keys for a thousand steps."""
    model = family(FUSED["qwen2"])
    plain = copy.deepcopy(model)
    bank = bank_of(model)
    bank.backbone.eos, bank.backbone.other_ends = NEVER, []
    pair = [shaken(bank, seed) for seed in (1, 2)]
    corners_WM = torch.eye(2, dtype=F64)
    rollout = HiddenState().blend(pair, corners_WM).generate(PROMPTS[:2], Sampling(1024, 0.0), stream(0))
    answers = said(rollout)
    assert {len(row) for row in answers} == {1024}
    wanted = [row for policy in pair for row in generated(plain, policy, bank.backbone, 1024, 2, ends=False)]
    assert answers == wanted
