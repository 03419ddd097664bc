"""Pickled checkpoints and a GGUF become safetensors with the same numbers, and nothing in them is run."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import tiny_model, word_tokenizer
from transformers import AutoModelForCausalLM

from emorl_bench.cli.assets import main
from emorl_bench.core.errors import UserError
from emorl_bench.offline.converting import convert_checkpoint, convert_gguf

LETTERS = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v"}
LETTERS |= {"self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up"}
LETTERS |= {"mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}


def pickled(place: Path) -> Any:
    """A directory without weights, and the model that belongs there."""
    model = tiny_model("llama")
    model.save_pretrained(place)
    word_tokenizer().save_pretrained(place)
    (place / "model.safetensors").unlink()
    return model


def test_a_pickled_checkpoint_becomes_safetensors(tmp_path: Path) -> None:
    source, target = tmp_path / "old", tmp_path / "new"
    model = pickled(source)
    torch.save(model.state_dict(), source / "pytorch_model.bin")
    assert main(["convert", str(source), str(target)]) == 0
    converted = AutoModelForCausalLM.from_pretrained(target, use_safetensors=True)
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(converted(ids).logits, model.eval()(ids).logits)
    with pytest.raises(UserError, match="not empty"):
        convert_checkpoint(str(source), target)


@dataclass
class Mischief:
    """Makes a directory when it is unpickled without care."""

    place: str

    def __reduce__(self) -> Any:
        return os.mkdir, (self.place,)


def test_a_pickle_that_runs_code_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    source, file, made = tmp_path / "old", tmp_path / "old" / "pytorch_model.bin", tmp_path / "made"
    pickled(source)
    torch.save({"model.norm.weight": Mischief(str(made))}, file)
    with pytest.raises(UserError, match="could not be converted") as refused:
        convert_checkpoint(str(source), tmp_path / "new")
    assert "\n" not in str(refused.value)
    assert not made.exists()
    assert not (tmp_path / "new").exists()
    torch.load(file, weights_only=False)
    assert made.exists(), "the pickle does run code where it is let"


def test_a_gguf_keeps_the_model_and_cuts_text_as_smollm_does(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf", reason="the extra 'offline' is not installed")
    model = tiny_model("llama").eval()
    write_gguf(gguf, model, tmp_path / "tiny.gguf")
    convert_gguf(tmp_path / "tiny.gguf", tmp_path / "new")
    converted = AutoModelForCausalLM.from_pretrained(tmp_path / "new", dtype=torch.float32)
    ids = torch.tensor([[5, 6, 7, 9]])
    model.load_state_dict({name: weight.bfloat16().float() for name, weight in model.state_dict().items()})
    assert torch.allclose(converted(ids).logits, model(ids).logits, atol=1e-5)
    tokenizer = json.loads((tmp_path / "new" / "tokenizer.json").read_text())
    kinds = [part["type"] for part in tokenizer["pre_tokenizer"]["pretokenizers"]]
    assert kinds == ["Digits", "ByteLevel"]


def write_gguf(gguf: Any, model: Any, file: Path) -> None:
    """As llama.cpp's converter writes a Llama: its own names, and the halves of each head's queries interleaved."""
    writer = gguf.GGUFWriter(file, "llama")
    write_settings(writer, model.config)
    heads = {"attn_q": model.config.num_attention_heads, "attn_k": model.config.num_key_value_heads}
    for name, tensor in model.state_dict().items():
        short = name.removeprefix("model.").removesuffix(".weight")
        short = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}.get(short, short)
        if short.startswith("layers."):
            _, number, part = short.split(".", 2)
            short = f"blk.{number}.{LETTERS[part]}"
            if (n := heads.get(LETTERS[part])) is not None:
                tensor = tensor.view(n, 2, -1, tensor.shape[1]).transpose(1, 2).reshape(tensor.shape)
        writer.add_tensor(f"{short}.weight", tensor.float().contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_settings(writer: Any, config: Any) -> None:
    writer.add_context_length(128)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(["<|endoftext|>", "<|im_start|>", "<|im_end|>", *(chr(33 + i) for i in range(36)), '!"'])
    writer.add_token_types([3, 3, 3, *[1] * 37])
    writer.add_token_merges(['! "'])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
