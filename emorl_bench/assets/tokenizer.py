"""A word-level tokenizer over the world's own words: small vocabulary, short sequences, fast training.

Text is lower-cased and split at punctuation; decoding attaches the marks to their words again. Special ids: pad 0, eos
1, unk 2, sep 3. ``sep`` ends the prompt of a decoder-only model, whose input is ``ids(prompt) + [sep] + ids(response) +
[eos]``. A T5-type model reads ``ids(prompt) + [eos]`` and answers ``ids(response) + [eos]``. The tokenizer itself adds
no special token.
"""

from __future__ import annotations

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from emorl_bench.assets.world import lexicon, responses

PAD, EOS, UNK, SEP = "<pad>", "</s>", "<unk>", "<sep>"
SPECIAL = (PAD, EOS, UNK, SEP)
CONTRACTIONS = {"n['’]t\\b": " not", "['’]m\\b": " am", "['’]re\\b": " are", "['’]ve\\b": " have", "['’]s\\b": " is"}


def world_words() -> list[str]:
    """Every word and mark of the world, sorted."""
    phrases = [*lexicon.EVENTS, *lexicon.FEELINGS, *lexicon.HOPES, *lexicon.OBSTACLES, *lexicon.STYLES]
    phrases += [p for b in lexicon.BEHAVIOURS for p in (b.doing, b.name, b.change)]
    phrases += [p for kind in responses.KINDS.values() for p in kind]
    phrases += [*responses.WARM, *responses.COLD, *lexicon.SECOND_PERSON, *lexicon.SECOND_PERSON.values()]
    phrases += responses.WRONG_FORM.values()
    words = {word for phrase in phrases for word in responses.split_words(phrase)}
    return sorted(word for word in words if "{" not in word)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of `reflections`."""
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *world_words()])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNK))
    rules = [normalizers.Replace(Regex(short), full) for short, full in CONTRACTIONS.items()]
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *rules])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    # The decoder joins words with spaces, and attaches punctuation to words.
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    return wrapped(tokenizer, longest=256)


def wrapped(tokenizer: Tokenizer, longest: int) -> PreTrainedTokenizerFast:
    """A tokenizer in transformers' form, with the special tokens of the embedded models.

    Args:
        tokenizer: a tokenizer of the library tokenizers.
        longest: the largest number of tokens of a text.
    """
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNK,
        sep_token=SEP,
        padding_side="right",
        clean_up_tokenization_spaces=False,
        model_max_length=longest,
    )
