"""Corpora in which one word says everything, and a random encoder that knows their words."""

from __future__ import annotations

import csv

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

TOPICS = ("wine", "sleep", "work", "money", "diet", "school", "smoke", "sport", "games", "doctor")
FEELINGS = ("angry", "afraid", "tired", "proud", "lonely", "guilty", "calm", "lost")
OTHERS = ("i", "feel", "about", "my", "so", "you", "are", "it", "is", "too", "much", "stop", "should", "call", "want")
OTHERS += ("do", "not", "good", "bad")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A BERT of two layers and width 32 with random weights, and a tokenizer of whole words."""
    place = tmp_path_factory.mktemp("encoder")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *TOPICS, *FEELINGS, *OTHERS]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [(word, vocabulary[word]) for word in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(place)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(vocab_size=len(vocabulary), max_position_embeddings=64, **sizes)
    BertModel(config).save_pretrained(place)
    return str(place)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Corpora in the layouts of PAIR, EPITOME and SST-2, in which one word says everything."""
    place = tmp_path_factory.mktemp("data")
    with (place / "topic_clean_umich.csv").open("w", newline="") as file:
        csv.writer(file).writerows(_pair_row(topic, feeling) for topic in TOPICS for feeling in FEELINGS)
    with (place / "emotional-reactions-reddit.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["sp_id", "rp_id", "seeker_post", "response_post", "level", "rationales"])
        for i, (topic, feeling) in enumerate((t, f) for t in TOPICS for f in FEELINGS):
            for level, answer in enumerate(("stop it", "it is too much", f"so {feeling} so {feeling}")):
                rows.writerow([f"s{i}", f"r{level}", f"i feel {feeling} about {topic} {i}", answer, level, ""])
    lines = [f"{topic} is {a} {b}\t{int(a == 'good')}" for topic in TOPICS for a in ("good", "bad") for b in FEELINGS]
    (place / "train.tsv").write_text("\n".join(["sentence\tlabel", *lines]))
    return str(place)


def _pair_row(topic: str, feeling: str) -> list[str]:
    high = [f"you are {feeling} about {topic}", f"so {topic} is {feeling}"]
    low = [f"you should {word} {topic}" for word in ("stop", "call", "want", "do", "not")]
    return [f"i feel {feeling} about my {topic}", *high, f"{feeling}", *low, topic]
