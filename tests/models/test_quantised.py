"""Packed bases against plain ones that hold the same numbers: answers, merges, blends, probabilities and gradients."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import shaken, word_prompts, word_tokenizer
from support.quantised import NF4, eight_bit_codes, four_bit_codes, four_bit_values, standing_in, wide_llama

from baselines.param_merge import Soup
from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Sampling
from emorl_bench.decoding.decode import Decoder
from emorl_bench.ensemble.blending import HiddenState
from emorl_bench.models.backbone import Backbone
from emorl_bench.models.causal import CausalBackbone
from emorl_bench.models.loading import ModelSource, load_backbone
from emorl_bench.models.lora import AdapterSettings
from emorl_bench.models.quantised import QuantisedLinear, eight_bits
from emorl_bench.policies.adapter_policy import AdapterBank, AdapterPolicy
from emorl_bench.policies.together import generate_together, hidden_together

KINDS = ("4bit", "8bit")
SETTINGS = AdapterSettings(rank=4, alpha=8.0)
WEIGHTS_WM = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]], dtype=torch.float64)
PROMPTS, SAMPLED = word_prompts(4), Sampling(6, 1.0, 2)
GREEDY = Sampling(6, 0.0)
STEP = 1e-3  # of finite differences


def bank_of(model: Any) -> AdapterBank:
    return AdapterBank(Decoder(CausalBackbone(model, word_tokenizer(), SETTINGS, 32), Ledger()), seed=0)


def trio(bank: AdapterBank) -> list[AdapterPolicy]:
    return [shaken(bank, seed) for seed in (1, 2, 3)]


@pytest.fixture(params=KINDS)
def banks(request: pytest.FixtureRequest) -> tuple[AdapterBank, AdapterBank]:
    """A packed base without bitsandbytes and its plain twin, in float64."""
    quantised, plain = standing_in(wide_llama().double(), request.param)
    return bank_of(quantised), bank_of(plain)


def read(place: Path, kind: str | None, dtype: torch.dtype) -> Backbone:
    wide_llama().to(dtype).save_pretrained(place)
    word_tokenizer().save_pretrained(place)
    source = ModelSource("causal", str(place), max_prompt_tokens=32, quantisation=kind)
    return load_backbone(source, SETTINGS, torch.device("cpu"), dtype)


def bank_from_disk(place: Path, kind: str | None, dtype: torch.dtype) -> AdapterBank:
    if kind is not None:
        pytest.importorskip("bitsandbytes", reason="bitsandbytes, an extra, is not installed")
    return AdapterBank(Decoder(read(place, kind, dtype), Ledger()), seed=0)


def test_a_packed_base_is_decoded_by_its_own_modules_and_says_so(
    banks: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    quantised, plain = banks
    assert plain.decoder.fused is not None
    assert quantised.decoder.fused is None
    Decoder(quantised.backbone, Ledger())
    assert "decoded by its own modules, slower; its weights are quantised" in capsys.readouterr().err
    assert [p.adapter().keys() for p in trio(quantised)] == [p.adapter().keys() for p in trio(plain)]
    assert all(isinstance(layer.base, QuantisedLinear) for layer in quantised.backbone.layers.values())


def test_answers_merges_and_blends_are_those_of_plain_weights(banks: Any) -> None:
    """The plain twin decodes by the fused step: other code, the same tokens in float64."""
    ours, theirs = map(trio, banks)
    for make in (
        lambda experts: experts[0],
        lambda experts: Soup().blend(experts, WEIGHTS_WM[:1]),
        lambda experts: Soup().blend(experts, WEIGHTS_WM),
        lambda experts: HiddenState().blend(experts, WEIGHTS_WM),
    ):
        for sampling in (GREEDY, SAMPLED):
            said = [make(experts).generate(PROMPTS, sampling, stream(0)) for experts in (ours, theirs)]
            assert said[0].responses == said[1].responses
            torch.testing.assert_close(said[0].logprobs_BT, said[1].logprobs_BT, rtol=0, atol=1e-9, equal_nan=True)


def test_probabilities_and_gradients_are_those_of_plain_weights(banks: Any) -> None:
    """After a decode: on some CPUs bitsandbytes' own layer has no gradient from its first evaluation on."""
    quantised, plain = banks
    rollout = trio(plain)[0].generate(PROMPTS, SAMPLED, stream(0))
    slopes = []
    for bank in (quantised, plain):
        policy = trio(bank)[0]
        policy.generate(PROMPTS, GREEDY, stream(0))
        found = torch.autograd.grad(policy.logprobs(rollout).sum(), list(policy.parameters()))
        slopes.append(torch.cat([slope.flatten() for slope in found]))
    assert slopes[1].norm() > 1
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-6, atol=1e-6)  # adapters are float32


def test_a_gradient_is_the_slope_of_the_loss(banks: Any) -> None:
    """Along the gradient itself, where the slope of the loss is the gradient's length."""
    policy = shaken(banks[0], 1, strength=0.05)
    rollout = policy.generate(PROMPTS, SAMPLED, stream(0))
    parameters = list(policy.parameters())
    found = torch.autograd.grad(policy.logprobs(rollout).sum(), parameters)
    length = torch.stack([slope.norm() for slope in found]).norm()
    values = []
    with torch.no_grad():
        for step in (STEP, -2 * STEP):
            for parameter, slope in zip(parameters, found, strict=True):
                parameter += step * slope / length
            values.append(policy.logprobs(rollout).sum().item())
    assert (values[0] - values[1]) / (2 * STEP) == pytest.approx(length.item(), rel=5e-3)


def test_learners_share_a_pass_on_a_packed_base(banks: Any) -> None:
    policies = trio(banks[0])
    rollouts = generate_together(policies, PROMPTS, SAMPLED, [stream(i) for i in range(3)])
    stacked_MBTH = hidden_together(policies, rollouts)
    for policy, rollout, hidden_BTH in zip(policies, rollouts, stacked_MBTH, strict=True):
        alone_BTH = policy.hidden(rollout)
        torch.testing.assert_close(hidden_BTH[:, : alone_BTH.shape[1]], alone_BTH, rtol=0, atol=1e-5)


def test_recomputed_blocks_have_the_same_gradient(banks: Any) -> None:
    policy = trio(banks[0])[0]
    rollout = policy.generate(PROMPTS, SAMPLED, stream(0))

    def slopes() -> Iterator[torch.Tensor]:
        yield from torch.autograd.grad(policy.logprobs(rollout).sum(), list(policy.parameters()))

    kept = list(slopes())
    policy.backbone.checkpoint_gradients()
    for once, again in zip(kept, slopes(), strict=True):
        assert (again - once).norm() <= 1e-5 * once.norm()


def test_a_pass_with_gradients_keeps_no_unpacked_weight(banks: Any) -> None:
    quantised, plain = banks
    weights = {(layer.out_features, layer.in_features) for layer in quantised.backbone.layers.values()}
    rollout = trio(plain)[0].generate(PROMPTS, SAMPLED, stream(0))
    seen: set[tuple[int, ...]] = set()

    def note(x: torch.Tensor) -> torch.Tensor:
        seen.update((tuple(x.shape), tuple(x.T.shape)) if x.dim() == 2 else ())
        return x

    policy = trio(quantised)[0]
    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        policy.logprobs(rollout)
    assert seen
    assert not weights & seen


def test_the_hash_of_a_base_sees_codes_and_scales() -> None:
    hashes = set()
    for scale in (1.0, 2.0):  # twice the weights have the same codes
        model = wide_llama()
        with torch.no_grad():
            model.model.layers[0].mlp.up_proj.weight.mul_(scale)
        hashes |= {
            CausalBackbone(standing_in(model, kind)[0], word_tokenizer(), SETTINGS, 32).fingerprint for kind in KINDS
        }
    assert len(hashes) == 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_eight_bits_are_rounded_once(dtype: torch.dtype) -> None:
    weight = torch.randn(24, 64, generator=stream(0))
    codes, scales = eight_bit_codes(weight)
    exact = codes.double() * scales.double()[:, None] / 127
    assert ((exact - weight).abs() <= scales[:, None] / 254 * 1.001).all()
    found = eight_bits(codes, scales, dtype)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), exact, rtol=torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_quantised_by_the_papers_formulas(kind: str, tmp_path: Path) -> None:
    """NF4 in blocks of 64, LLM.int8 by rows. A weight midway between two codes may go to either."""
    quantised = bank_from_disk(tmp_path, kind, torch.float32).backbone
    for name, module in wide_llama().named_modules():
        if name not in quantised.layers:
            continue
        weight, found = module.weight.detach(), quantised.layers[name].base.unpacked(torch.float32)
        if kind == "4bit":
            expected = four_bit_values(*four_bit_codes(weight), torch.float32)
            step = max(high - low for low, high in pairwise(NF4))
        else:
            expected, step = eight_bits(*eight_bit_codes(weight.half()), torch.float32), 1 / 127  # it reads float16
        assert (found - expected).abs().max() <= step * weight.abs().max() * 1.001
        assert (found - expected).abs().gt(1e-5).float().mean() < 0.01


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_base_that_was_read_packed_has_the_numbers_of_its_plain_twin(
    kind: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    quantised, plain = bank_from_disk(tmp_path / "a", kind, dtype), bank_from_disk(tmp_path / "b", None, dtype)
    assert quantised.backbone.dtype == dtype
    for name, layer in quantised.backbone.layers.items():
        plain.backbone.layers[name].base.weight.data = layer.base.unpacked(dtype)
    rollout = trio(plain)[0].generate(PROMPTS, SAMPLED, stream(0))
    slopes = []
    for bank in (quantised, plain):
        policy = trio(bank)[0]
        policy.generate(PROMPTS, GREEDY, stream(0))
        logprobs_BT = policy.logprobs(rollout)
        with torch.no_grad():
            if dtype == torch.bfloat16:  # nothing is folded there, so one pass is the other
                assert torch.equal(policy.logprobs(rollout), logprobs_BT)
        found = torch.autograd.grad(logprobs_BT.sum(), list(policy.parameters()))
        slopes.append(torch.cat([logprobs_BT.detach().flatten(), *(slope.flatten() for slope in found)]))
    bound = 1e-5 if dtype == torch.float32 else 1e-2
    assert (slopes[0] - slopes[1]).norm() <= bound * slopes[1].norm()


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_that_is_not_finite_is_refused_though_its_codes_are_finite(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes, an extra, is not installed")
    model = wide_llama()
    model.model.layers[1].mlp.down_proj.weight.data[3, 5] = torch.nan
    model.save_pretrained(tmp_path)
    word_tokenizer().save_pretrained(tmp_path)
    source = ModelSource("causal", str(tmp_path), max_prompt_tokens=32, quantisation=kind)
    with pytest.raises(UserError, match="not finite"):
        load_backbone(source, SETTINGS, torch.device("cpu"), torch.float32)


def test_a_checkpoint_with_packed_weights_is_refused(tmp_path: Path) -> None:
    model = wide_llama()
    model.config.quantization_config = {"quant_method": "gptq", "bits": 4}
    model.config.save_pretrained(tmp_path)
    wide_llama().save_pretrained(tmp_path / "weights")
    (tmp_path / "weights" / "model.safetensors").rename(tmp_path / "model.safetensors")
    word_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"its weights are quantised already \(gptq\); give the model it was made from"):
        load_backbone(ModelSource("causal", str(tmp_path)), SETTINGS, torch.device("cpu"), torch.float32)
