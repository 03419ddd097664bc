"""How a prompt becomes the tokens that a model reads, and which tokens end an answer.

A chat model reads its own template with the task's system prompt. Base models and encoder-decoders read the task's
template. A prompt that is longer than the limit loses the beginning of its content, up to the start of a word. The
template stays whole, and the last words of a dialogue, which matter most, are kept. Scorers see the whole prompt.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError

from emorl_bench.core.errors import UserError
from emorl_bench.core.patience import at_most

PLACE = "{prompt}"
LONGEST_TOKEN = 64  # characters: tokens are shorter on average, so text beyond this times the limit is not encoded
REMEMBERED = 8192  # prompts whose tokens are cached, because each prompt is read in every epoch
# A template may insert today's date (Llama 3) or ask for thoughts before the answer (Qwen 3). The prompt must be the
# same on every day, and only the answer is graded.
TEMPLATE_SETTINGS = {"date_string": "26 Jul 2024", "enable_thinking": False}
PATIENCE = 10.0  # seconds for one conversation in a template, which takes milliseconds
MARK = "mark"  # stands for an answer, to find the token that follows it in a template


@dataclass(frozen=True)
class PromptFormat:
    """How a task puts a prompt before a model.

    Attributes:
        system: the system prompt of chat models; None: they get none.
        template: the text for other models, with one ``{prompt}`` in it.
        chat: "on" forces the chat template, "off" forces ``template``; "auto" takes the chat template if the model is
            decoder-only and has one.
    """

    system: str | None = None
    template: str = PLACE
    chat: str = "auto"

    def __post_init__(self) -> None:
        """Check the template.

        Raises:
            UserError: the template has no ``{prompt}``, or several.
        """
        if self.template.count(PLACE) != 1:
            raise UserError(f"task.template={self.template!r}: give a text with one {PLACE} in it")

    def uses_chat(self, tokenizer: Any, family: str) -> bool:
        """Whether a model reads its own chat template.

        Raises:
            UserError: ``chat`` is "on", and the model has no chat template.
        """
        has_one = family == "causal" and bool(tokenizer.chat_template)
        if self.chat == "on" and not has_one:
            raise UserError("model.chat=on: this model has no chat template; say model.chat=auto")
        return has_one and self.chat != "off"


class PromptReader:
    """Token ids of prompts for one tokenizer.

    Args:
        tokenizer: a tokenizer of transformers.
        form: the template and the system prompt.
        limit: the largest number of tokens of a prompt in its template.
        chat: whether the model's own chat template is used.
        plain: encodes a text otherwise, with the special tokens of the model's family.
    """

    def __init__(
        self, tokenizer: Any, form: PromptFormat, limit: int, chat: bool, plain: Callable[[str], Sequence[int]]
    ) -> None:
        """Prepare the reader; see the class for the arguments."""
        self.tokenizer, self.form, self.limit, self.chat, self.plain = tokenizer, form, limit, chat, plain
        self._controls = [
            token.content for token in tokenizer.added_tokens_decoder.values() if token.special and token.content
        ]
        self._has_system = chat and form.system is not None and self._takes_system()
        self._read = lru_cache(maxsize=REMEMBERED)(self._read_anew)

    def ids(self, text: str) -> list[int]:
        """Token ids of a prompt in its template, at most ``limit``."""
        return list(self._read(text)[0])

    def truncates(self, text: str) -> bool:
        """Whether a prompt is longer than the limit, so that it loses its beginning."""
        return self._read(text)[1]

    def check_room(self) -> None:
        """Check that the template and the system prompt leave room for a prompt.

        Raises:
            UserError: they alone reach the limit.
        """
        if (needed := len(self._encoded(""))) >= self.limit:
            raise UserError(
                f"model.max_prompt_tokens={self.limit}: template and system prompt alone take {needed}; give more"
            )

    def _read_anew(self, text: str) -> tuple[tuple[int, ...], bool]:
        """Token ids, and whether the prompt was truncated; bisection finds the longest ending that fits."""
        tail = text[-LONGEST_TOKEN * self.limit :]
        ids = self._encoded(tail)
        if len(ids) <= self.limit:
            return tuple(ids), len(tail) < len(text)
        start = bisect_left(range(len(tail)), True, key=lambda s: len(self._encoded(tail[s:])) <= self.limit)
        kept = _from_a_word(tail, start)
        while len(ids := self._encoded(kept)) > self.limit:  # in rare cases a shorter text has one token more
            kept = kept[1:]
        return tuple(ids), True

    def _encoded(self, text: str) -> Sequence[int]:
        if self.chat:
            return self.tokenizer(self._conversation(text), add_special_tokens=False)["input_ids"]
        return self.plain(self.form.template.replace(PLACE, self.without_controls(text)))

    def without_controls(self, text: str) -> str:
        """A text in which no control token is spelled; what is left when one is removed may spell another."""
        before = None
        while before != text:
            before = text
            for control in self._controls:
                text = text.replace(control, "")
        return text

    def _conversation(self, text: str) -> str:
        text = self.without_controls(text)
        messages: list[dict[str, Any]] = [{"role": "user", "content": text}]
        if self._has_system:
            messages.insert(0, {"role": "system", "content": self.form.system})
        elif self.form.system is not None:
            messages[0]["content"] = f"{self.form.system}\n\n{text}"
        return rendered(self.tokenizer, messages, add_generation_prompt=True)

    def _takes_system(self) -> bool:
        """Whether the template has a system role. If not, the system prompt is put before the user's message."""
        try:
            rendered(self.tokenizer, [{"role": role, "content": "a"} for role in ("system", "user")])
        except TemplateError:
            return False
        return True


def rendered(tokenizer: Any, messages: Sequence[dict[str, Any]], **options: Any) -> str:
    """A conversation as the text of the tokenizer's chat template.

    Raises:
        UserError: the template does not end.
    """
    with at_most(PATIENCE, "the chat template of the model"):
        text: str = tokenizer.apply_chat_template(messages, tokenize=False, **TEMPLATE_SETTINGS, **options)
    return text


def _from_a_word(text: str, start: int) -> str:
    """``text`` from ``start`` on, without the rest of a word that began earlier, unless no other word follows."""
    if start == 0 or text[start - 1].isspace():
        return text[start:].lstrip()
    parts = text[start:].split(maxsplit=1)
    cut_word_only = len(parts) < 2 or text[start].isspace()
    return text[start:].lstrip() if cut_word_only else parts[1]


def end_ids(tokenizer: Any, model: Any, chat: bool) -> tuple[int, ...]:
    """The ids of all tokens that end an answer; the first one is added to given answers.

    The first one of a chat model is the token that the template puts after an answer, such as ``<|im_end|>``. It may
    differ from the tokenizer's end-of-text token. A checkpoint may name several end tokens
    (``generation_config.eos_token_id`` is then a list).

    Raises:
        UserError: the model names no end token.
    """
    generation = getattr(model, "generation_config", None)
    named = [tokenizer.eos_token_id, getattr(generation, "eos_token_id", None), model.config.eos_token_id]
    found = [_turn_end(tokenizer)] if chat else []
    for value in named:
        found += value if isinstance(value, list | tuple) else [value]
    ends = tuple(dict.fromkeys(int(i) for i in found if i is not None))
    if not ends:
        raise UserError(f"model '{model.config.model_type}' names no end token: set eos_token in tokenizer_config.json")
    return ends


def _turn_end(tokenizer: Any) -> int | None:
    """The first control token after an answer in a conversation; None if the template puts none there."""
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": MARK}]
    after = rendered(tokenizer, messages).rpartition(MARK)[2]
    controls = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    ids = tokenizer(after, add_special_tokens=False)["input_ids"]
    return next((i for i in ids if i in controls), None)
