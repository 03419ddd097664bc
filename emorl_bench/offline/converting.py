"""Conversion to safetensors, the only weights that this project loads.

Two things are converted: the one GGUF that it knows, and a pickled checkpoint. Both happen only on command
(``emorl-assets fetch`` and ``emorl-assets convert``), never while a model is loaded. torch and transformers are
imported where they are used, because finding a directory needs neither.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from emorl_bench.core.errors import UserError


def check_gguf() -> None:
    """Check that the package that reads a GGUF is installed.

    Raises:
        UserError: it is not.
    """
    if find_spec("gguf") is None:
        raise UserError("reading a GGUF needs the package gguf: pip install 'emorl-bench[offline]'")


def convert_gguf(file: Path, target: Path) -> None:
    """Write a quantised model with its tokenizer and chat template as transformers does, with weights in bfloat16.

    Raises:
        UserError: the file's tokenizer is of an unknown kind.
    """
    import gguf
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    field = gguf.GGUFReader(file).get_field("tokenizer.ggml.pre")
    kind = None if field is None else field.contents()
    if kind != "smollm":
        raise UserError(f"{file.name}: its tokenizer is of kind '{kind}'; only 'smollm' is known")
    place = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(**place)
    _cut_as_smollm(tokenizer)
    read = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
    config = read.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "_model_name_or_path"):
        config.pop(key, None)
    # A new model of the same architecture, because one that was read from a GGUF cannot be saved.
    model = type(read)(type(read.config).from_dict(config)).to(torch.bfloat16)
    model.load_state_dict(read.state_dict())
    model.config.dtype = torch.bfloat16
    model.generation_config = read.generation_config
    model.save_pretrained(target)
    tokenizer.model_max_length = model.config.max_position_embeddings
    tokenizer.save_pretrained(target)
    _forget_the_place(target / "tokenizer_config.json")


def _cut_as_smollm(tokenizer: Any) -> None:
    """Split each digit, then apply GPT-2's rule: the published SmolLM2 splits text so before its byte-pair merges.

    transformers reads the merges from a GGUF, and uses GPT-2's rule for every kind of tokenizer.
    """
    from tokenizers import pre_tokenizers

    digits = pre_tokenizers.Digits(individual_digits=True)
    words = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, words])


def _forget_the_place(file: Path) -> None:
    """Remove keys that say how this process read the tokenizer, not what it is."""
    settings = json.loads(file.read_text(encoding="utf-8"))
    kept = {key: value for key, value in settings.items() if key not in ("is_local", "local_files_only")}
    file.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def convert_checkpoint(source: str, target: Path) -> None:
    """Convert ``pytorch_model.bin`` to safetensors, with configuration and tokenizer.

    torch unpickles only weights (``weights_only=True``), which runs no code of the file.

    Args:
        source: a directory or a name on the hub.
        target: a new directory.

    Raises:
        UserError: the target is not empty, or the checkpoint cannot be read.
    """
    if target.exists() and any(target.iterdir()):
        raise UserError(f"{target}: is not empty; name a new directory")
    import transformers

    transformers.utils.logging.disable_progress_bar()
    try:
        config = transformers.AutoConfig.from_pretrained(source, trust_remote_code=False)
        kind = getattr(transformers, (config.architectures or ["AutoModel"])[0])
        model = kind.from_pretrained(source, use_safetensors=False, weights_only=True)
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # with a damaged or hostile file torch and transformers may raise anything
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"{source}: could not be converted ({reason})") from error
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
