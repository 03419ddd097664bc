"""Rollouts from an engine with vLLM's interface: the right tokens of the right adapter, counted, repeatable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import make_bank, shaken, tiny_model, word_prompts
from support import standin_vllm

from emorl_bench.core.errors import UserError
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Sampling
from emorl_bench.ensemble.blending import HiddenState
from emorl_bench.ensemble.merging import SideBySide
from emorl_bench.policies.adapter_policy import AdapterBank
from emorl_bench.policies.vllm_rollouts import VllmRollouts, rank_that_holds, started

PROMPTS = word_prompts(5)
GREEDY, SAMPLED = Sampling(7, 0.0), Sampling(7, 0.9, 3)


@pytest.fixture(autouse=True)
def vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    standin_vllm.install(monkeypatch)


def two_banks(place: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[AdapterBank, AdapterBank, VllmRollouts]:
    """The same model twice in float64, decoded by an engine in float64, and by our own decoder."""
    monkeypatch.setattr(standin_vllm, "COMPUTES", torch.float64)
    tiny_model("llama").double().save_pretrained(place)
    asked, own = (make_bank("llama", dtype=torch.float64) for _ in range(2))
    engine = started(place, asked.backbone, 16, 0.5, 64 + 7, trust_remote_code=False)
    asked.decoder.engine = engine
    return asked, own, engine


def test_greedy_answers_are_those_of_our_own_decoder(tmp_path, monkeypatch):
    asked, own, engine = two_banks(tmp_path, monkeypatch)
    for policy, expected in ((shaken(asked, 1), shaken(own, 1)), (shaken(asked, 1).reference(), own.new_policy("b"))):
        mine, theirs = (p.generate(PROMPTS, GREEDY, stream(0)) for p in (policy, expected))
        assert mine.responses == theirs.responses
        assert (mine.response_mask_BT == theirs.response_mask_BT).all()
        assert (mine.response_ids_BT == theirs.response_ids_BT)[mine.response_mask_BT].all()
        assert mine.logprobs_BT.isnan().all()
    assert [request is None for request in engine.llm.requests] == [False, True]
    assert len({mine.responses, shaken(own, 1).generate(PROMPTS, GREEDY, stream(0)).responses}) == 2  # adapters matter


def test_samples_carry_the_probabilities_that_they_were_drawn_with(tmp_path, monkeypatch):
    asked, _, _ = two_banks(tmp_path, monkeypatch)
    policy = shaken(asked, 1)
    rollout = policy.generate(PROMPTS, SAMPLED, stream(3))
    assert (rollout.group_size, rollout.temperature, len(rollout.examples)) == (3, 0.9, 15)
    torch.testing.assert_close(rollout.logprobs_BT, policy.logprobs(rollout).detach(), atol=1e-6, rtol=0)
    ends_BT = asked.backbone.is_eos(rollout.response_ids_BT) & rollout.response_mask_BT
    lengths_B = rollout.response_mask_BT.sum(1)
    assert ((ends_BT.sum(1) == 1) | (lengths_B == 7)).all()
    assert ends_BT.any()
    assert (lengths_B == 7).any()
    again, other = (policy.generate(PROMPTS, SAMPLED, stream(seed)) for seed in (3, 4))
    assert again.responses == rollout.responses != other.responses
    assert len(set(rollout.responses[:3])) > 1  # samples of one prompt have seeds of their own


def test_the_distribution_is_our_own(tmp_path, monkeypatch):
    """First tokens of many samples against the policy's probabilities: chi-squared over the commonest tokens."""
    asked, own, _ = two_banks(tmp_path, monkeypatch)
    rollout = shaken(asked, 1).generate(PROMPTS[:1], Sampling(1, 0.9, 800), stream(5))
    with torch.no_grad():
        hidden_1H = shaken(own, 1).hidden(shaken(own, 1).generate(PROMPTS[:1], GREEDY, stream(0)))[0, 0]
        p_V = (own.backbone.head(hidden_1H) / 0.9).softmax(-1)
    counts_V = torch.bincount(rollout.response_ids_BT[:, 0], minlength=len(p_V))
    common = p_V > 0.02
    assert common.sum() >= 3
    z = (counts_V - 800 * p_V)[common] / (800 * p_V * (1 - p_V))[common].sqrt()
    assert z.abs().max() < 4


def test_an_adapter_that_has_changed_is_sent_again_and_only_then(tmp_path, monkeypatch):
    asked, _, engine = two_banks(tmp_path, monkeypatch)
    policy = shaken(asked, 1)
    for _ in range(2):
        policy.generate(PROMPTS, SAMPLED, stream(0))
    policy.load_adapter({k: v * 1.5 for k, v in policy.adapter().items()})
    rollout = policy.generate(PROMPTS, SAMPLED, stream(0))
    torch.testing.assert_close(rollout.logprobs_BT, policy.logprobs(rollout).detach(), atol=1e-6, rtol=0)
    assert [request.lora_int_id for request in engine.llm.requests] == [1, 1, 2]
    assert [place.name for place in Path(engine._exports.name).iterdir()] == ["2"]


def test_merges_are_one_adapter_and_blends_stay_ours(tmp_path, monkeypatch):
    asked, own, engine = two_banks(tmp_path, monkeypatch)
    weights_WM = torch.tensor([[0.5, 0.3, 0.2], [0.0, 1.0, 0.0], [0.0, 0.4, 0.6]], dtype=torch.float64)
    experts, others = ([shaken(bank, seed) for seed in (1, 2, 3)] for bank in (asked, own))
    mine, theirs = (SideBySide(e, weights_WM).generate(PROMPTS, GREEDY, stream(0)) for e in (experts, others))
    assert mine.responses == theirs.responses
    assert len(set(mine.responses)) > len(PROMPTS)  # the weights matter
    calls = len(engine.llm.requests)
    assert calls == 3
    blends = [
        bank.decoder.decode_blend([p.own for p in e], weights_WM, HiddenState(), PROMPTS, GREEDY, stream(0)).responses
        for bank, e in ((asked, experts), (own, others))
    ]
    assert blends[0] == blends[1]
    assert len(engine.llm.requests) == calls


def test_learners_at_one_time_have_their_own_answers_and_costs(tmp_path, monkeypatch):
    from emorl_bench.policies.together import generate_together

    asked, _, _ = two_banks(tmp_path, monkeypatch)
    pair, ledger = [shaken(asked, seed) for seed in (1, 2)], asked.decoder.ledger
    with ledger.together(["train/a", "train/b"]):
        rollouts = generate_together(pair, PROMPTS, SAMPLED, [stream(1), stream(2)])
    for policy, rollout, name in zip(pair, rollouts, ("train/a", "train/b"), strict=True):
        alone = policy.generate(PROMPTS, SAMPLED, stream({"train/a": 1, "train/b": 2}[name]))
        assert rollout.responses == alone.responses
        cost = ledger.phases[name]
        counted = (cost.prompts, cost.samples, cost.generated_tokens, cost.decoded_tokens, cost.forward_passes)
        assert counted == (5, 15, rollout.tokens, rollout.tokens, rollout.tokens)
    weights = 2 * (4 * 32 * 32 - 2 * 32 * 16 + 3 * 32 * 64) + 40 * 32  # two blocks, half as many heads of k and v; head
    read = sum(len(asked.backbone.prompt_ids(e.context)) for e in PROMPTS)
    total = sum(ledger.phases[name].flops for name in ("train/a", "train/b"))
    assert total == 2 * weights * (sum(r.tokens for r in rollouts) + 2 * read)


def test_what_vllm_cannot_do_is_one_line(tmp_path, monkeypatch):
    asked, _, engine = two_banks(tmp_path, monkeypatch)
    policy = shaken(asked, 1)
    assert [rank_that_holds(rank) for rank in (1, 8, 24, 512)] == [8, 8, 32, 512]
    with pytest.raises(UserError, match=r"rank 513; lower model\.adapter\.rank, or say hardware.rollouts=own"):
        rank_that_holds(513)
    engine.rank = 3
    with pytest.raises(UserError, match="an adapter of rank 4, where vLLM was started for 3"):
        policy.generate(PROMPTS, GREEDY, stream(0))
    engine.rank = 16
    engine.llm.max_model_len = 4
    with pytest.raises(UserError, match=r"rollouts=vllm: The prompt is longer .* length of 4\.; say") as said:
        policy.generate(PROMPTS, GREEDY, stream(0))
    assert "\n" not in str(said.value)
    with pytest.raises(UserError, match=r"vLLM does not start .*hardware.vllm_memory=0.5"):
        started(tmp_path / "nothing", asked.backbone, 4, 0.5, 8, trust_remote_code=False)


@pytest.mark.parametrize(
    ("breaks", "says"),
    [
        (lambda c: replace(c, token_ids=[99]), "an id that is no token"),
        (lambda c: replace(c, token_ids=c.token_ids[:-1] or [5]), "ends neither with an end token nor at"),
        (lambda c: replace(c, token_ids=[1, *c.token_ids]), "ends neither"),
        (lambda c: replace(c, logprobs=c.logprobs[1:]), "without its log-probabilities"),
    ],
)
def test_an_engine_that_breaks_its_contract_is_one_line(tmp_path, monkeypatch, breaks, says):
    asked, _, engine = two_banks(tmp_path, monkeypatch)
    inner = engine._asked

    def broken(*given):
        outputs = inner(*given)
        for output in outputs:
            output.outputs = [breaks(output.outputs[0])]
        return outputs

    monkeypatch.setattr(engine, "_asked", broken)
    with pytest.raises(UserError, match=says):
        shaken(asked, 1).generate(PROMPTS, SAMPLED, stream(0))


def test_ids_without_a_token_have_no_probability(tmp_path, monkeypatch):
    asked, _, _ = two_banks(tmp_path, monkeypatch)
    without_V = torch.zeros(asked.backbone.vocabulary, dtype=torch.bool)
    without_V[8:] = True  # nearly all of them
    asked.backbone.without_token = without_V
    policy = shaken(asked, 1)
    rollout = policy.generate(PROMPTS, SAMPLED, stream(0))
    assert rollout.response_ids_BT[rollout.response_mask_BT].max() < 8
    torch.testing.assert_close(rollout.logprobs_BT, policy.logprobs(rollout).detach(), atol=1e-6, rtol=0)
