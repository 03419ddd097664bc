"""The decode loop and the re-scoring of rollouts, against transformers' own generate and against each other."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import make_bank, shaken, tiny_model, word_prompts
from peft import PeftModel

from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Sampling
from emorl_bench.decoding.sampling import blockwise_argmax, sample_token
from emorl_bench.models.loading import check_head
from emorl_bench.rl.advantages import group_advantages
from emorl_bench.rl.scst import Scst

GREEDY = Sampling(12, temperature=0.0)
SAMPLED = Sampling(12, temperature=1.0, samples_per_prompt=3)


def test_greedy_decode_is_transformers_generate_with_peft(architecture, tmp_path):
    """Our adapter, saved, loaded by PEFT into a fresh base and decoded by transformers: the same ids."""
    bank = make_bank(architecture, dtype=torch.float64)
    policy = shaken(bank, 1)
    policy.save(tmp_path)
    examples = word_prompts(9)
    ours = policy.generate(examples, GREEDY, stream(0))

    peft = PeftModel.from_pretrained(tiny_model(architecture).double(), str(tmp_path)).double().eval()
    prompts = [bank.backbone.prompt_ids(e.prompt) for e in examples]
    ids, mask = bank.backbone._padded(prompts, left=architecture != "t5")
    settings = {"do_sample": False, "max_new_tokens": 12, "eos_token_id": 1, "pad_token_id": 0}
    theirs = peft.generate(input_ids=ids, attention_mask=mask, **settings)
    theirs = theirs[:, 1:] if architecture == "t5" else theirs[:, ids.shape[1] :]
    for b in range(len(examples)):
        length = int(ours.response_mask_BT[b].sum())
        assert torch.equal(ours.response_ids_BT[b, :length], theirs[b, :length])
    assert len({tuple(row.tolist()) for row in ours.response_ids_BT}) > 1


def test_cached_and_uncached_logprobs_agree(architecture):
    policy = shaken(make_bank(architecture, dtype=torch.float64), 1)
    for temperature in (1.0, 0.7):
        rollout = policy.generate(word_prompts(7), replace(SAMPLED, temperature=temperature), stream(0))
        torch.testing.assert_close(policy.logprobs(rollout), rollout.logprobs_BT, atol=1e-9, rtol=0)


def test_batch_size_and_padding_change_nothing(architecture):
    """One prompt at a time, all at once, and in chunks of a few rows: the same sampled answers."""
    together = shaken(make_bank(architecture, dtype=torch.float64), 1).generate(word_prompts(7), SAMPLED, stream(3))
    chunked = shaken(make_bank(architecture, dtype=torch.float64, max_rows=6), 1).generate(
        word_prompts(7), SAMPLED, stream(3)
    )
    assert together.responses == chunked.responses
    torch.testing.assert_close(together.logprobs_BT, chunked.logprobs_BT, atol=1e-9, rtol=0)
    alone = [
        shaken(make_bank(architecture, dtype=torch.float64), 1).generate([e], GREEDY, stream(0))
        for e in word_prompts(7)
    ]
    greedy = shaken(make_bank(architecture, dtype=torch.float64), 1).generate(word_prompts(7), GREEDY, stream(0))
    assert greedy.responses == tuple(r.responses[0] for r in alone)


def test_padding_side_does_not_matter_for_causal_models():
    """The same prompt padded by longer neighbours gives the log-probabilities that it has alone."""
    policy = shaken(make_bank("gpt2", dtype=torch.float64), 2)
    rollout = policy.generate(word_prompts(5), SAMPLED, stream(1))
    whole = policy.logprobs(rollout)
    for b in range(len(rollout.examples)):
        part = rollout.rows([b])
        torch.testing.assert_close(policy.logprobs(part)[0], whole[b, : part.logprobs_BT.shape[1]], atol=1e-9, rtol=0)


def test_rows_end_at_their_own_end_token(architecture):
    policy = make_bank(architecture).new_policy("p")
    rollout = policy.generate(word_prompts(20), Sampling(30, 1.0, 4), stream(5))
    ended = 0
    for ids, mask in zip(rollout.response_ids_BT, rollout.response_mask_BT, strict=True):
        kept = ids[mask].tolist()
        assert 1 not in kept[:-1]
        assert (ids[~mask] == 0).all()
        ended += kept[-1] == 1
    assert ended > 10


def test_sampling_follows_the_distribution():
    logits = torch.tensor([[0.0, 1.0, -1.0, 2.0]])
    uniforms = (torch.arange(20_000) + 0.5) / 20_000  # a quantile grid: the counts are exact up to rounding
    picked, logps = sample_token(logits.expand(20_000, -1), 0.5, uniforms)
    expected = (logits[0] / 0.5).softmax(-1)
    torch.testing.assert_close(torch.bincount(picked, minlength=4) / 20_000, expected, atol=2e-4, rtol=0)
    torch.testing.assert_close(logps, expected.log()[picked])


def test_reference_is_the_base_with_adapters_off(architecture):
    bank = make_bank(architecture)
    changed, fresh = shaken(bank, 1), bank.new_policy("fresh")
    rollout = changed.generate(word_prompts(4), SAMPLED, stream(0))
    torch.testing.assert_close(changed.reference().logprobs(rollout), fresh.logprobs(rollout))
    assert (changed.logprobs(rollout) - fresh.logprobs(rollout)).abs().max() > 0.01


def test_head_check_accepts_these_and_refuses_a_capped_head(architecture):
    bank = make_bank(architecture)
    check_head(bank.backbone)
    bank.backbone.model.config.model_type = "capped"
    inner = bank.backbone.head
    bank.backbone.head = lambda hidden: inner(hidden).tanh()
    with pytest.raises(UserError, match="capped"):
        check_head(bank.backbone)


def test_ledger_counts_what_was_decoded():
    bank = make_bank("t5")
    rollout = bank.new_policy("p").generate(word_prompts(5), SAMPLED, stream(0))
    cost = bank.decoder.ledger.current
    assert (cost.prompts, cost.samples, cost.generated_tokens) == (5, 15, rollout.tokens)
    assert cost.flops > 0


def test_bfloat16_decodes_and_learns(architecture):
    """The base in bfloat16, the adapter and its optimiser in float32."""
    policy = make_bank(architecture, dtype=torch.bfloat16).new_policy("p")
    rollout = policy.generate(word_prompts(6), SAMPLED, stream(0))
    before = policy.logprobs(rollout).sum(1).detach()
    rewards_B = torch.rand(18, generator=stream(1))
    metrics = Scst(learning_rate=1e-2, kl_coefficient=0.0).learner(policy, Ledger()).step(rollout, rewards_B, stream(2))
    gain = (policy.logprobs(rollout).sum(1).detach() - before) @ group_advantages(rewards_B, 3)
    assert gain > 0
    assert all(value == value for value in metrics.values())
    assert {p.dtype for p in policy.parameters()} == {torch.float32}


@pytest.mark.parametrize("vocabulary", [5, 127, 128, 129, 300, 1000, 1024])
def test_the_largest_logit_is_found_block_by_block(vocabulary):
    logits_LV = torch.randn(200, vocabulary, generator=torch.Generator().manual_seed(vocabulary))
    assert torch.equal(blockwise_argmax(logits_LV), logits_LV.argmax(-1))
    ends = torch.eye(vocabulary)  # every place, the first and the last included
    assert torch.equal(blockwise_argmax(ends), torch.arange(vocabulary))
