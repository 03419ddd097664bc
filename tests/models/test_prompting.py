"""How prompts are put to a model, what is cut from long ones, and where answers end."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import ARCHITECTURES, tiny_model, word_tokenizer
from support.chat import CHAT, chat_tokenizer

from emorl_bench.core.errors import UserError
from emorl_bench.models.backbone import Backbone
from emorl_bench.models.causal import CausalBackbone
from emorl_bench.models.lora import AdapterSettings
from emorl_bench.models.prompting import PromptFormat
from emorl_bench.models.seq2seq import Seq2SeqBackbone

SYSTEM_REFUSED = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + CHAT
DATED = "{{ strftime_now('%d %b %Y') if date_string is not defined else date_string }} " + CHAT


def backbone(architecture: str, form: PromptFormat, tokenizer: Any = None, limit: int = 64) -> Backbone:
    family: type[Backbone] = Seq2SeqBackbone if architecture == "t5" else CausalBackbone
    return family(tiny_model(architecture), tokenizer or word_tokenizer(), AdapterSettings(), limit, form)


def words(text: str) -> list[int]:
    return list(word_tokenizer()(text, add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_prompt_is_put_into_the_template_and_loses_its_beginning_at_a_word(architecture: str) -> None:
    end = 1 if architecture == "t5" else 3  # </s> after what an encoder reads, <sep> before an answer
    form = PromptFormat(system="w9", template="w20 w21 {prompt} w22")
    read = backbone(architecture, form, limit=8)
    assert read.prompt_ids("w4 w5") == [*words("w20 w21 w4 w5 w22"), end], "no system prompt without a chat template"
    assert not read.reader.truncates("w4 w5 w6 w7")
    assert read.prompt_ids("w4 w5 w6 w7 w8 w9 w10") == [*words("w20 w21 w7 w8 w9 w10 w22"), end]
    assert read.reader.truncates("w4 w5 w6 w7 w8")
    plain = backbone(architecture, PromptFormat(), limit=5)
    assert plain.prompt_ids("w4 w5 w6 w7") == [*words("w4 w5 w6 w7"), end]
    assert plain.prompt_ids("w4 w5 w6 w7 w8 w9") == [*words("w6 w7 w8 w9"), end]


def test_endless_prompts_take_no_time_and_keep_their_end() -> None:
    read = backbone("gpt2", PromptFormat(), limit=6)
    assert read.prompt_ids("w7 " * 3_000_000 + "w5") == [*words("w7 w7 w7 w7 w5"), 3]
    assert read.prompt_ids("x" * 3_000_000) == [2, 3], "one endless word is one unknown word"


def test_a_template_must_leave_room_and_have_one_place_for_the_prompt() -> None:
    with pytest.raises(UserError, match=r"max_prompt_tokens=4: .* take 4"):
        backbone("t5", PromptFormat(template="w4 w5 w6 {prompt}"), limit=4).reader.check_room()
    for template in ("nothing", "{prompt} {prompt}"):
        with pytest.raises(UserError, match=r"task.template"):
            PromptFormat(template=template)


def test_a_chat_model_reads_its_own_template_with_the_tasks_system_prompt() -> None:
    tokenizer = chat_tokenizer()
    form = PromptFormat(system="w6 w7", template="w20 {prompt}")
    read = backbone("llama", form, tokenizer)
    told = [{"role": "system", "content": "w6 w7"}, {"role": "user", "content": "w4 w5"}]
    expected = tokenizer.apply_chat_template(told, add_generation_prompt=True, return_dict=False)
    assert read.prompt_ids("w4 w5") == list(expected)
    assert read.prompt_ids("w4 w31 w5") == read.prompt_ids("w4  w5"), "a prompt cannot end its own turn"
    short = backbone("llama", form, tokenizer, limit=len(expected) - 1)
    assert short.prompt_ids("w4 w5") == read.prompt_ids("w5")
    assert short.reader.truncates("w4 w5")
    off = backbone("llama", PromptFormat(template="w20 {prompt}", chat="off"), tokenizer)
    assert off.prompt_ids("w4") == words("w20 w4")
    with pytest.raises(UserError, match=r"model\.chat=on"):
        backbone("t5", PromptFormat(chat="on"))


def test_a_template_that_refuses_a_system_prompt_has_the_user_say_it() -> None:
    read = backbone("llama", PromptFormat(system="w6"), chat_tokenizer(SYSTEM_REFUSED))
    assert read.prompt_ids("w4") == backbone("llama", PromptFormat(), chat_tokenizer()).prompt_ids("w6\n\nw4")


def test_a_prompt_is_the_same_on_every_day() -> None:
    read = backbone("llama", PromptFormat(), chat_tokenizer(DATED))
    assert "26 Jul 2024" in read.reader._conversation("w4")


def test_an_answer_in_chat_ends_with_its_turn_and_other_ends_are_known() -> None:
    model = tiny_model("llama")
    model.generation_config.eos_token_id = [1, 25]
    read = CausalBackbone(model, chat_tokenizer(), AdapterSettings(), 64)
    assert (read.eos, read.other_ends, read.pad) == (31, [1, 25], 0)
    assert read.is_eos(torch.tensor([1, 4, 25, 31])).tolist() == [True, False, True, True]
    ids = torch.tensor([[4, 5, 31], [6, 25, 0]])
    mask = torch.tensor([[True, True, True], [True, True, False]])
    assert read.response_texts(ids, mask) == ("w4 w5", "w6")
    assert backbone("llama", PromptFormat(chat="off"), chat_tokenizer()).eos == 1
    endless, model = chat_tokenizer(), tiny_model("llama")
    endless.eos_token = model.config.eos_token_id = model.generation_config.eos_token_id = None
    with pytest.raises(UserError, match="names no end token"):
        CausalBackbone(model, endless, AdapterSettings(), 64, PromptFormat(chat="off"))
