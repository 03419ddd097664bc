"""What decides a model's numbers is in its identity: every file that a tokenizer or a model's own code reads."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import CPU, tiny_model, word_tokenizer
from transformers import AutoTokenizer

from emorl_bench.assets.shipped import asset_dir
from emorl_bench.core.errors import UserError
from emorl_bench.models.loading import ModelSource, load_backbone
from emorl_bench.models.lora import AdapterSettings
from emorl_bench.offline.containment import check_code
from emorl_bench.offline.content import content_hash
from emorl_bench.offline.locating import Located
from emorl_bench.runner.base_model import weights_hash
from emorl_bench.scorer_training.encoders import encoder_hash

READ = (
    "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "additional_chat_templates/tools.jinja",
    "vocab.txt", "vocab.json", "merges.txt", "vocab.bpe", "bpe.codes", "spiece.model", "tokenizer.model", "source.spm",
    "qwen.tiktoken", "tekken.json", "modeling_own.py", "parts/attention.py", "parts/deeper/kernel.py",
)  # fmt: skip
UNREAD = ("README.md", "LICENSE", "LICENSE.txt", ".gitattributes", "pytorch_model.bin", "model.gguf", "optimizer.pt")

CODE = """
from transformers import LlamaForCausalLM
from .numbers_of_it import FACTOR

class Own(LlamaForCausalLM):
    factor = FACTOR
"""

opened: list[str] | None = None


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and opened is not None:
        opened.append(str(arguments[0]))


sys.addaudithook(_note)  # cannot be removed, so it is silent outside `watched`


@contextmanager
def watched() -> Iterator[list[str]]:
    """The paths of the files that Python opens inside the block."""
    global opened
    opened = []
    try:
        yield opened
    finally:
        opened = None


def hashes(place: Path) -> tuple[str, str, str]:
    for known in (encoder_hash, weights_hash):
        known.cache_clear()
    return content_hash(place), weights_hash(Located(place, str(place), "directory")), encoder_hash(str(place))


def with_one_byte_changed(file: Path) -> bytes:
    before = file.read_bytes()
    file.write_bytes(bytes([before[0] ^ 1]) + before[1:])
    return before


@pytest.fixture
def place(tmp_path: Path) -> Path:
    model = tmp_path / "models" / "llama"
    tiny_model("llama").save_pretrained(model)
    word_tokenizer().save_pretrained(model)
    for name in (*READ, *UNREAD):
        file = model / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            file.write_text("something")
    return model


def test_one_byte_of_any_file_that_is_read_changes_every_hash(place: Path) -> None:
    before = hashes(place)
    for name in READ:
        content = with_one_byte_changed(place / name)
        if name != "config.json":  # the encoder's own check needs it whole
            assert not set(before) & set(hashes(place)), name
        assert content_hash(place) != before[0], name
        (place / name).write_bytes(content)
    assert hashes(place) == before


def test_what_is_for_people_and_what_is_never_loaded_change_nothing(place: Path) -> None:
    before = hashes(place)
    for name in UNREAD:
        with_one_byte_changed(place / name)
    assert hashes(place) == before


def test_a_name_counts_as_content_does(place: Path) -> None:
    before = content_hash(place)
    (place / "vocab.json").rename(place / "vocab2.json")
    assert content_hash(place) != before


@pytest.mark.parametrize("slow", [{"vocab.txt"}, {"vocab.json", "merges.txt"}])
def test_every_file_that_python_opens_for_a_model_with_code_is_hashed(tmp_path: Path, slow: set[str]) -> None:
    place = tmp_path / "own"
    tiny_model("llama").save_pretrained(place)
    word_tokenizer().save_pretrained(place)
    (place / "modeling_own.py").write_text(CODE)
    (place / "numbers_of_it.py").write_text("FACTOR = 2\n")
    config = json.loads((place / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_own.Own"}
    (place / "config.json").write_text(json.dumps(config))
    source = ModelSource("causal", str(place), trust_remote_code=True)
    with watched() as files:
        model = load_backbone(source, AdapterSettings(), CPU, torch.float32).model
        if slow == {"vocab.txt"}:
            written(tmp_path / "bert", "BertTokenizer", {"vocab.txt": "[UNK]\n[PAD]\n[CLS]\n[SEP]\n[MASK]\nw4\n"})
        else:
            vocabulary = {"<|endoftext|>": 0, "w": 1, "4": 2, "w4": 3}
            files_of_it = {"vocab.json": json.dumps(vocabulary), "merges.txt": "#version: 0.2\nw 4\n"}
            written(tmp_path / "bpe", "GPT2Tokenizer", files_of_it)
    assert model.factor == 2
    inside = {Path(file) for file in files if Path(file).is_relative_to(tmp_path) and Path(file).is_file()}
    assert {"config.json", "modeling_own.py", "numbers_of_it.py"} <= {file.name for file in inside}
    for file in inside:
        before = content_hash(file.parent)
        content = with_one_byte_changed(file)
        assert content_hash(file.parent) != before, file
        file.write_bytes(content)


def written(place: Path, tokenizer: str, files: dict[str, str]) -> None:
    """A tokenizer without tokenizer.json, which its class builds from the given files; it is loaded once."""
    place.mkdir()
    for name, text in files.items():
        (place / name).write_text(text)
    (place / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": tokenizer}))
    assert len(AutoTokenizer.from_pretrained(str(place))("w4")["input_ids"]) > 0


def test_the_identity_of_shipped_models_has_not_changed_with_the_rule() -> None:
    """The rule before hashed *.safetensors, *.json and *.jinja: run directories of the embedded tasks stay valid."""
    place = asset_dir("sums/tiny_t5")
    digest = hashlib.sha256()
    for file in sorted(file for kind in ("safetensors", "json", "jinja") for file in place.glob(f"*.{kind}")):
        digest.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    assert content_hash(place) == digest.hexdigest()


@pytest.mark.parametrize(
    ("file", "auto_map"),
    [
        ("config.json", {"AutoModelForCausalLM": "somebody/else--modeling.Own"}),
        ("tokenizer_config.json", {"AutoTokenizer": ["somebody/else--tokens.Slow", None]}),
    ],
)
def test_code_of_another_repository_is_refused_even_where_code_is_trusted(
    place: Path, file: str, auto_map: dict[str, Any]
) -> None:
    check_code(place, str(place))
    content = json.loads((place / file).read_text())
    (place / file).write_text(json.dumps({**content, "auto_map": auto_map}))
    with pytest.raises(UserError, match=f"{file} takes 'somebody/else--.*another repository") as error:
        ModelSource("causal", str(place), trust_remote_code=True).located()
    assert "\n" not in str(error.value)
    ModelSource("causal", str(place)).located()  # where code is not trusted, none of it runs
