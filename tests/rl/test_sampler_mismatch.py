"""A sampler that rounds otherwise than training: what is measured, what updates make of it, and what it costs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import make_bank, shaken, word_prompts

from emorl_bench.config.schema import what_decides
from emorl_bench.core.memory import Memory
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Correction, Rollout, Sampling
from emorl_bench.rl.grpo import Grpo
from emorl_bench.rl.ppo import Ppo
from emorl_bench.rl.sampler_mismatch import corrected
from emorl_bench.rl.scst import Scst
from emorl_bench.rl.update import Updater
from emorl_bench.runner.base_model import correction

RECOMPUTE, WEIGH = Correction(False, 2.0), Correction(True, 2.0)
SAMPLING = Sampling(10, 1.0, 4)
RULES = {
    "ppo": Ppo(epochs=1, kl_coefficient=0.0),
    "grpo": Grpo(epochs=1, kl_coefficient=0.0),
    "scst": Scst(kl_coefficient=0.0),
}


def policy_of(architecture: str, dtype: torch.dtype, how: Correction | None, seed: int = 1):
    bank = make_bank(architecture, dtype=dtype)
    bank.decoder.correction = how
    return shaken(bank, seed, 0.1)


def sampled(policy) -> tuple[Rollout, torch.Tensor]:
    rollout = policy.generate(word_prompts(8), SAMPLING, stream(0))
    return rollout, torch.rand(len(rollout.examples), generator=stream(9))


def one_token(logprobs: list[float]) -> Rollout:
    rows = len(logprobs)
    ids_BT = torch.arange(rows)[:, None]
    examples = tuple(word_prompts(1) * rows)
    own_BT = torch.tensor(logprobs)[:, None]
    return Rollout(examples, ("",) * rows, ids_BT, torch.ones_like(ids_BT, dtype=torch.bool), own_BT, 1)


def test_weights_turn_a_mean_under_the_sampler_into_one_under_the_policy() -> None:
    """One token out of three, every one of them in turn: sum_v q(v) w(v) f(v) = sum_v pi(v) f(v)."""
    q_V, pi_V = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.3, 0.3, 0.4])
    f_V = torch.tensor([1.0, -2.0, 5.0])
    rollout, _ = corrected(one_token(q_V.log().tolist()), pi_V.log()[:, None], Correction(True, 10.0))
    torch.testing.assert_close((q_V * rollout.weighted(f_V[:, None])[:, 0]).sum(), (pi_V * f_V).sum())
    truncated, metrics = corrected(one_token(q_V.log().tolist()), pi_V.log()[:, None], Correction(True, 1.5))
    torch.testing.assert_close(truncated.importance_BT[:, 0], torch.tensor([0.6, 1.0, 1.5]))
    gaps_V = (pi_V / q_V).log().abs()
    assert metrics["sampler_mismatch"] == pytest.approx(gaps_V.mean().item())
    assert metrics["sampler_mismatch_max"] == pytest.approx(gaps_V.max().item())
    assert metrics["sampler_mismatch_clipped"] == pytest.approx(2 / 3)  # ratios 0.6, 1 and 2 against 1 +- 0.2


def test_what_is_masked_counts_nowhere() -> None:
    rollout = one_token([-1.0, -1.0])
    rollout = replace(rollout, response_mask_BT=torch.tensor([[True], [False]]))
    _, metrics = corrected(rollout, torch.tensor([[-1.5], [-9.0]]), RECOMPUTE)
    assert metrics["sampler_mismatch_max"] == pytest.approx(0.5)


@pytest.mark.parametrize("architecture", ["t5", "llama"])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_in_bfloat16_an_update_starts_at_a_ratio_of_one(architecture: str, rule) -> None:
    policy = policy_of(architecture, torch.bfloat16, RECOMPUTE)
    rollout, rewards_B = sampled(policy)
    own_BT = policy.logprobs(rollout).detach()  # with gradients: the training pass itself
    gaps = (own_BT - rollout.logprobs_BT)[rollout.response_mask_BT].abs()
    assert gaps.max() > 1e-3  # they do disagree here
    ledger = policy.decoder.ledger
    before = ledger.current.forward_passes
    metrics = rule.learner(policy, ledger).step(rollout, rewards_B, stream(1))
    assert ledger.current.forward_passes - before == rollout.tokens
    assert metrics["sampler_mismatch"] == pytest.approx(gaps.mean().item(), rel=0.05)
    assert metrics["sampler_mismatch_max"] == pytest.approx(gaps.max().item(), rel=0.05)
    if "ratio" in metrics:
        assert metrics["ratio"] == pytest.approx(1.0, abs=1e-3)
    assert metrics.get("clip_fraction", 0.0) == 0.0


def test_a_policy_is_read_again_in_the_parts_and_blocks_that_fit() -> None:
    """Rows and logits of the reading are divided as those of training are, so ratios still start at one."""
    found = []
    for memory in (Memory(), Memory(block_bytes=1 << 12, micro_batch=3)):
        policy = policy_of("llama", torch.bfloat16, RECOMPUTE)
        policy.decoder.memory = memory
        rollout, rewards_B = sampled(policy)
        metrics = RULES["grpo"].learner(policy, policy.decoder.ledger).step(rollout, rewards_B, stream(1))
        assert metrics["clip_fraction"] == 0.0
        found.append(metrics["sampler_mismatch"])
    assert found[0] == pytest.approx(found[1], rel=0.1)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_importance_weights_multiply_each_tokens_gradient(rule) -> None:
    """In float64, with a sampler whose log-probabilities are made wrong, against the formula written out."""
    policy = policy_of("llama", torch.float64, WEIGH)
    rollout, rewards_B = sampled(policy)
    noise_BT = 0.8 * torch.randn(rollout.logprobs_BT.shape, generator=stream(3), dtype=torch.float64)
    wrong = replace(rollout, logprobs_BT=(rollout.logprobs_BT + noise_BT) * rollout.response_mask_BT)
    learner = rule.learner(policy, policy.decoder.ledger)
    weights_BT = (-noise_BT).exp().clamp(max=2.0) * rollout.response_mask_BT
    found, _ = corrected(wrong, policy.logprobs(rollout).detach(), WEIGH)
    torch.testing.assert_close(found.importance_BT * rollout.response_mask_BT, weights_BT, atol=1e-9, rtol=0)

    has_B = torch.ones(len(rewards_B), dtype=torch.bool)
    batch = learner.prepare(found, rewards_B, has_B, None)
    leaf_BTH = policy.hidden(found).detach().requires_grad_()
    loss, _ = learner.loss(leaf_BTH, batch, batch)
    (slope_BTH,) = torch.autograd.grad(loss, [leaf_BTH])
    plain = learner.prepare(replace(found, importance_BT=None), rewards_B, has_B, None)
    for b, t in ((0, 0), (3, 1), (9, 2)):  # a token's weight is the factor between its slopes with and without
        one = leaf_BTH.detach().clone().requires_grad_()
        without, _ = learner.loss(one, plain, plain)
        (slope,) = torch.autograd.grad(without, [one])
        torch.testing.assert_close(slope_BTH[b, t], slope[b, t] * weights_BT[b, t], atol=1e-12, rtol=1e-6)


def test_learners_in_one_batch_are_corrected_as_alone() -> None:
    found = []
    for together in (True, False):
        bank = make_bank("llama", dtype=torch.bfloat16)
        bank.decoder.correction = RECOMPUTE
        pair = [shaken(bank, seed, 0.1) for seed in (1, 2)]
        data = [sampled(policy) for policy in pair]
        learners = [RULES["grpo"].learner(policy, bank.decoder.ledger) for policy in pair]
        with bank.decoder.ledger.together(["train/a", "train/b"]):
            updates = Updater(bank.decoder.ledger, together).update(
                learners, [r for r, _ in data], [w for _, w in data], [stream(1), stream(2)]
            )
        assert all(update["clip_fraction"] == 0.0 for update in updates)
        costs = bank.decoder.ledger.phases
        assert [costs[f"train/{name}"].forward_passes for name in "ab"] == [r.tokens for r, _ in data]
        found.append([update["sampler_mismatch"] for update in updates])
    assert found[0] == pytest.approx(found[1], rel=0.1)


def test_without_a_correction_nothing_is_read_or_reported() -> None:
    policy = policy_of("llama", torch.float32, None)
    rollout, rewards_B = sampled(policy)
    metrics = RULES["grpo"].learner(policy, policy.decoder.ledger).step(rollout, rewards_B, stream(1))
    assert not [key for key in metrics if key.startswith("sampler_mismatch")]


@pytest.mark.parametrize(
    ("dtype", "key", "wanted"),
    [
        ("float32", "recompute", None),
        ("tf32", "importance", None),
        ("bfloat16", "none", None),
        ("bfloat16", "recompute", RECOMPUTE),
        ("bfloat16", "importance", WEIGH),
    ],
)
def test_the_keys_act_in_bfloat16_alone_and_decide_a_run_there_alone(dtype, key, wanted) -> None:
    hardware = {"dtype": dtype, "sampler_correction": key, "importance_limit": 2.0}
    config = {"model": {"dtype": None}, "hardware": hardware}
    assert correction(config) == wanted
    assert ("sampler_correction" in what_decides(config)["hardware"]) == (dtype == "bfloat16")
    of_model = {"model": {"dtype": "bfloat16"}, "hardware": {**hardware, "dtype": "float32"}}
    assert "importance_limit" in what_decides(of_model)["hardware"]


def test_an_adapter_in_bfloat16_is_not_rounded_into_the_weight() -> None:
    """An update of a thousandth of a weight is lost in a sum in bfloat16, which keeps 8 bits, and not beside it."""
    found = {}
    for dtype in (torch.float64, torch.bfloat16):
        policy = shaken(make_bank("llama", dtype=dtype), 1, 0.0)
        small = {k: 1e-2 * torch.ones_like(v) for k, v in policy.adapter().items()}
        policy.load_adapter(small)
        (name, layer) = next(iter(policy.backbone.layers.items()))
        x = torch.linspace(-1, 1, layer.in_features, dtype=torch.float64)[None, None].to(dtype) + 0.5
        with torch.no_grad():
            base = layer(x)
            layer.activate(policy.adapters, name)
            found[dtype] = ((layer(x) - base).double(), layer._folded is not None)
            layer.deactivate()
    assert [folded for _, folded in found.values()] == [True, False]
    exact, low = (delta for delta, _ in found.values())
    assert (low - exact).norm() / exact.norm() < 0.3
