"""Blending: identities that hold exactly."""

from __future__ import annotations

import pytest
import torch
from conftest import make_bank, shaken, word_prompts
from transformers.pytorch_utils import Conv1D

from baselines.param_merge import Soup
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Sampling
from emorl_bench.ensemble.blending import HiddenState, Logits, Probabilities
from emorl_bench.models.lora import active, merge

AGGREGATORS = [HiddenState(), Logits(), Probabilities(), Soup()]
GREEDY = Sampling(12, temperature=0.0)
SAMPLED = Sampling(12, temperature=1.0, samples_per_prompt=2)


def experts(architecture):
    bank = make_bank(architecture, dtype=torch.float64)
    return bank, [shaken(bank, seed) for seed in (1, 2, 3)]


@pytest.mark.parametrize("aggregator", AGGREGATORS, ids=lambda a: type(a).__name__)
def test_one_hot_weights_are_that_expert(architecture, aggregator):
    _, trio = experts(architecture)
    blended = aggregator.blend(trio, torch.eye(3, dtype=torch.float64)).generate(word_prompts(6), SAMPLED, stream(0))
    alone = [e.generate(word_prompts(6), SAMPLED, stream(0)) for e in trio]
    assert blended.responses == sum((r.responses for r in alone), ())
    assert len({r.responses for r in alone}) == 3


def test_hidden_state_blend_is_logit_blend_on_a_shared_prefix(architecture):
    """The head is linear and shared: the paper's gap between the two cannot come from where they are averaged."""
    _, trio = experts(architecture)
    weights = torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]], dtype=torch.float64)
    hidden = HiddenState().blend(trio, weights).generate(word_prompts(6), SAMPLED, stream(0))
    logits = Logits().blend(trio, weights).generate(word_prompts(6), SAMPLED, stream(0))
    assert hidden.responses == logits.responses
    torch.testing.assert_close(hidden.logprobs_BT, logits.logprobs_BT, atol=1e-9, rtol=0)


def test_many_weight_vectors_at_once_are_one_after_the_other():
    _, trio = experts("t5")
    weights = torch.rand(5, 3, generator=stream(1), dtype=torch.float64)
    for aggregator in AGGREGATORS:
        at_once = aggregator.blend(trio, weights).generate(word_prompts(4), SAMPLED, stream(0))
        single = [aggregator.blend(trio, w[None]).generate(word_prompts(4), SAMPLED, stream(0)) for w in weights]
        assert at_once.responses == sum((r.responses for r in single), ())


def test_greedy_blend_does_not_change_with_the_scale_of_its_weights(architecture):
    _, trio = experts(architecture)
    weights = torch.tensor([[0.2, 0.5, 0.3]], dtype=torch.float64)
    answers = {
        HiddenState().blend(trio, weights * f).generate(word_prompts(6), GREEDY, stream(0)).responses
        for f in (0.1, 1, 7)
    }
    assert len(answers) == 1


def test_delta_merge_is_the_dense_merge(architecture):
    """Second implementation: add ``sum_m w_m s B_m A_m`` to copies of the dense weights and run the plain model."""
    bank, trio = experts(architecture)
    weights = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    merged = Soup().blend(trio, weights[None]).generate(word_prompts(6), SAMPLED, stream(0))
    for name, layer in bank.backbone.layers.items():
        pairs = [(e.own.factors[name], e.own.scale) for e in trio]
        delta = sum(w * s * (b.double() @ a.double()) for w, ((a, b), s) in zip(weights, pairs, strict=True)).detach()
        layer.base.weight += delta.T if isinstance(layer.base, Conv1D) else delta
    dense = trio[0].reference().generate(word_prompts(6), SAMPLED, stream(0))
    assert merged.responses == dense.responses
    torch.testing.assert_close(merged.logprobs_BT, dense.logprobs_BT, atol=1e-5, rtol=0)  # factors are float32


def test_averaging_factors_apart_is_not_a_merge():
    """PEFT's "linear" adapter average has cross terms; ours has none."""
    bank, trio = experts("gpt2")
    adapters = [e.own for e in trio]
    third = torch.full((3,), 1 / 3, dtype=torch.float64)
    layer, name = next((layer, name) for name, layer in bank.backbone.layers.items())
    x = torch.randn(1, 4, layer.in_features, generator=stream(2), dtype=torch.float64)
    with torch.no_grad(), active(bank.backbone.layers, [merge(adapters, third)]):
        merged = layer(x) - layer.base(x)
    a = sum(ad.factors[name][0] for ad in adapters).double() / 3
    b = sum(ad.factors[name][1] for ad in adapters).double() / 3
    linear = (x @ a.T @ b.T * adapters[0].scale).detach()
    assert (merged - linear).norm() / merged.norm() > 0.3
