"""A tokenizer with one token for each word: the marks of a sum, ``so``, and the numbers of the base models' world.

Special ids and the form of a sequence are those of `emorl_bench.assets.tokenizer`.
"""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from emorl_bench.assets.tokenizer import SPECIAL, UNK, wrapped

NUMBERS = 80  # enough for five terms of at most 15, and for slips
VOCABULARY = (*SPECIAL, "+", "=", ",", "so", *map(str, range(NUMBERS)))


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of `sums`."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=False)  # joins words with spaces
    return wrapped(tokenizer, longest=192)
