"""Memory that runs out in a pass: it goes on in halves, with the same result, and the number of rows is remembered."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from conftest import make_bank, shaken, word_prompts, word_tokenizer
from support.allocations import Allocations
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from emorl_bench.core.ledger import Ledger
from emorl_bench.core.memory import Memory
from emorl_bench.core.ranks import Ranks
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Rollout, Sampling
from emorl_bench.decoding.decode import Decoder
from emorl_bench.models.causal import CausalBackbone
from emorl_bench.models.lora import AdapterSettings
from emorl_bench.policies.adapter_policy import AdapterBank, AdapterPolicy
from emorl_bench.rl.fitting import by_parts
from emorl_bench.rl.grpo import Grpo
from emorl_bench.rl.kl import kl_to_reference
from emorl_bench.rl.learner import AdapterRule
from emorl_bench.rl.ppo import Ppo
from emorl_bench.rl.scst import Scst

SAMPLED = Sampling(5, temperature=1.0, samples_per_prompt=4)
RULES = [Scst(kl_coefficient=0.1), Ppo(kl="full", epochs=2), Ppo(epochs=1, minibatches=2), Grpo(epochs=2)]


def cramped(policy: AdapterPolicy, most: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let no pass of more rows than ``most`` succeed; returns the rows of each pass that was tried."""
    tried: list[int] = []
    forced = policy.backbone.forced

    def failing(rollouts: list[Rollout]) -> Tensor:
        tried.append(sum(len(rollout.examples) for rollout in rollouts))
        if tried[-1] > most:
            raise torch.OutOfMemoryError("no room")
        return forced(rollouts)

    monkeypatch.setattr(policy.backbone, "forced", failing)
    return tried


def updated(rule: AdapterRule, most: int | None, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any, list[int]]:
    policy = shaken(make_bank("gpt2", dtype=torch.float64), 1)
    rollout = policy.generate(word_prompts(3), SAMPLED, stream(0))
    tried = [] if most is None else cramped(policy, most, monkeypatch)
    learner = rule.learner(policy, Ledger())
    for step in range(2):
        metrics = learner.step(rollout, torch.rand(12, generator=stream(step)), stream(2, step))
    monkeypatch.undo()
    return metrics, policy, tried


@pytest.mark.parametrize("rule", RULES, ids=["scst", "ppo full", "ppo", "grpo"])
def test_an_update_that_does_not_fit_is_the_same_update_in_halves(
    rule: AdapterRule, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected, whole, _ = updated(rule, None, monkeypatch)
    found, parted, tried = updated(rule, 4, monkeypatch)
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-7)
    for name, value in whole.adapter().items():
        torch.testing.assert_close(parted.adapter()[name], value, atol=1e-6, rtol=0)
    assert parted.memory.micro_batch == 3  # 12 or 6 rows, and then halves
    assert whole.memory.micro_batch is None
    first = next(place for place, rows in enumerate(tried) if rows <= 4)
    assert max(tried[first:]) == 3  # remembered: no pass of more rows is tried again
    assert "continuing with at most 3 rows in a pass" in capsys.readouterr().err


def test_memory_that_runs_out_in_the_loss_is_found_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = shaken(make_bank("t5", dtype=torch.float64), 1)
    rollout = policy.generate(word_prompts(2), SAMPLED, stream(0))
    learner = Scst(kl_coefficient=0.0).learner(policy, Ledger())
    inner, failed = learner.loss, []

    def loss(hidden_BTH: Tensor, part: Any, minibatch: Any) -> Any:
        if len(hidden_BTH) > 4:
            failed.append(len(hidden_BTH))
            raise torch.OutOfMemoryError
        return inner(hidden_BTH, part, minibatch)

    monkeypatch.setattr(learner, "loss", loss)
    learner.step(rollout, torch.rand(8, generator=stream(1)), stream(2))
    assert failed == [8]
    assert learner.ledger.current.optimiser_steps == 1


def test_the_kl_of_the_report_goes_on_in_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = shaken(make_bank("t5", dtype=torch.float64), 1)
    rollout = policy.generate(word_prompts(3), SAMPLED, stream(0))
    expected = kl_to_reference(rollout, policy.reference())
    tried = cramped(policy, 5, monkeypatch)
    assert kl_to_reference(rollout, policy.reference()) == pytest.approx(expected, rel=1e-12)
    assert tried == [12, 6, 3, 3, 3, 3]


@pytest.mark.parametrize(("rows", "ranks"), [(1, Ranks()), (4, Ranks(0, 2, in_step=True))])
def test_a_row_that_does_not_fit_and_ranks_in_step_end_the_run(rows: int, ranks: Ranks) -> None:
    policy = make_bank("t5").new_policy("p")
    policy.decoder.ranks = ranks

    def hungry(part: Any) -> None:
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        list(by_parts(range(rows), hungry, policy))
    assert policy.memory.micro_batch is None


# a real step with a large head -------------------------------------------------------------------------
WORDS, BUDGET = 151_936, 8 << 20


def wide_policy(block_bytes: int) -> AdapterPolicy:
    torch.manual_seed(0)
    shape = {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 64, "pad_token_id": 0, "eos_token_id": 1}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=WORDS, initializer_range=0.5, bos_token_id=1, **shape))
    backbone = CausalBackbone(model, word_tokenizer(), AdapterSettings(rank=2, alpha=4.0), 32)
    return shaken(AdapterBank(Decoder(backbone, Ledger(), memory=Memory(block_bytes)), 0), 1, 0.5)


def one_step(block_bytes: int) -> tuple[dict[str, float], dict[str, Tensor]]:
    """A rollout, an update that reads the reference and all of its vocabulary, and the KL of the report."""
    policy = wide_policy(block_bytes)
    rollout = policy.generate(word_prompts(2), replace(SAMPLED, temperature=0.9), stream(0))
    sizes = {}
    for name, rule in {"ppo": Ppo(kl="full", epochs=1), "scst": Scst(kl_coefficient=0.1)}.items():
        metrics = rule.learner(policy, Ledger()).step(rollout, torch.rand(8, generator=stream(1)), stream(2))
        sizes |= {f"{name}/{key}": value for key, value in metrics.items()}
    return sizes | {"kl": kl_to_reference(rollout, policy.reference())}, policy.adapter()


def test_a_whole_step_over_150_000_words_stays_within_eight_megabytes() -> None:
    plain, adapter = one_step(1 << 32)
    with Allocations() as seen:
        found, parted = one_step(BUDGET)
    assert found == pytest.approx(plain, rel=1e-4, abs=1e-5)
    for name, value in adapter.items():
        torch.testing.assert_close(parted[name], value, atol=1e-4, rtol=0)
    assert seen.largest <= BUDGET
    model = sum(p.nbytes for p in wide_policy(BUDGET).backbone.model.parameters() if isinstance(p, nn.Parameter))
    assert seen.peak <= BUDGET + 3 * model  # the model, and copies that are made while it is initialised and hashed
