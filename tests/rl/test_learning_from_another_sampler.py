"""Updates from answers of an engine with numerics of its own: the gradient is that of the training pass."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import make_bank, make_bench, shaken, tiny_model, word_prompts
from support import standin_vllm

from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Budget, Correction, Sampling
from emorl_bench.policies.vllm_rollouts import started
from emorl_bench.rl.grpo import Grpo
from emorl_bench.rl.loop import train
from emorl_bench.rl.ppo import Ppo
from emorl_bench.rl.weighting import FixedWeights

SAMPLING = Sampling(8, 1.0, 4)
RULES = {
    "ppo": Ppo(epochs=2, kl_coefficient=0.0, learning_rate=1e-2),
    "grpo": Grpo(epochs=2, kl_coefficient=0.0, learning_rate=1e-2),
}


@pytest.fixture(autouse=True)
def vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    standin_vllm.install(monkeypatch)


def bank_of(place, correction):
    """A bank in float32, whose answers come from an engine in bfloat16."""
    tiny_model("llama").save_pretrained(place)
    bank = make_bank("llama")
    bank.decoder.engine = started(place, bank.backbone, 4, 0.5, 64 + 8, trust_remote_code=False)
    bank.decoder.correction = correction
    return bank


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_old_log_probabilities_are_those_of_the_training_pass(tmp_path, rule):
    """The update is the one that answers with exact log-probabilities would give; metrics tell the gap."""
    moved = {}
    for how in ("corrected", "exact", "raw"):
        bank = bank_of(tmp_path / how, Correction(False, 2.0) if how == "corrected" else None)
        policy = shaken(bank, 1, 0.1)
        rollout = policy.generate(word_prompts(6), SAMPLING, stream(0))
        own_BT = policy.logprobs(rollout).detach()
        gaps = (own_BT - rollout.logprobs_BT)[rollout.response_mask_BT].abs()
        assert gaps.max() > 1e-3  # the engine rounds otherwise
        rewards_B = torch.rand(24, generator=stream(9))
        given = replace(rollout, logprobs_BT=own_BT) if how == "exact" else rollout
        metrics = rule.learner(policy, bank.decoder.ledger).step(given, rewards_B, stream(1))
        if how == "corrected":
            assert metrics["sampler_mismatch"] == pytest.approx(gaps.mean().item(), rel=1e-3)
        moved[how] = torch.cat([tensor.flatten() for tensor in policy.adapter().values()])
    torch.testing.assert_close(moved["corrected"], moved["exact"], atol=1e-5, rtol=0)
    assert (moved["raw"] - moved["exact"]).abs().max() > 1e-4  # it would be another update


def test_importance_weights_come_from_the_engines_log_probabilities(tmp_path):
    bank = bank_of(tmp_path, Correction(True, 1.005))
    policy, rule = shaken(bank, 1, 0.1), RULES["grpo"]
    rollout = policy.generate(word_prompts(6), SAMPLING, stream(0))
    seen = []
    learner = rule.learner(policy, bank.decoder.ledger)
    inner = learner.prepare
    learner.prepare = lambda given, *rest: (seen.append(given), inner(given, *rest))[1]
    learner.step(rollout, torch.rand(24, generator=stream(9)), stream(1))
    shaken_again = shaken(bank, 1, 0.1)
    ratio_BT = (shaken_again.logprobs(rollout).detach() - rollout.logprobs_BT).exp().clamp(max=1.005)
    mask_BT = rollout.response_mask_BT
    torch.testing.assert_close(seen[0].importance_BT[mask_BT], ratio_BT[mask_BT], atol=1e-5, rtol=0)
    assert (ratio_BT[mask_BT] == 1.005).any()
    assert (ratio_BT[mask_BT] < 1).any()


class Killed(BaseException):
    """Stands for kill -9."""


def trained(place, dies_at=None):
    bank = bank_of(place / "model", Correction(False, 2.0))
    bench = make_bench(
        place,
        "llama",
        bank=bank,
        update=RULES["grpo"],
        budget=Budget(prompts=6 * 6 + 3 * 8),
    )
    if dies_at is not None:
        inner, calls = bench.score, []

        def score(rollout):
            calls.append(1)
            if len(calls) == dies_at:
                raise Killed
            return inner(rollout)

        bench = replace(bench, score=score)
    policy = bench.new_policy("policy")
    weighting = FixedWeights((0.5, 0.5))
    train(bench, policy, weighting, name="policy", budget=bench.budget, dir=bench.dir)
    return bench, policy.adapter(), len(bank.decoder.engine.llm.requests)


def test_a_training_that_was_interrupted_goes_on_with_the_same_answers(tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    bench, expected, asked = trained(tmp_path / "whole")
    logged = [row for row in bench.tracker.rows if "train/policy/sampler_mismatch" in row]
    assert len(logged) >= 6
    assert all(row["train/policy/sampler_mismatch"] > 0 for row in logged)
    with pytest.raises(Killed):
        trained(tmp_path / "cut", dies_at=6)
    _, found, asked_again = trained(tmp_path / "cut")
    assert 0 < asked_again < asked  # it went on from a checkpoint
    for key in expected:
        assert torch.equal(found[key], expected[key]), key
    assert not torch.equal(expected[key], bench.new_policy("fresh").adapter()[key])
