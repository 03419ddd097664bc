"""The fused decode against the slow way, against transformers' own modules, and against what its bookkeeping claims."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from conftest import ARCHITECTURES, make_bank, shaken, word_prompts
from support.plain_decode import dense_copies, plain_blend
from transformers import Qwen2Config, Qwen2ForCausalLM, T5Config, T5ForConditionalGeneration

from baselines.param_merge import Soup
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Rollout, Sampling
from emorl_bench.decoding.blend_cache import KnownAnswers
from emorl_bench.decoding.decode import Decoder
from emorl_bench.ensemble.blending import HiddenState
from emorl_bench.policies.adapter_policy import AdapterBank

STEPS = 12
GREEDY, SAMPLED = Sampling(STEPS, 0.0), Sampling(STEPS, 1.0, samples_per_prompt=3)
PROMPTS = word_prompts(6)
MARGIN = 1e-3  # float32: batched low-rank products and dense weights differ by less than this in a logit


def weights_of(count: int) -> torch.Tensor:
    return torch.rand(count, 3, generator=stream(5), dtype=torch.float64)


def ids(rollout: Rollout) -> list[list[int]]:
    return [row[keep].tolist() for row, keep in zip(rollout.response_ids_BT, rollout.response_mask_BT, strict=True)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_a_front_of_blends_says_what_three_plain_models_say(architecture, dtype):
    bank = make_bank(architecture, dtype=dtype)
    trio = [shaken(bank, seed) for seed in (1, 2, 3)]
    models = dense_copies(architecture, trio, dtype)
    weights_WM = weights_of(7)
    said = ids(HiddenState().blend(trio, weights_WM).generate(PROMPTS, GREEDY, stream(0)))
    plain = [plain_blend(models, bank.backbone, e.prompt, w, STEPS) for w in weights_WM for e in PROMPTS]
    different = [p.margin for s, p in zip(said, plain, strict=True) if s != p.ids]
    assert all(margin < MARGIN for margin in different)
    assert dtype == torch.float32 or not different
    assert len({tuple(p.ids) for p in plain}) > len(PROMPTS)  # the weight vectors do differ


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_fused_is_the_transformers_path(architecture, sampling):
    """Blends, merges and single policies through the model's own modules and cache: the same answers."""
    answers = []
    for fused in (True, False):
        bank = make_bank(architecture, dtype=torch.float64)
        if not fused:
            bank.decoder.fused = None
        trio = [shaken(bank, seed) for seed in (1, 2, 3)]
        generators = [HiddenState().blend(trio, weights_of(4)), Soup().blend(trio, weights_of(4)), trio[0]]
        answers.append([g.generate(PROMPTS, sampling, stream(0)) for g in [*generators, trio[0].reference()]])
    for ours, theirs in zip(*answers, strict=True):
        assert ours.responses == theirs.responses
        torch.testing.assert_close(ours.logprobs_BT, theirs.logprobs_BT, atol=1e-9, rtol=0, equal_nan=True)


def gated_t5() -> T5ForConditionalGeneration:
    shape = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "feed_forward_proj": "gated-gelu"}
    ids = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
    return T5ForConditionalGeneration(T5Config(vocab_size=40, tie_word_embeddings=False, **shape, **ids))


def biased_qwen() -> Qwen2ForCausalLM:
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=40, num_key_value_heads=2, initializer_range=0.2, **shape))
    for layer in model.model.layers:
        torch.nn.init.normal_(layer.self_attn.q_proj.bias)
    return model


@pytest.mark.parametrize("build", [gated_t5, biased_qwen], ids=lambda b: b.__name__)
def test_variants_of_the_architectures(build, monkeypatch):
    answers = []
    for fused in (True, False):
        torch.manual_seed(0)
        model = build()
        monkeypatch.setattr("conftest.tiny_model", lambda _, model=model: model)
        bank = make_bank("t5" if build is gated_t5 else "llama", dtype=torch.float64)
        assert bank.decoder.fused is not None
        if not fused:
            bank.decoder.fused = None
        trio = [shaken(bank, seed) for seed in (1, 2, 3)]
        answers.append(HiddenState().blend(trio, weights_of(3)).generate(PROMPTS, SAMPLED, stream(0)))
    assert answers[0].responses == answers[1].responses
    torch.testing.assert_close(answers[0].logprobs_BT, answers[1].logprobs_BT, atol=1e-9, rtol=0)


def prefixes(rollout: Rollout, blocks: int) -> int:
    """How many tokens must be decoded at least: distinct (prompt, prefix) pairs that some output goes on from."""
    each = len(rollout.examples) // blocks
    seen = set()
    for b, said in enumerate(ids(rollout)):
        prompt = rollout.examples[b % each].id
        seen |= {(prompt, tuple(said[:t])) for t in range(len(said))}
    return len(seen)


def test_rows_are_shared_by_equal_prefixes_and_leave_when_they_end(architecture):
    """The ledger's decoded tokens are the distinct prefixes among the outputs, counted here by hand."""
    bank = make_bank(architecture, dtype=torch.float64)
    trio = [shaken(bank, seed) for seed in (1, 2, 3)]
    cost = bank.decoder.ledger.current
    for generator, blocks in ((HiddenState().blend(trio, weights_of(9)), 9), (trio[0], 1)):
        for sampling in (GREEDY, SAMPLED):
            before = cost.decoded_tokens
            rollout = generator.generate(PROMPTS, sampling, stream(0))
            assert cost.decoded_tokens - before == prefixes(rollout, blocks)
            if blocks > 1 or sampling is SAMPLED:
                assert cost.decoded_tokens - before < rollout.tokens


@pytest.mark.parametrize("max_rows", [1, 7, 20])
def test_a_row_limit_changes_nothing(max_rows):
    answers = []
    for limit in (4096, max_rows):
        bank = make_bank("t5", dtype=torch.float64, max_rows=limit)
        trio = [shaken(bank, seed) for seed in (1, 2, 3)]
        both = (HiddenState().blend(trio, weights_of(4)), Soup().blend(trio, weights_of(4)))
        answers.append([g.generate(PROMPTS, SAMPLED, stream(0)).responses for g in both])
    assert answers[0] == answers[1]


def test_out_of_memory_halves_the_rows_and_goes_on(monkeypatch, capsys):
    bank = make_bank("t5", dtype=torch.float64)
    policy = shaken(bank, 1)
    expected = policy.generate(PROMPTS, SAMPLED, stream(0)).responses
    read = bank.decoder.fused.read

    def cramped(ids_PS, mask_PS, adapters):
        if len(ids_PS) > 2:
            raise torch.OutOfMemoryError("no room")
        return read(ids_PS, mask_PS, adapters)

    monkeypatch.setattr(bank.decoder.fused, "read", cramped)
    assert policy.generate(PROMPTS, SAMPLED, stream(0)).responses == expected
    assert bank.decoder.max_rows <= 4096 // 2
    assert "out of memory" in capsys.readouterr().err
    monkeypatch.setattr(bank.decoder.fused, "read", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("none")))
    with pytest.raises(torch.OutOfMemoryError):
        policy.generate(PROMPTS[:1], GREEDY, stream(0))


def test_prompts_read_in_groups_of_like_length_are_read_as_ever(architecture):
    """Twenty prompts in two groups, in no order of length, against each alone."""
    many = [*word_prompts(20)[::3], *word_prompts(20)[1::3], *word_prompts(20)[2::3]]
    trio = [shaken(make_bank(architecture, dtype=torch.float64), 1)]
    bank = trio[0].decoder
    trio += [shaken(AdapterBank(bank, 0), seed) for seed in (2, 3)]
    for generator in (trio[0], HiddenState().blend(trio, weights_of(1)), Soup().blend(trio, weights_of(2))):
        together = generator.generate(many, GREEDY, stream(0)).responses
        alone = [generator.generate([e], GREEDY, stream(0)).responses for e in many]
        assert list(together) == [answers[w] for w in range(len(alone[0])) for answers in alone]


def counting(bank) -> list[int]:
    calls: list[int] = []
    read = bank.decoder.fused.read
    bank.decoder.fused.read = lambda *a: (calls.append(len(a[0])), read(*a))[1]
    return calls


@pytest.mark.parametrize("architecture", ARCHITECTURES[:2])
def test_prompts_are_read_once_until_an_expert_changes(architecture):
    bank = make_bank(architecture)
    trio = [shaken(bank, seed) for seed in (1, 2, 3)]
    calls = counting(bank)
    first = [HiddenState().blend(trio, weights_of(w)).generate(PROMPTS, GREEDY, stream(0)) for w in (2, 5)]
    assert len(calls) == 1
    trio[0].load_adapter({k: v + 0.3 for k, v in trio[0].adapter().items()})
    second = HiddenState().blend(trio, weights_of(5)).generate(PROMPTS, GREEDY, stream(0))
    assert len(calls) == 2
    assert second.responses != first[1].responses
    trio[0].generate(PROMPTS, GREEDY, stream(0))  # what is being trained is read afresh every time
    assert len(calls) == 3


def simplex_grid(divisions: int) -> torch.Tensor:
    points = [p for p in itertools.product(range(divisions + 1), repeat=3) if sum(p) == divisions]
    return torch.tensor(points, dtype=torch.float64) / divisions


def test_answers_between_equal_answers_are_known_without_decoding(architecture):
    """A front refined from coarse to fine, against each of its blends decoded by itself and from nothing."""
    bank = make_bank(architecture, dtype=torch.float64)
    trio = [shaken(bank, seed) for seed in (1, 2, 3)]
    cost, refined = bank.decoder.ledger.current, {}
    for divisions in (1, 2, 4, 8):
        front = HiddenState().blend(trio, simplex_grid(divisions)).generate(PROMPTS, GREEDY, stream(0))
        refined |= dict(zip([tuple(w) for w in simplex_grid(divisions).tolist()], chunked(ids(front)), strict=True))
    asked, decoded = cost.generated_tokens, cost.decoded_tokens
    for weights, answers in refined.items():
        apart = make_bank(architecture, dtype=torch.float64)
        alone = HiddenState().blend([shaken(apart, s) for s in (1, 2, 3)], torch.tensor([weights], dtype=torch.float64))
        assert ids(alone.generate(PROMPTS, GREEDY, stream(0))) == answers
    assert decoded < asked / 2
    before = cost.decoded_tokens
    HiddenState().blend(trio, 2 * simplex_grid(8)).generate(PROMPTS, GREEDY, stream(0))  # scale is no direction
    assert cost.decoded_tokens == before


def chunked(rows: list[list[int]]) -> list[list[list[int]]]:
    return [rows[i : i + len(PROMPTS)] for i in range(0, len(rows), len(PROMPTS))]


def test_weights_without_a_direction_are_never_remembered():
    known = KnownAnswers()
    known.learn(np.array([0.5, 0.5]), (1, 2))
    known.learn(np.array([-1.0, 2.0]), (3,))
    known.learn(np.array([0.0, 0.0]), (4,))
    assert known.recall(np.array([0.0, 0.0])) == ((), False)
    assert known.recall(np.array([-0.5, -0.5])) == ((), False)
    assert known.recall(np.array([3.0, 3.0])) == ((1, 2), True)
    known.learn(np.array([1.0, 0.0]), (1, 2))
    assert known.recall(np.array([0.7, 0.3])) == ((1, 2), True)
    assert known.recall(np.array([0.3, 0.7])) == ((), False)


def test_weights_between_answers_that_begin_alike_begin_so_too():
    known = KnownAnswers()
    known.learn(np.array([1.0, 0.0]), (5, 6, 7, 1))
    known.learn(np.array([0.0, 1.0]), (5, 6, 8))
    assert known.recall(np.array([0.5, 0.5])) == ((5, 6), False)
    assert known.recall(np.array([1.0, 0.0])) == ((5, 6, 7, 1), True)
    known.learn(np.array([0.5, 0.5]), (5, 6, 8))
    assert known.recall(np.array([0.25, 0.75])) == ((5, 6, 8), True)
    assert known.recall(np.array([0.75, 0.25])) == ((5, 6), False)


def test_a_model_that_is_not_like_its_kind_is_decoded_by_its_modules(architecture, monkeypatch, capsys):
    bank = make_bank(architecture)
    assert bank.decoder.fused is not None
    assert "its own modules" not in capsys.readouterr().err
    kind = type(bank.decoder.fused)
    step = kind.step
    monkeypatch.setattr(kind, "step", lambda *arguments: 1.1 * step(*arguments))
    assert Decoder(bank.backbone, Ledger()).fused is None
    assert "its own modules" in capsys.readouterr().err


def test_a_sharded_base_has_no_fused_step(architecture):
    backbone = make_bank(architecture).backbone
    backbone.sharded = True
    assert Decoder(backbone, Ledger()).fused is None


def storage(tensors: Sequence[torch.Tensor]) -> set[int]:
    return {t.untyped_storage().data_ptr() for t in tensors}


def test_fusing_keeps_one_copy_of_the_weights(architecture):
    bank = make_bank(architecture)
    again = Decoder(bank.backbone, Ledger())
    for decoder in (bank.decoder, again):
        fused = [p.weight for layer in decoder.fused.projections for p in layer.values()]
        assert storage(fused) <= storage(list(bank.backbone.model.parameters()))


def test_joined_weights_of_a_second_decoder_are_those_of_the_first(architecture):
    bank = make_bank(architecture)
    again = Decoder(bank.backbone, Ledger())
    for mine, theirs in zip(bank.decoder.fused.projections, again.fused.projections, strict=True):
        for name, projection in mine.items():
            assert torch.equal(projection.weight, theirs[name].weight)
            assert projection.weight.data_ptr() == theirs[name].weight.data_ptr()
