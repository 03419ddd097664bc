"""A tokenizer of words with a chat template."""

from __future__ import annotations

from conftest import word_tokenizer
from transformers import PreTrainedTokenizerFast

TURN = "w30 {{ m.role }} {{ m.content }} w31 "
CHAT = "{% for m in messages %}" + TURN + "{% endfor %}{% if add_generation_prompt %}w30{% endif %}"


def chat_tokenizer(template: str = CHAT) -> PreTrainedTokenizerFast:
    """Turns begin with w30 and end with w31; the end of text is another token, as in many a checkpoint."""
    tokenizer = word_tokenizer()
    tokenizer.sep_token = None
    tokenizer.add_special_tokens({"additional_special_tokens": ["w30", "w31"]})
    tokenizer.chat_template = template
    return tokenizer
