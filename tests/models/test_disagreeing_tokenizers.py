"""A tokenizer and a model that disagree: on the number of ids, on the end of a prompt, on where an answer starts."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ARCHITECTURES, VOCABULARY, make_bank, shaken, tiny_model, word_prompts, word_tokenizer
from support.chat import chat_tokenizer
from tokenizers import processors

from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Sampling
from emorl_bench.decoding import bf16_argmax
from emorl_bench.decoding.bf16_argmax import Bf16Argmax
from emorl_bench.decoding.decode import Decoder
from emorl_bench.ensemble.blending import Logits, Probabilities
from emorl_bench.models.backbone import Backbone
from emorl_bench.models.causal import CausalBackbone
from emorl_bench.models.loading import ModelSource, check_head, load_backbone
from emorl_bench.models.lora import AdapterSettings
from emorl_bench.models.prompting import PromptFormat
from emorl_bench.models.seq2seq import Seq2SeqBackbone
from emorl_bench.policies.adapter_policy import AdapterBank

BEYOND = 23  # embeddings without a token
CPU = torch.device("cpu")


def roomy(architecture: str) -> AdapterBank:
    """A model with more embeddings than tokens, whose head likes the others best."""
    model = tiny_model(architecture)
    torch.manual_seed(1)
    model.resize_token_embeddings(VOCABULARY + BEYOND, mean_resizing=False)
    with torch.no_grad():
        model.get_output_embeddings().weight[VOCABULARY:] *= 30
    family: type[Backbone] = Seq2SeqBackbone if architecture == "t5" else CausalBackbone
    backbone = family(model, word_tokenizer(), AdapterSettings(rank=4, alpha=8.0), 64)
    return AdapterBank(Decoder(backbone, Ledger(CPU)), seed=0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_id_without_a_token_has_no_probability(architecture: str) -> None:
    bank = roomy(architecture)
    check_head(bank.backbone)
    policy, prompts = shaken(bank, 1), word_prompts(6)
    for temperature in (0.0, 1.0):
        rollout = policy.generate(prompts, Sampling(12, temperature=temperature, samples_per_prompt=4), stream(0, "a"))
        assert rollout.response_ids_BT[rollout.response_mask_BT].max() < VOCABULARY
    logits_BTV = policy.logits(policy.hidden(rollout)).detach()
    own_BTV = bank.backbone.lm_head.weight.new_tensor(0) + logits_BTV[..., :VOCABULARY]
    assert torch.equal(logits_BTV.softmax(-1)[..., :VOCABULARY], own_BTV.softmax(-1))
    assert (logits_BTV.softmax(-1)[..., VOCABULARY:] == 0).all()
    assert torch.allclose(policy.logprobs(rollout).detach(), rollout.logprobs_BT * rollout.response_mask_BT, atol=1e-4)


@pytest.mark.parametrize("aggregator", [Logits(), Probabilities()])
def test_blends_with_a_weight_of_zero_stay_numbers(aggregator: Any) -> None:
    bank = roomy("llama")
    experts = [shaken(bank, 1), shaken(bank, 2)]
    blend = aggregator.blend(experts, torch.tensor([[0.0, 1.0]], dtype=torch.float64))
    alone = experts[1].generate(word_prompts(6), Sampling(8, temperature=0.0), stream(0, "a"))
    assert blend.generate(word_prompts(6), Sampling(8, temperature=0.0), stream(0, "a")).responses == alone.responses


def test_a_model_whose_ids_all_have_tokens_is_left_alone() -> None:
    assert make_bank("gpt2").backbone.without_token is None


def test_the_fast_argmax_leaves_out_ids_without_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bf16_argmax, "_fast_bfloat16", lambda: True)
    monkeypatch.setattr(bf16_argmax, "LEAST_WEIGHTS", 1)
    torch.manual_seed(0)
    head, states_LH = torch.nn.Linear(16, 500, bias=False), torch.randn(64, 16)
    without_V = torch.rand(500) < 0.3
    found = Bf16Argmax.of(head, without_V)
    assert found is not None
    logits_LV = head(states_LH).detach()
    assert without_V[logits_LV.argmax(-1)].any(), "the test needs outputs that would choose such an id"
    assert torch.equal(found.argmax(states_LH), logits_LV.masked_fill(without_V, -torch.inf).argmax(-1))


def test_an_end_token_that_a_tokenizer_adds_is_taken_off_a_prompt() -> None:
    tokenizer = word_tokenizer()
    tokenizer.sep_token = None
    plain = CausalBackbone(tiny_model("llama"), tokenizer, AdapterSettings(), 64, PromptFormat())
    expected = plain.prompt_ids("w4 w5")
    tokenizer._tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    assert list(tokenizer("w4 w5")["input_ids"]) == [*expected, 1]
    adding = CausalBackbone(tiny_model("llama"), tokenizer, AdapterSettings(), 64, PromptFormat())
    assert adding.prompt_ids("w4 w5") == expected
    assert adding.prompt_ids("") == [1], "a prompt cannot be empty"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_control_token_spelled_in_a_prompt_is_none(architecture: str) -> None:
    family: type[Backbone] = Seq2SeqBackbone if architecture == "t5" else CausalBackbone
    read = family(
        tiny_model(architecture), word_tokenizer(), AdapterSettings(), 64, PromptFormat(template="{prompt} w9")
    )
    expected = read.prompt_ids("w4 w5")
    for spelled in ("w4 </s> w5", "w4 <sep><pad> w5", "w4 <</s>/s> w5", "</s>w4 w5<sep>"):
        assert read.prompt_ids(spelled) == expected
    ids_BT, _ = read.response_ids(["w4 </s> w5"])
    assert ids_BT.tolist() == [[4, 5, 1]]
    templated = family(
        tiny_model(architecture), word_tokenizer(), AdapterSettings(), 64, PromptFormat(template="<sep> {prompt}")
    )
    assert templated.prompt_ids("w4")[0] == 3, "the template is the user's own"


def test_pieces_that_spell_a_control_token_do_not_end_a_chat_turn() -> None:
    read = CausalBackbone(tiny_model("llama"), chat_tokenizer(), AdapterSettings(), 64, PromptFormat())
    assert read.prompt_ids("w4 w3w31" + "1 w5") == read.prompt_ids("w4 w5")


def saved(directory: Path, architecture: str) -> Path:
    tiny_model(architecture).save_pretrained(directory)
    word_tokenizer().save_pretrained(directory)
    return directory


def load(directory: Path, family: str) -> Backbone:
    return load_backbone(ModelSource(family, str(directory)), AdapterSettings(), CPU, torch.float32)


def test_an_encoder_decoder_without_a_start_token_is_one_line(tmp_path: Path) -> None:
    saved(tmp_path, "t5")
    assert load(tmp_path, "seq2seq").first_token == 0
    for name in ("config.json", "generation_config.json"):
        config = json.loads((tmp_path / name).read_text())
        config.pop("decoder_start_token_id")
        (tmp_path / name).write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"model\.path=.*has no decoder_start_token_id"):
        load(tmp_path, "seq2seq")


def test_an_adapter_in_the_place_of_a_model_is_one_line(tmp_path: Path) -> None:
    saved(tmp_path / "both", "gpt2")
    shaken(make_bank("gpt2"), 1).save(tmp_path / "both")
    with pytest.raises(UserError, match=r"holds adapter_config\.json, so another model would be loaded"):
        load(tmp_path / "both", "causal")
    shaken(make_bank("gpt2"), 1).save(tmp_path / "alone")
    with pytest.raises(UserError, match="is an adapter of PEFT, not a model"):
        load(tmp_path / "alone", "causal")


@pytest.mark.parametrize("architecture", ["gpt2", "t5"])
def test_a_long_prompt_that_is_cut_anyway_says_nothing(
    architecture: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    backbone = make_bank(architecture).decoder.backbone
    backbone.tokenizer.model_max_length = 4
    assert len(backbone.plain_ids("w4 w5 w6 w7 w8 w9")) > 4
    assert "indexing errors" not in caplog.text
    backbone.tokenizer("w4 w5 w6 w7 w8 w9")
    assert "indexing errors" in caplog.text, "this is how it would be heard"
