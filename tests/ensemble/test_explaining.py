"""Shares of experts: they add up to the margin of what is decoded, and mean what they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from conftest import make_bank, shaken, word_prompts

from baselines.earlier_layer import EarlierLayer
from baselines.mod import Mod
from emorl_bench.core.errors import UserError
from emorl_bench.core.types import Rollout, Sampling
from emorl_bench.ensemble.blending import HiddenState, Logits, Probabilities
from emorl_bench.ensemble.explaining import records
from emorl_bench.ensemble.explaining.records import END, explain
from emorl_bench.ensemble.explaining.shares import shares_of
from emorl_bench.policies.adapter_policy import AdapterPolicy

WEIGHTS = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64)
ARCHITECTURES = ("t5", "gpt2", "llama")


@dataclass(frozen=True)
class Given:
    experts: Sequence[AdapterPolicy]
    blend: Any
    rollout: Rollout


def given(architecture: str, aggregator: Any, *, temperature: float = 0.0, dtype: torch.dtype = torch.float64) -> Given:
    bank = make_bank(architecture, dtype=dtype)
    experts = [shaken(bank, seed) for seed in (1, 2, 3)]
    blend = aggregator.blend(experts, WEIGHTS)
    sampling = Sampling(7, temperature, 2 if temperature else 1)
    return Given(experts, blend, blend.generate(word_prompts(5), sampling, torch.Generator().manual_seed(0)))


def next_logits(policy: AdapterPolicy, prompt: str, ids: Sequence[int]) -> torch.Tensor:
    """Logits (V,) of the next token by a pass over prompt and prefix, with nothing cached."""
    from emorl_bench.core.types import Example

    row = torch.tensor([[*ids, 0]])
    mask = torch.ones_like(row, dtype=torch.bool)
    rollout = Rollout((Example("x", prompt),), ("",), row, mask, torch.zeros(row.shape), 1, 1.0)
    with torch.no_grad():
        return policy.logits(policy.hidden(rollout))[0, -1]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("aggregator", [HiddenState(), Mod(), Logits()], ids=lambda a: type(a).__name__)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_shares_add_up_to_the_margin_of_the_decoded_distribution(
    architecture: str, aggregator: Any, temperature: float
) -> None:
    case = given(architecture, aggregator, temperature=temperature)
    found = shares_of(case.blend, case.rollout)
    for b, example in enumerate(case.rollout.examples):
        ids = case.rollout.response_ids_BT[b][case.rollout.response_mask_BT[b]].tolist()
        for t, token in enumerate(ids):
            each = [next_logits(expert, example.prompt, ids[:t]).log_softmax(-1) for expert in case.experts]
            blend = sum(w * logp for w, logp in zip(WEIGHTS[0], each, strict=True))
            others = blend.clone()
            others[token] = -torch.inf
            runner_up = int(others.argmax())
            assert int(found.runner_up_BT[b, t]) == runner_up
            assert found.margin_BT[b, t].item() == pytest.approx((blend[token] - blend[runner_up]).item(), abs=1e-9)
            assert found.shares_BTM[b, t].sum().item() == pytest.approx(found.margin_BT[b, t].item(), abs=1e-12)
            for m, (w, logp) in enumerate(zip(WEIGHTS[0], each, strict=True)):
                share = w * (logp[token] - logp[runner_up])
                assert found.shares_BTM[b, t, m].item() == pytest.approx(share.item(), abs=1e-9)
                assert found.logprobs_BTM[b, t, m].item() == pytest.approx(logp[token].item(), abs=1e-9)
                assert int(found.alone_BTM[b, t, m]) == int(logp.argmax())
                others_only = sum(v * o for i, (v, o) in enumerate(zip(WEIGHTS[0], each, strict=True)) if i != m)
                assert bool(found.pivotal_BTM[b, t, m]) == (int(others_only.argmax()) != int(blend.argmax()))
            if temperature == 0.0:
                assert token == int(blend.argmax())


def test_a_greedy_decision_divides_among_those_that_were_for_it() -> None:
    case = given("gpt2", HiddenState())
    found = shares_of(case.blend, case.rollout)
    decided = found.decided_BTM[case.rollout.response_mask_BT]
    shares = found.shares_BTM[case.rollout.response_mask_BT]
    assert torch.allclose(decided.sum(1), torch.ones(len(decided), dtype=torch.float64))
    assert (decided[shares <= 0] == 0).all()
    assert (shares < 0).any()  # otherwise the experts agree everywhere, and the line above says nothing


def test_a_blend_of_one_expert_is_that_experts_decision() -> None:
    case = given("llama", HiddenState())
    alone = replace(case.blend, weights_WM=torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64))
    rollout = alone.generate(word_prompts(5), Sampling(7, 0.0), torch.Generator())
    totals = explain(alone, rollout).totals()
    assert totals["decided"] == pytest.approx([0, 1, 0])
    assert totals["margin"] == pytest.approx([0, 1, 0])
    assert totals["agrees"][1] == 1
    assert totals["pivotal"][0] == totals["pivotal"][2] == 0


def test_equal_experts_decide_as_much_as_they_weigh() -> None:
    bank = make_bank("gpt2", dtype=torch.float64)
    blend = HiddenState().blend([shaken(bank, 1), shaken(bank, 1), shaken(bank, 1)], WEIGHTS)
    rollout = blend.generate(word_prompts(4), Sampling(6, 0.0), torch.Generator())
    totals = explain(blend, rollout).totals()
    assert totals["decided"] == pytest.approx(WEIGHTS[0].tolist())
    assert totals["margin"] == pytest.approx(WEIGHTS[0].tolist())
    assert totals["disputed"] == 0


def test_single_precision_explains_what_it_decodes() -> None:
    case = given("t5", HiddenState(), dtype=torch.float32)
    for answer in explain(case.blend, case.rollout).answers:
        for token in answer.tokens:
            assert sum(token.shares) == pytest.approx(token.margin, abs=1e-12)
            assert token.margin > -1e-4  # greedy


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_tokens_spell_the_answer_and_are_plain_records(architecture: str) -> None:
    case = given(architecture, Mod(), temperature=1.0)
    record = explain(case.blend, case.rollout).as_dict()
    assert record["experts"] == ["expert1", "expert2", "expert3"]
    assert record["weights"] == WEIGHTS[0].tolist()
    for answer, response in zip(record["answers"], case.rollout.responses, strict=True):
        spelt = "".join(token["text"] for token in answer["tokens"] if token["text"] != END)
        assert "".join(spelt.split()) == "".join(response.split()) or "<" in spelt  # special tokens have names
        for token in answer["tokens"]:
            assert [said == token["text"] for said in token["alone"]] == token["agrees"]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda experts: experts[0], "one policy"),
        (lambda experts: EarlierLayer(1).blend(experts, WEIGHTS), "meet inside the decoder"),
        (lambda experts: Probabilities().blend(experts, WEIGHTS), "no weighted sum"),
        (lambda experts: HiddenState().blend(experts, WEIGHTS.repeat(2, 1)), "one policy"),
    ],
)
def test_what_is_no_sum_of_experts_is_refused(make: Any, says: str) -> None:
    case = given("gpt2", HiddenState())
    with pytest.raises(UserError, match=says):
        explain(make(case.experts), case.rollout)


def test_many_answers_are_read_in_parts_and_explained_as_if_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    case = given("gpt2", HiddenState(), temperature=1.0)
    whole = explain(case.blend, case.rollout)
    monkeypatch.setattr(records, "ROWS", 3)
    parts = explain(case.blend, case.rollout)
    assert [answer.response for answer in parts.answers] == list(case.rollout.responses)
    for one, other in zip(whole.answers, parts.answers, strict=True):
        assert [token.alone for token in one.tokens] == [token.alone for token in other.tokens]
        for mine, theirs in zip(one.tokens, other.tokens, strict=True):
            assert mine.shares == pytest.approx(theirs.shares, abs=1e-9)
