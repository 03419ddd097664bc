"""What the tests of this folder share: the device, the types, and plain models in float64 on the CPU as the oracle.

They need a CUDA device. ``EMORL_BENCH_GPU_TESTS_DEVICE=cpu`` rehearses them without one, and
``EMORL_BENCH_GPU_TESTS_QUICK=1`` takes one architecture and two methods.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from conftest import make_bank, shaken, tiny_model
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from emorl_bench.core.types import Rollout
from emorl_bench.models.backbone import Backbone
from emorl_bench.policies.adapter_policy import AdapterBank, AdapterPolicy

DEVICE = torch.device(os.environ.get("EMORL_BENCH_GPU_TESTS_DEVICE", "cuda"))
QUICK = os.environ.get("EMORL_BENCH_GPU_TESTS_QUICK") == "1"
ON_GPU = DEVICE.type == "cuda"
ABSENT = ON_GPU and not torch.cuda.is_available()
needs_device = pytest.mark.skipif(ABSENT, reason="needs a CUDA device (EMORL_BENCH_GPU_TESTS_DEVICE=cpu: rehearse)")

ARCHITECTURES = ("qwen",) if QUICK else ("t5", "gpt2", "llama", "qwen")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# The mean regret (`regrets`) of the tokens that are said. In float32 none is worse than the best; in bfloat16 the plain
# model's logits are uncertain too (a random T5's by as much as they differ), so single tokens are.
REGRET = {torch.float32: 1e-6, torch.bfloat16: 0.1}
WEIGHTS_WM = torch.tensor([[1 / 3, 1 / 3, 1 / 3], [0.6, 0.3, 0.1], [0.1, 0.2, 0.7]], dtype=torch.float64)

on_architectures = pytest.mark.parametrize("architecture", ARCHITECTURES)
on_types = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)


@dataclass(frozen=True)
class Trio:
    """Three experts of one bank on the device."""

    architecture: str
    dtype: torch.dtype
    bank: AdapterBank
    experts: list[AdapterPolicy]

    @property
    def backbone(self) -> Backbone:
        return self.bank.backbone


def trio(architecture: str, dtype: torch.dtype, strength: float = 0.3) -> Trio:
    """``strength``: of the adapters' random numbers. With 0.3 blends part soon, and gradients are chaotic."""
    bank = make_bank(architecture, dtype=dtype, device=DEVICE)
    return Trio(architecture, dtype, bank, [shaken(bank, seed, strength) for seed in (1, 2, 3)])


def exact_trio(architecture: str, dtype: torch.dtype, strength: float = 0.3) -> Trio:
    """The same experts in float64 on the CPU, on base weights that are rounded to ``dtype`` as the device's are."""
    bank = make_bank(architecture, dtype=torch.float64)
    with torch.no_grad():
        for parameter in bank.backbone.model.parameters():
            parameter.copy_(parameter.to(dtype))
    return Trio(architecture, torch.float64, bank, [shaken(bank, seed, strength) for seed in (1, 2, 3)])


def plain_copies(of: Trio) -> list[Any]:
    """One dense model for each expert, its update added to the weights: float64 on the CPU, plain transformers."""
    copies = []
    for expert in of.experts:
        model = tiny_model(of.architecture).to(of.dtype).double().eval()
        modules, own = dict(model.named_modules()), expert.own
        for name, factors in own.factors.items():
            a_RI, b_OR = (factor.detach().cpu().double() for factor in factors)
            delta_OI = own.scale * b_OR @ a_RI
            layer = modules[name]
            layer.weight.data += delta_OI.T if isinstance(layer, Conv1D) else delta_OI
        copies.append(model)
    return copies


def merged(copies: Sequence[Any], weights_M: Sequence[float]) -> Any:
    """One model whose every parameter is the weighted sum of the copies'; the weights sum to 1."""
    model, *_ = copies
    mean = {
        name: sum(w * own for w, own in zip(weights_M, owns, strict=True))
        for name, owns in (
            (name, [dict(copy.named_parameters())[name].detach() for copy in copies])
            for name, _ in model.named_parameters()
        )
    }
    made = type(model)(model.config).double().eval()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            parameter.copy_(mean[name])
    return made


@torch.no_grad()
def regrets(models: Sequence[Any], weights_M: Sequence[float], backbone: Backbone, rollout: Rollout) -> list[float]:
    """By how much the plain blend's best logit exceeds that of the token that was said, for every token, in units of
    the standard deviation of all logits there.

    Each prompt and its answer alone: no cache, no padding, no sharing. The head is linear, so weighing logits is
    weighing last hidden states.
    """
    found: list[float] = []
    for example, ids, mask in zip(rollout.examples, rollout.response_ids_BT, rollout.response_mask_BT, strict=True):
        said = ids[mask].tolist()
        logits_TV = sum(
            w * _forced(model, backbone.prompt_ids(example.prompt), said)
            for w, model in zip(weights_M, models, strict=True)
        )
        assert isinstance(logits_TV, Tensor)
        chosen_T = logits_TV.gather(1, torch.tensor(said)[:, None])[:, 0]
        found += ((logits_TV.amax(1) - chosen_T) / logits_TV.std(1)).tolist()
    return found


def _forced(model: Any, prompt: list[int], said: list[int]) -> Tensor:
    """(T, V) logits before each token that was said."""
    if model.config.is_encoder_decoder:
        start = torch.tensor([[model.config.decoder_start_token_id, *said[:-1]]])
        return model(input_ids=torch.tensor([prompt]), decoder_input_ids=start, use_cache=False).logits[0]
    out = model(input_ids=torch.tensor([[*prompt, *said[:-1]]]), use_cache=False)
    return out.logits[0, len(prompt) - 1 :]


def moved(rollout: Rollout, device: torch.device) -> Rollout:
    """The same rollout with its tensors elsewhere."""
    tensors = (rollout.response_ids_BT, rollout.response_mask_BT, rollout.logprobs_BT)
    ids, mask, logprobs = (tensor.to(device) for tensor in tensors)
    return Rollout(rollout.examples, rollout.responses, ids, mask, logprobs, rollout.group_size, rollout.temperature)
