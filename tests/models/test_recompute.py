"""Gradient checkpointing: the same gradients from fewer kept activations, and nothing else changes."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import VOCABULARY, make_bank, shaken, tiny_model, word_prompts, word_tokenizer
from hydra import compose, initialize_config_dir
from torch import Tensor
from torch.nn import Parameter
from torch.utils.flop_counter import FlopCounterMode
from transformers import GPT2LMHeadModel

from benchmarks import recompute
from emorl_bench.config.schema import register
from emorl_bench.core.errors import UserError
from emorl_bench.core.types import Rollout, Sampling
from emorl_bench.models.loading import ModelSource, load_backbone
from emorl_bench.models.lora import AdapterSettings
from emorl_bench.policies.adapter_policy import AdapterBank, AdapterPolicy
from emorl_bench.policies.together import hidden_together
from emorl_bench.rl.ppo import Ppo
from emorl_bench.rl.scst import Scst

CONF = Path(__file__).parents[2] / "conf"
SAMPLED = Sampling(6, 1.0, 3)
CPU = torch.device("cpu")
ROUNDING = 1e-5  # T5 and Llama normalise in float32 whatever they are given
STEP = 1e-5


def banks(architecture: str, *, dropout: float = 0.0) -> tuple[AdapterBank, AdapterBank]:
    """The same bank without recomputation and with it."""
    plain, recomputing = (make_bank(architecture, dtype=torch.float64) for _ in range(2))
    for bank in (plain, recomputing):
        bank.backbone.settings = replace(bank.backbone.settings, dropout=dropout)
    recomputing.backbone.checkpoint_gradients()
    return plain, recomputing


def experts(bank: AdapterBank, count: int) -> list[AdapterPolicy]:
    return [shaken(bank, seed) for seed in range(count)]


def rollouts(bank: AdapterBank, count: int) -> list[Rollout]:
    """Of policies that speak differently, on prompts of unequal length, three samples of each."""
    prompts = word_prompts(2 * count)
    return [
        policy.generate(prompts[2 * i : 2 * i + 2], SAMPLED, torch.Generator().manual_seed(i))
        for i, policy in enumerate(experts(bank, count))
    ]


def loss_of(hidden_MBTH: Tensor) -> Tensor:
    """Something in which every number of the hidden states counts, unequally."""
    weights = torch.linspace(-1.0, 1.0, hidden_MBTH.numel(), dtype=hidden_MBTH.dtype)
    return (hidden_MBTH.flatten().tanh() * weights).sum()


def parameters(policies: list[AdapterPolicy]) -> list[Parameter]:
    return [parameter for policy in policies for parameter in policy.parameters()]


def counted(masks: list[Tensor], hidden_MBTH: Tensor) -> Tensor:
    """What lies beyond the end of a response is nobody's concern."""
    return hidden_MBTH * torch.stack(masks)[..., None]


def masks_of(said: list[Rollout]) -> list[Tensor]:
    longest = max(rollout.response_ids_BT.shape[1] for rollout in said)
    return [torch.nn.functional.pad(r.response_mask_BT, (0, longest - r.response_mask_BT.shape[1])) for r in said]


@pytest.mark.parametrize("count", [1, 3], ids=["one expert", "stacked experts"])
def test_gradients_are_those_without_it(architecture: str, count: int) -> None:
    found = []
    for bank in banks(architecture):
        said, policies = rollouts(bank, count), experts(bank, count)
        hidden_MBTH = counted(masks_of(said), hidden_together(policies, said))
        found.append([hidden_MBTH, *torch.autograd.grad(loss_of(hidden_MBTH), parameters(policies))])
    for plain, recomputed in zip(*found, strict=True):
        torch.testing.assert_close(recomputed, plain, rtol=0, atol=ROUNDING * float(plain.detach().abs().max()))
    assert all(bool(gradient.any()) for gradient in found[0])


def test_the_backward_pass_drops_what_the_forward_pass_dropped(architecture: str) -> None:
    """Along the gradient, the loss rises as steeply as the gradient says, between passes that start from one seed."""
    bank = banks(architecture, dropout=0.4)[1]
    said, policies = rollouts(bank, 1), experts(bank, 1)
    own = parameters(policies)
    for parameter in own:  # float32 would not hold a small step
        parameter.data = parameter.data.double()

    def loss(seed: int = 7) -> Tensor:
        torch.manual_seed(seed)
        return loss_of(counted(masks_of(said), hidden_together(policies, said)))

    def moved(by: float) -> float:
        for parameter, start, gradient in zip(own, starts, gradients, strict=True):
            parameter.data = start + by / steepness * gradient
        return float(loss().detach())

    value = loss()
    torch.rand(3)  # the stream goes on, as it does between the two passes of a training step
    gradients = torch.autograd.grad(value, own)
    starts = [parameter.data for parameter in own]
    steepness = float(sum(gradient.square().sum() for gradient in gradients)) ** 0.5
    assert (moved(STEP) - moved(-STEP)) / (2 * STEP) == pytest.approx(steepness, rel=1e-2)
    assert abs(float(loss(seed=8).detach()) - float(value.detach())) > 1e-2  # something is dropped


def test_fewer_activations_are_kept(architecture: str) -> None:
    kept = []
    for bank in banks(architecture):
        said, policies = rollouts(bank, 3), experts(bank, 3)
        kept.append(recompute.saved_bytes(partial(hidden_together, policies, said)))
    assert kept[1] < kept[0] / 3


def test_decoding_and_passes_without_gradients_stay_as_they_are(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, recomputing = banks(architecture)
    monkeypatch.setattr("emorl_bench.models.gradient_checkpointing.checkpoint", None)  # called by nobody
    for bank in (plain, recomputing):
        bank.decoder.fused = None  # through the blocks themselves
    mine, theirs = rollouts(recomputing, 1)[0], rollouts(plain, 1)[0]
    assert torch.equal(mine.response_ids_BT, theirs.response_ids_BT)
    assert torch.equal(mine.logprobs_BT, theirs.logprobs_BT)
    with torch.no_grad():
        states = [shaken(bank, 0).hidden(theirs) for bank in (plain, recomputing)]
    assert torch.equal(*states)


def step(bank: AdapterBank, rule: Scst | Ppo) -> dict[str, Tensor]:
    """Adapter, optimiser (its first moment is the gradient) and metrics after one update."""
    (policy,), (said,) = experts(bank, 1), rollouts(bank, 1)
    learner, rng = rule.learner(policy, bank.decoder.ledger), torch.Generator().manual_seed(0)
    metrics = learner.step(said, torch.rand(6, generator=rng), rng)
    return {**learner.state_dict(), **policy.adapter(), **{k: torch.tensor(v) for k, v in metrics.items()}}


@pytest.mark.parametrize("rule", [Scst(kl_coefficient=0.1), Ppo(epochs=1, minibatches=2)], ids=["scst", "ppo"])
def test_a_training_step_is_the_same(architecture: str, rule: Scst | Ppo) -> None:
    plain, recomputed = (step(bank, rule) for bank in banks(architecture))
    assert plain.keys() == recomputed.keys()
    for key, value in plain.items():
        torch.testing.assert_close(recomputed[key], value, rtol=1e-5, atol=1e-7, equal_nan=True, msg=key)


def test_the_second_pass_is_counted() -> None:
    """The ledger counts operations with this counter, whose hooks see a recompute end by an exception."""
    flops = []
    for bank in banks("t5"):
        with FlopCounterMode(display=False) as counter:
            step(bank, Scst(kl_coefficient=0.0))
        flops.append(counter.get_total_flops())
    assert 1.1 < flops[1] / flops[0] < 1.6


def test_memory_that_runs_out_in_the_backward_pass_leaves_the_base_bare(monkeypatch: pytest.MonkeyPatch) -> None:
    bank = banks("llama")[1]
    (policy,), (said,) = experts(bank, 1), rollouts(bank, 1)
    last = bank.backbone.layers["model.layers.0.self_attn.q_proj"]
    forward, calls = last.forward, []

    def failing(x: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) > 1:
            raise torch.OutOfMemoryError
        return forward(x)

    monkeypatch.setattr(last, "forward", failing)
    learner = Scst(kl_coefficient=0.0).learner(policy, bank.decoder.ledger)
    with pytest.raises(torch.OutOfMemoryError):
        learner.step(said, torch.rand(len(said.examples)), torch.Generator())
    assert all(layer.update is None for layer in bank.backbone.layers.values())


def test_the_key_reaches_the_model(tmp_path: Path) -> None:
    tiny_model("gpt2").save_pretrained(tmp_path)
    word_tokenizer().save_pretrained(tmp_path)
    register()
    with initialize_config_dir(str(CONF), version_base=None):
        config = compose("config", overrides=["model=causal", f"model.path={tmp_path}"])
    assert config.model.gradient_checkpointing is False
    for wanted in (False, True):
        source = ModelSource("causal", str(tmp_path), gradient_checkpointing=wanted)
        backbone = load_backbone(source, AdapterSettings(), CPU, torch.float32)
        assert backbone.recomputes is wanted


def test_a_model_without_blocks_is_refused() -> None:
    bank = make_bank("gpt2")
    bank.backbone.model = torch.nn.Linear(2, VOCABULARY)
    bank.backbone.model.config = GPT2LMHeadModel.config_class()
    with pytest.raises(UserError, match=r"model.gradient_checkpointing=true: a gpt2 does not say what its blocks are"):
        bank.backbone.checkpoint_gradients()


def test_the_benchmark_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "record.json"
    recompute.main(["--quick", "--repeats", "1", "--shapes", "tiny_llama", "--out", str(out)])
    ratios = json.loads(capsys.readouterr().out.splitlines()[-1])["ratios"]
    assert ratios.keys() == {"time_tiny_llama", "saved_tiny_llama"}
    assert ratios["saved_tiny_llama"] > 3
    assert json.loads(out.read_text())["ratios"].keys() == ratios.keys()
    with pytest.raises(UserError, match="--sides=fast: known are plain, recomputed, compiled"):
        recompute.main(["--sides", "fast"])
