"""A policy for every preference: mixes against dense weights, gradients against plain ones, each prompt its own mix."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import make_bank, shaken, word_prompts
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from baselines.conditioned.pareto_set import Hypernetwork
from baselines.conditioned.policy import ConditionedPolicy, mixed
from baselines.conditioned.weight_ensembling_moe import Routers
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Sampling
from emorl_bench.models.lora import Adapter, merge
from emorl_bench.policies.adapter_policy import AdapterPolicy

NETWORKS = {
    "hypernetwork": lambda layers, experts: Hypernetwork(layers, experts, 8, stream(5)),
    "routers": lambda layers, experts: Routers(layers, experts, 0.3, stream(5)),
}
SAMPLED = Sampling(8, temperature=1.0, samples_per_prompt=3)
PREFERENCES = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]], dtype=torch.float64)


def exact(policy: AdapterPolicy) -> AdapterPolicy:
    factors = {name: (a.double(), b.double()) for name, (a, b) in policy.own.factors.items()}
    return replace(policy, own=Adapter(factors, policy.own.scale))


def conditioned(architecture: str, network: str) -> ConditionedPolicy:
    """Three random experts and a network with no zeros in it, all in float64, under two preferences."""
    bank = make_bank(architecture, dtype=torch.float64)
    trio = [exact(shaken(bank, seed)) for seed in (1, 2, 3)]
    net = NETWORKS[network](len(trio[0].own.factors), 3).double()
    rng = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=rng, dtype=torch.float64)
    policy = ConditionedPolicy.of("net", trio, net)
    policy.asked.preferences_WK = PREFERENCES
    return policy


def test_a_mix_is_the_dense_sum_layer_by_layer(architecture) -> None:
    """Second implementation: ``sum_i c_li scale B_i A_i`` added to the base model's own weights."""
    policy = conditioned(architecture, "routers")
    coefficients_LM = policy.network(PREFERENCES[0]).detach()
    assert coefficients_LM.std(0).min() > 0.05, "layers must differ for this to say anything"
    mine = policy.at(PREFERENCES[0]).generate(word_prompts(5), SAMPLED, stream(0))
    for l, (name, layer) in enumerate(policy.backbone.layers.items()):  # noqa: E741
        for m, expert in enumerate(policy.experts):
            a, b = expert.factors[name]
            delta = coefficients_LM[l, m] * expert.scale * (b @ a).detach()
            layer.base.weight += delta.T if isinstance(layer.base, Conv1D) else delta
    dense = policy.reference().generate(word_prompts(5), SAMPLED, stream(0))
    assert mine.responses == dense.responses
    torch.testing.assert_close(mine.logprobs_BT, dense.logprobs_BT, atol=1e-8, rtol=0)


def test_with_equal_rows_a_mix_is_the_soup_and_that_is_where_a_hypernetwork_starts() -> None:
    bank = make_bank("t5")
    adapters = [shaken(bank, seed).own for seed in (1, 2, 3)]
    network = Hypernetwork(len(adapters[0].factors), 3, 16, stream(1))
    for preference_K in PREFERENCES.float():
        start, soup = mixed(adapters, network(preference_K)), merge(adapters, preference_K)
        for name in soup.factors:
            for mine, theirs in zip(start.factors[name], soup.factors[name], strict=True):
                assert torch.equal(mine, theirs)


def test_routers_start_as_task_arithmetic_whatever_the_preference() -> None:
    network = Routers(40, 3, 0.3, stream(1))
    assert sum(p.numel() for p in network.parameters()) == 40 * ((3 * 6 + 6) + (6 * 3 + 3))
    corners_KLM = torch.stack([network(corner_K) for corner_K in torch.eye(3)])
    assert (corners_KLM - 0.3).abs().max() < 5e-3
    assert (corners_KLM[0] - corners_KLM[1]).abs().max() > 0


@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_has_the_gradients_of_finite_differences(network) -> None:
    policy = conditioned("gpt2", network)  # the others norm in float32
    rollout = policy.generate(word_prompts(4), SAMPLED, stream(0))
    advantages_B = torch.randn(12, generator=stream(1), dtype=torch.float64)

    def loss() -> Tensor:
        return (policy.logprobs(rollout).sum(1) * advantages_B).sum()

    parameters = list(policy.parameters())
    gradients = torch.autograd.grad(loss(), parameters)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        at = int(gradient.abs().argmax())
        flat, slope, values = parameter.data.view(-1), gradient.flatten()[at].item(), []
        for change in (1e-6, -2e-6):
            flat[at] += change
            values.append(loss().item())
        flat[at] += 1e-6
        assert abs(slope) > 1e-3
        assert slope == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5)


def test_the_gradient_of_a_coefficient_is_that_of_its_block_along_the_block(architecture) -> None:
    """``dL/dc_li = <dL/dB_l, B_li>``, with the gradients of an ordinary adapter that has the mixed factors."""
    policy = conditioned(architecture, "routers")
    coefficients_LM = policy.network(PREFERENCES[0]).detach().requires_grad_()
    rollout = policy.at(PREFERENCES[0]).generate(word_prompts(4), SAMPLED, stream(0))
    plain = {
        name: (a, nn.Parameter(b)) for name, (a, b) in mixed(policy.experts, coefficients_LM.detach()).factors.items()
    }
    one = AdapterPolicy("one", policy.decoder, Adapter(plain, policy.experts[0].scale))
    slopes = torch.autograd.grad(one.logprobs(rollout).sum(), list(one.parameters()))
    mix = AdapterPolicy("mix", policy.decoder, mixed(policy.experts, coefficients_LM))
    mine_LM = torch.autograd.grad(mix.logprobs(rollout).sum(), coefficients_LM)[0]
    for mine_M, name, slope_OR in zip(mine_LM, plain, slopes, strict=True):
        blocks = zip(policy.experts, slope_OR.chunk(3, dim=1), strict=True)
        chained = [(block_OR * expert.factors[name][1]).sum() for expert, block_OR in blocks]
        torch.testing.assert_close(mine_M, torch.stack(chained), atol=1e-8, rtol=1e-6)


def test_each_part_of_the_prompts_is_answered_and_learnt_under_its_own_preference(architecture) -> None:
    policy, prompts = conditioned(architecture, "routers"), word_prompts(6)
    rollout = policy.generate(prompts, SAMPLED, stream(0))
    assert [e.id for e in rollout.examples] == [e.id for e in prompts for _ in range(3)]
    with torch.no_grad():
        torch.testing.assert_close(policy.logprobs(rollout), rollout.logprobs_BT, atol=1e-8, rtol=0)
        shuffled = rollout.rows(torch.randperm(18, generator=stream(3)).tolist())
        hidden_BTH = policy.hidden(shuffled)
        for i, preference_K in enumerate(PREFERENCES):
            rows = [row for row, e in enumerate(shuffled.examples) if (e in prompts[:3]) == (i == 0)]
            alone_BTH = policy.at(preference_K).hidden(part := shuffled.rows(rows))
            mask_BT = part.response_mask_BT
            torch.testing.assert_close(
                hidden_BTH[rows, : mask_BT.shape[1]][mask_BT], alone_BTH[mask_BT], atol=1e-8, rtol=0
            )
    assert not torch.allclose(policy.at(PREFERENCES[0]).logprobs(rollout), policy.at(PREFERENCES[1]).logprobs(rollout))
