"""Decoding on the device against transformers' generate there, and against plain models in float64 on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from statistics import mean

import pytest
import torch
from conftest import tiny_model, word_prompts
from on_device import (
    DEVICE,
    REGRET,
    WEIGHTS_WM,
    Trio,
    merged,
    needs_device,
    on_architectures,
    on_types,
    plain_copies,
    regrets,
    trio,
)
from transformers.pytorch_utils import Conv1D

from baselines.param_merge import Soup
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Rollout, Sampling
from emorl_bench.ensemble.blending import HiddenState
from emorl_bench.models.loading import check_head

pytestmark = [pytest.mark.gpu, needs_device]

STEPS = 12
GREEDY, SAMPLED = Sampling(STEPS, 0.0), Sampling(STEPS, 1.0, samples_per_prompt=4)
PROMPTS = word_prompts(9)
# The largest difference between the sampler's log-probability and the trainer's, in nats a token on average.
MISMATCH = {torch.float32: 1e-4, torch.bfloat16: 0.05}

Record = Callable[[str, object], None]


def ids(rollout: Rollout) -> list[list[int]]:
    return [row[keep].tolist() for row, keep in zip(rollout.response_ids_BT, rollout.response_mask_BT, strict=True)]


def generated(of: Trio) -> list[list[int]]:
    """What transformers' generate says with the first expert's update added to the weights, type and device alike."""
    model = tiny_model(of.architecture).to(DEVICE, of.dtype).eval()
    modules, own = dict(model.named_modules()), of.experts[0].own
    for name, (a_RI, b_OR) in own.factors.items():
        delta_OI, layer = (own.scale * b_OR @ a_RI).detach(), modules[name]
        update = delta_OI.T if isinstance(layer, Conv1D) else delta_OI
        layer.weight.data = (layer.weight + update).to(of.dtype)
    prompts = [of.backbone.prompt_ids(e.prompt) for e in PROMPTS]
    ids_PS, mask_PS = of.backbone.padded_prompts(prompts)
    settings = {"do_sample": False, "max_new_tokens": STEPS, "eos_token_id": 1, "pad_token_id": 0}
    out = model.generate(input_ids=ids_PS, attention_mask=mask_PS, **settings)
    said = out[:, 1:] if of.architecture == "t5" else out[:, ids_PS.shape[1] :]
    return [row[: row.index(1) + 1] if 1 in row else row for row in said.tolist()]


@on_architectures
@on_types
def test_one_policy_says_what_transformers_generate_says(architecture: str, dtype: torch.dtype) -> None:
    """All rows in float32; in bfloat16 a third at least, for rounding parts rows, and ours are as good as the best."""
    made = trio(architecture, dtype)
    assert made.bank.decoder.fused is not None
    rollout = made.experts[0].generate(PROMPTS, GREEDY, stream(0))
    assert rollout.response_ids_BT.device.type == DEVICE.type
    same = [ours == theirs for ours, theirs in zip(ids(rollout), generated(made), strict=True)]
    assert sum(same) >= (len(same) if dtype == torch.float32 else len(same) / 3)
    assert mean(regrets(plain_copies(made)[:1], [1.0], made.backbone, rollout)) < REGRET[dtype]
    assert len({tuple(row) for row in ids(rollout)}) > 1


@on_architectures
@on_types
def test_blends_and_merges_say_what_plain_models_say(architecture: str, dtype: torch.dtype) -> None:
    made = trio(architecture, dtype)
    copies = plain_copies(made)
    blends = HiddenState().blend(made.experts, WEIGHTS_WM).generate(PROMPTS, GREEDY, stream(0))
    merges = Soup().blend(made.experts, WEIGHTS_WM).generate(PROMPTS, GREEDY, stream(0))
    for w, weights_M in enumerate(WEIGHTS_WM.tolist()):
        block = range(w * len(PROMPTS), (w + 1) * len(PROMPTS))
        assert mean(regrets(copies, weights_M, made.backbone, blends.rows(block))) < REGRET[dtype]
        one = merged(copies, weights_M)
        assert mean(regrets([one], [1.0], made.backbone, merges.rows(block))) < REGRET[dtype]
    wrong = regrets(copies, [0.0, 0.0, 1.0], made.backbone, blends.rows(range(len(PROMPTS))))
    assert mean(wrong) > 0.3  # other weights are told apart, or the test would be empty


@on_architectures
@on_types
def test_the_checks_that_every_run_makes_accept_the_model(architecture: str, dtype: torch.dtype) -> None:
    bank = trio(architecture, dtype).bank
    check_head(bank.backbone)
    assert bank.decoder.fused is not None


@on_architectures
@on_types
def test_what_is_sampled_is_what_is_trained_on(architecture: str, dtype: torch.dtype, record_property: Record) -> None:
    """The sampler's log-probabilities against the trainer's: their mean is the bias of importance ratios."""
    policy = trio(architecture, dtype).experts[0]
    rollout = policy.generate(PROMPTS, SAMPLED, stream(0))
    with torch.no_grad():
        gap_BT = policy.logprobs(rollout) - rollout.logprobs_BT
    apart = float(gap_BT[rollout.response_mask_BT].abs().mean())
    record_property("sampler_trainer_mismatch_nats_a_token", apart)
    record_property("sampler_trainer_kl_nats_a_token", -float(gap_BT[rollout.response_mask_BT].mean()))
    assert apart < MISMATCH[dtype]
