"""Experts that meet inside the decoder, against models of transformers with PEFT's adapters that read all anew."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from conftest import make_bank, shaken, tiny_model, word_prompts, word_tokenizer
from hydra.utils import instantiate
from omegaconf import OmegaConf
from peft import PeftModel
from torch import Tensor

from baselines.earlier_layer import EarlierLayer
from emorl_bench.config.compose import conf_dir
from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Rollout, Sampling
from emorl_bench.decoding.decode import Decoder
from emorl_bench.emorl import Emorl
from emorl_bench.ensemble.blending import HiddenState
from emorl_bench.models.causal import CausalBackbone
from emorl_bench.models.lora import AdapterSettings
from emorl_bench.models.seq2seq import Seq2SeqBackbone
from emorl_bench.policies.adapter_policy import AdapterBank, AdapterPolicy
from emorl_bench.rl.kl import kl_to_reference
from emorl_bench.search.simplex import SimplexSubdivision

LAYERS = 4  # of the decoder; an encoder has two
STEPS = 6
GREEDY, SAMPLED = Sampling(STEPS, 0.0), Sampling(STEPS, 1.0, samples_per_prompt=3)
WEIGHTS = torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]], dtype=torch.float64)
PROMPTS = word_prompts(2)


def deep_model(architecture: str) -> Any:
    small = tiny_model(architecture)
    config = copy.deepcopy(small.config)
    setattr(config, "num_decoder_layers" if architecture == "t5" else "num_hidden_layers", LAYERS)
    torch.manual_seed(0)
    return type(small)(config).double().eval()


def deep_bank(architecture: str, max_rows: int = 4096) -> AdapterBank:
    family = Seq2SeqBackbone if architecture == "t5" else CausalBackbone
    backbone = family(deep_model(architecture), word_tokenizer(), AdapterSettings(rank=4, alpha=8.0), 64)
    return AdapterBank(Decoder(backbone, Ledger(flops_every=0), max_rows), seed=0)


def trio_of(bank: AdapterBank) -> list[AdapterPolicy]:
    return [shaken(bank, seed) for seed in (1, 2, 3)]


def ids_of(rollout: Rollout) -> list[list[int]]:
    return [row[keep].tolist() for row, keep in zip(rollout.response_ids_BT, rollout.response_mask_BT, strict=True)]


# the second implementation --------------------------------------------------------------------------
@pytest.fixture(scope="module")
def peft_models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[Any]]:
    """A model of its own for each expert of an architecture, its adapter as PEFT has it merged."""

    @cache
    def made(architecture: str) -> list[Any]:
        directory, models = tmp_path_factory.mktemp(architecture), []
        for expert in trio_of(deep_bank(architecture)):
            expert.save(directory / expert.name)
            peft = PeftModel.from_pretrained(deep_model(architecture), str(directory / expert.name))
            models.append(peft.double().merge_and_unload().eval())
        return models

    return made


def plain_logits(models: Sequence[Any], prompt: list[int], said: list[int], weights: Tensor, layer: int) -> Tensor:
    """(T+1, V) logits after each beginning of an answer: every model reads all of it twice, without a cache, the second
    time with the outputs of block ``layer`` put in its place.
    """
    given = {"input_ids": torch.tensor([[*prompt, *said]]), "use_cache": False, "output_hidden_states": True}
    if models[0].config.is_encoder_decoder:
        given |= {"input_ids": torch.tensor([prompt]), "decoder_input_ids": torch.tensor([[0, *said]])}
    total = 0.0
    states = [m(**given) for m in models]
    own = [s.decoder_hidden_states if "decoder_hidden_states" in s else s.hidden_states for s in states]
    assert {len(layers) for layers in own} == {LAYERS + 1}
    mean = sum(w * layers[layer] for w, layers in zip(weights.tolist(), own, strict=True))
    for w, model in zip(weights.tolist(), models, strict=True):
        if layer == LAYERS:
            hidden = mean * model.config.d_model**-0.5 if model.config.is_encoder_decoder else mean
            total = total + w * model.get_output_embeddings()(hidden)
        else:
            total = total + w * read_with(model, given, layer, mean).logits
    return total[0, -len(said) - 1 :]


def read_with(model: Any, given: dict[str, Any], layer: int, mean: Tensor) -> Any:
    body = model.get_decoder()
    block = next(blocks for blocks in body.children() if isinstance(blocks, torch.nn.ModuleList))[layer - 1]
    handle = block.register_forward_hook(lambda _, __, out: (mean, *out[1:]) if isinstance(out, tuple) else mean)
    try:
        return model(**given)
    finally:
        handle.remove()


@torch.no_grad()
def plain_answer(models: Sequence[Any], prompt: list[int], weights: Tensor, layer: int) -> list[int]:
    said: list[int] = []
    while len(said) < STEPS and 1 not in said:
        said.append(int(plain_logits(models, prompt, said, weights, layer)[-1].argmax()))
    return said


@pytest.mark.parametrize("layer", [1, 3, LAYERS])
def test_greedy_answers_are_those_of_plain_models(architecture, layer, peft_models) -> None:
    bank, models = deep_bank(architecture), peft_models(architecture)
    found = ids_of(EarlierLayer(layer).blend(trio_of(bank), WEIGHTS).generate(PROMPTS, GREEDY, stream(0)))
    read = [bank.backbone.prompt_ids(e.context) for e in PROMPTS]
    assert found == [plain_answer(models, prompt, w, layer) for w in WEIGHTS for prompt in read]
    assert len({tuple(answer) for answer in found}) > 1


def test_log_probabilities_are_those_of_what_was_sampled_from(architecture, peft_models) -> None:
    bank, models, hot = deep_bank(architecture), peft_models(architecture), replace(SAMPLED, temperature=0.7)
    rollout = EarlierLayer(2).blend(trio_of(bank), WEIGHTS).generate(PROMPTS, hot, stream(0))
    for row, said in enumerate(ids_of(rollout)):
        prompt = bank.backbone.prompt_ids(rollout.examples[row].context)
        with torch.no_grad():
            logits_TV = plain_logits(models, prompt, said[:-1], WEIGHTS[row // 6], 2)
        expected_T = (logits_TV / 0.7).log_softmax(-1)[range(len(said)), said]
        torch.testing.assert_close(rollout.logprobs_BT[row, : len(said)], expected_T, atol=1e-5, rtol=0)


# identities -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_the_last_layer_is_the_blend_of_last_hidden_states(architecture, sampling) -> None:
    trio = trio_of(deep_bank(architecture))
    mine = EarlierLayer(LAYERS).blend(trio, WEIGHTS).generate(PROMPTS, sampling, stream(0))
    theirs = HiddenState().blend(trio, WEIGHTS).generate(PROMPTS, sampling, stream(0))
    assert mine.responses == theirs.responses
    torch.testing.assert_close(mine.logprobs_BT, theirs.logprobs_BT, atol=1e-12, rtol=0, equal_nan=True)


@pytest.mark.parametrize("layer", [1, 3])
def test_one_experts_weight_alone_is_that_expert(architecture, layer) -> None:
    trio, corners = trio_of(deep_bank(architecture)), torch.eye(3, dtype=torch.float64)
    met = EarlierLayer(layer).blend(trio, corners).generate(PROMPTS, SAMPLED, stream(0))
    alone = [e.generate(PROMPTS, SAMPLED, stream(0)) for e in trio]
    assert met.responses == sum((r.responses for r in alone), ())
    assert len({r.responses for r in alone}) == 3
    for m, own in enumerate(alone):
        width = own.logprobs_BT.shape[1]
        torch.testing.assert_close(met.logprobs_BT[6 * m : 6 * m + 6, :width], own.logprobs_BT, atol=1e-9, rtol=0)


def test_an_inner_layer_is_no_blend_of_logits(architecture) -> None:
    """On the very first token, which all read from the same prompts: log-probabilities differ layer by layer."""
    trio, one = trio_of(deep_bank(architecture)), replace(SAMPLED, max_new_tokens=1, samples_per_prompt=64)
    logps = []
    for layer in (1, 2, 3, LAYERS):
        rollout = EarlierLayer(layer).blend(trio, WEIGHTS).generate(PROMPTS, one, stream(0))
        said = zip(range(len(rollout.responses)), rollout.response_ids_BT[:, 0].tolist(), strict=True)
        logps.append({(row // 64, token): float(rollout.logprobs_BT[row, 0]) for row, token in said})
    for i, inner in enumerate(logps):
        for other in logps[i + 1 :]:
            assert max(abs(inner[key] - other[key]) for key in inner.keys() & other.keys()) > 0.02


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_many_weight_vectors_at_once_are_one_after_the_other(architecture, sampling) -> None:
    trio = trio_of(deep_bank(architecture))
    weights_WM = torch.rand(4, 3, generator=stream(1), dtype=torch.float64)
    at_once = EarlierLayer(2).blend(trio, weights_WM).generate(PROMPTS, sampling, stream(0))
    single = [EarlierLayer(2).blend(trio, w[None]).generate(PROMPTS, sampling, stream(0)) for w in weights_WM]
    assert at_once.responses == sum((r.responses for r in single), ())
    assert len({r.responses for r in single}) > 1
    in_parts = EarlierLayer(2).blend(trio_of(deep_bank(architecture, max_rows=20)), weights_WM)
    assert in_parts.generate(PROMPTS, sampling, stream(0)).responses == at_once.responses


def test_weights_count_by_direction() -> None:
    trio = trio_of(deep_bank("gpt2"))
    rollouts = [EarlierLayer(2).blend(trio, WEIGHTS * f).generate(PROMPTS, SAMPLED, stream(0)) for f in (1, 0.1, 7)]
    for other in rollouts[1:]:
        torch.testing.assert_close(other.logprobs_BT, rollouts[0].logprobs_BT, atol=1e-9, rtol=0)


def test_only_samples_of_one_weight_vector_share_rows_and_nothing_is_remembered() -> None:
    bank = deep_bank("gpt2")
    met, cost = EarlierLayer(2).blend(trio_of(bank), WEIGHTS), bank.decoder.ledger.current
    said = ids_of(met.generate(PROMPTS, SAMPLED, stream(0)))
    fed = {(row // 3, *answer[:t]) for row, answer in enumerate(said) for t in range(len(answer))}
    assert cost.decoded_tokens == len(fed)
    spent = []
    for _ in range(2):
        before = cost.decoded_tokens
        greedy = met.generate(PROMPTS, GREEDY, stream(0))
        spent.append(cost.decoded_tokens - before)
    assert spent == [greedy.tokens] * 2


# as a method ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("layer", [0, -1, LAYERS + 1, 1.5, "two"])
def test_a_layer_that_is_not_there_is_refused_before_anything_is_trained(bench, layer) -> None:
    made = bench("t5", new_policy=deep_bank("t5").new_policy)
    with pytest.raises(UserError, match=rf"^method\.aggregator\.layer={layer}: .* has 4 layers; .* from 1 to 4 .*$"):
        Emorl(EarlierLayer(layer), SimplexSubdivision(2)).fit(made)
    assert not made.runtime.experts_dir.exists()
    assert not made.ledger.phases.keys() & {"train/even", "train/odd"}


def test_half_of_the_layers_by_default() -> None:
    trio = trio_of(deep_bank("llama"))
    half, two = (EarlierLayer(n).blend(trio, WEIGHTS).generate(PROMPTS, SAMPLED, stream(0)) for n in (None, 2))
    assert half.logprobs_BT.equal(two.logprobs_BT)


def test_a_model_whose_blocks_are_not_marked_is_refused(monkeypatch) -> None:
    bank = make_bank("gpt2")
    monkeypatch.setattr(bank.backbone.model, "get_decoder", torch.nn.Identity)
    with pytest.raises(UserError, match="a gpt2 does not say what its blocks are"):
        EarlierLayer(1).validate(bank.new_policy("p"))


@pytest.mark.parametrize("architecture", ["t5", "gpt2"])
def test_the_yaml_answers_every_preference_and_again_when_frozen(bench: Callable[..., Any], architecture) -> None:
    made, answers = bench(architecture, steps=8), []
    settings = OmegaConf.load(conf_dir() / "method" / "emorl_earlier.yaml")
    settings.pop("defaults")  # the update rule, which lies outside of a method
    method = instantiate(OmegaConf.to_container(settings))
    for given in (made, replace(made, ledger=Ledger()).with_runtime(frozen=True)):
        solution = method.fit(given)
        policies = [solution.policy_for(torch.tensor(p)) for p in ([1.0, 0.0], [0.5, 0.5], [0.0, 1.0])]
        answers.append([p.generate(word_prompts(4), SAMPLED, stream(1)) for p in policies])
    assert [r.responses for r in answers[0]] == [r.responses for r in answers[1]]
    even, _, odd = (made.score(r).mean(0) for r in answers[0])
    assert even[0] > odd[0]
    kl = [kl_to_reference(r, made.new_policy("base").reference()) for r in answers[0]]
    assert all(math.isfinite(value) and value > 0 for value in kl)
    rows = [json.loads(line) for line in (made.dir / "search.jsonl").read_text().splitlines()]
    assert len({tuple(row["weights"]) for row in rows}) == made.ledger.totals()["search_evaluations"] > 2
