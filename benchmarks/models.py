"""What is measured on: models of a stated shape with random weights, random adapters, and prompts of random words.

Speed does not depend on what a model has learned, except where blends of weight vectors part: that depends on how far
the adapters move the base, so their size is a setting (``strength``). No token ends a response, so both sides of a
comparison decode the same number of tokens.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from emorl_bench.core.ledger import Ledger
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Example
from emorl_bench.decoding.decode import Decoder
from emorl_bench.models.backbone import Backbone
from emorl_bench.models.causal import CausalBackbone
from emorl_bench.models.lora import AdapterSettings
from emorl_bench.models.seq2seq import Seq2SeqBackbone
from emorl_bench.policies.adapter_policy import AdapterBank, AdapterPolicy

NEVER = -1  # an end token that no head can choose
SPECIAL = ("<pad>", "</s>", "<unk>")
# Size of a random adapter relative to the base. STRONG: blends part at once, 44 distinct answers to a prompt on a front
# of 45. ALIKE: about 20, as the trained experts of the embedded task (`benchmarks.decode` counts). WEAK: hardly any.
STRONG, ALIKE, WEAK = 0.15, 0.015, 0.005
RANK = 8


@dataclass(frozen=True)
class Shape:
    """An architecture's dimensions and the work it is given."""

    name: str
    family: str  # "seq2seq" is T5, "causal" is Llama or Qwen2
    dims: Mapping[str, int]
    prompts: int = 16
    prompt_tokens: tuple[int, int] = (64, 128)
    new_tokens: int = 64
    threads: int = 1  # unless the command line says otherwise: a tiny model is slower on two
    qwen: bool = False  # a decoder-only model with Qwen2's biases
    tied: bool = False  # a T5 whose head is its embedding says one word for ever when its weights are random

    @property
    def vocabulary(self) -> int:
        return self.dims["vocab_size"]

    def model(self) -> Any:
        """The same random weights at every call."""
        torch.manual_seed(0)
        ids = {"pad_token_id": 0, "eos_token_id": 1}
        if self.family == "seq2seq":
            model = T5ForConditionalGeneration(T5Config(decoder_start_token_id=0, dropout_rate=0.0, **self.dims, **ids))
            if not self.tied:
                model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
            return model.eval()
        spread = {"initializer_range": 1.25 * self.dims["hidden_size"] ** -0.5}  # 0.02 would say one word for ever
        kind, config = (Qwen2ForCausalLM, Qwen2Config) if self.qwen else (LlamaForCausalLM, LlamaConfig)
        return kind(config(bos_token_id=1, **self.dims, **spread, **ids)).eval()


def t5(layers: int, width: int, head: int, heads: int, inner: int, vocabulary: int = 32128) -> dict[str, int]:
    sizes = {"d_model": width, "d_kv": head, "num_heads": heads, "d_ff": inner, "vocab_size": vocabulary}
    return {**sizes, "num_layers": layers, "num_decoder_layers": layers}


def llama(layers: int, width: int, heads: int, kv_heads: int, inner: int, vocabulary: int) -> dict[str, int]:
    sizes = {"hidden_size": width, "intermediate_size": inner, "vocab_size": vocabulary, "num_hidden_layers": layers}
    return {**sizes, "num_attention_heads": heads, "num_key_value_heads": kv_heads}


SHAPES = {
    "tiny": Shape("tiny", "seq2seq", t5(4, 128, 32, 4, 512)),
    "small": Shape("small", "seq2seq", t5(6, 512, 64, 8, 2048), threads=2),
    "t5_base": Shape("t5_base", "seq2seq", t5(12, 768, 64, 12, 3072), threads=2),
    "smollm2_135m": Shape("smollm2_135m", "causal", llama(30, 576, 9, 3, 1536, 49152), threads=2),
    "qwen_0_5b": Shape("qwen_0_5b", "causal", llama(24, 896, 14, 2, 4864, 151936), threads=2, qwen=True),
    "llama_1b": Shape("llama_1b", "causal", llama(16, 2048, 32, 8, 8192, 128256), threads=2),
    "tiny_llama": Shape("tiny_llama", "causal", llama(4, 128, 4, 4, 512, 32128)),
}


def micro(shape: Shape) -> Shape:
    """The same in a size at which everything runs and no number means anything."""
    dims = t5(2, 32, 8, 4, 64, 211) if shape.family == "seq2seq" else llama(2, 32, 4, 2, 64, 211)
    return replace(shape, dims=dims, prompts=4, prompt_tokens=(6, 12), new_tokens=6)


@functools.lru_cache(maxsize=8)
def word_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """One word for each id: ``w7`` is 7."""
    words = {word: i for i, word in enumerate(SPECIAL)} | {f"w{i}": i for i in range(len(SPECIAL), vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", padding_side="left"
    )


class EndlessSeq2Seq(Seq2SeqBackbone):
    """Reads a prompt as it stands, and decodes to the limit."""

    def prompt_ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"][: self.max_prompt_tokens])


BACKBONES: dict[str, type[Backbone]] = {"seq2seq": EndlessSeq2Seq, "causal": CausalBackbone}


@dataclass(frozen=True)
class Setting:
    """Experts of one base model and the prompts they are asked: what one measurement runs on."""

    name: str
    new_model: Callable[[], Any]  # the base model again, for the naive side
    bank: AdapterBank
    experts: Sequence[AdapterPolicy]
    new_tokens: int
    draw: Callable[[int, int], list[Example]]  # (number of the call, times) -> prompts
    _calls: Iterator[int] = field(default_factory=itertools.count)

    @property
    def backbone(self) -> Backbone:
        return self.bank.backbone

    def prompts(self, times: int = 1) -> list[Example]:
        """A batch, ``times`` as large as usual, that no call before has seen: remembering prompts gains nothing."""
        return self.draw(next(self._calls), times)

    def prompt_lengths(self) -> list[int]:
        return [len(self.backbone.prompt_ids(e.context)) for e in self.prompts()]


def word_prompts(shape: Shape, draw: int, times: int = 1) -> list[Example]:
    low, high = shape.prompt_tokens
    lengths = torch.randint(low, high + 1, (shape.prompts,), generator=stream(0, "lengths")).tolist()
    lengths[0] = high  # the width of the batch
    rng, examples = stream(draw, "words"), []
    for i, length in enumerate(lengths * times):
        words = torch.randint(len(SPECIAL), shape.vocabulary, (length,), generator=rng)
        examples.append(Example(f"{draw}/{i}", " ".join(f"w{word}" for word in words.tolist())))
    return examples


def random_setting(
    shape: Shape, *, experts: int = 3, strength: float = STRONG, dtype: torch.dtype, device: torch.device
) -> Setting:
    def new_model() -> Any:
        with device:  # a large model's random numbers are drawn there
            return shape.model().to(device, dtype)

    bank = endless_bank(new_model(), word_tokenizer(shape.vocabulary), shape.family, shape.prompt_tokens[1], device)
    policies = [random_expert(bank, seed, strength) for seed in range(experts)]
    return Setting(shape.name, new_model, bank, policies, shape.new_tokens, functools.partial(word_prompts, shape))


def endless_bank(model: Any, tokenizer: Any, family: str, longest: int, device: torch.device) -> AdapterBank:
    backbone = BACKBONES[family](model, tokenizer, AdapterSettings(rank=RANK, alpha=4.0 * RANK), longest)
    backbone.eos, backbone.other_ends = NEVER, []
    return AdapterBank(Decoder(backbone, Ledger(device)), seed=0)


@torch.no_grad()
def random_expert(bank: AdapterBank, seed: int, strength: float) -> AdapterPolicy:
    """An adapter random in both factors, its update ``strength`` times as large as the weight it adds to."""
    policy, rng = bank.new_policy(f"expert{seed}"), stream(seed, "expert")
    tensors: dict[str, Tensor] = {}
    for name, layer in bank.backbone.layers.items():
        weight = layer.weight
        a_RI = torch.randn(RANK, layer.in_features, generator=rng)
        b_OR = torch.randn(layer.out_features, RANK, generator=rng)
        squared = ((b_OR.T @ b_OR) * (a_RI @ a_RI.T)).sum()  # of the norm of B A, which is large in a large model
        size = bank.backbone.settings.scale * squared.sqrt()
        tensors[f"base_model.model.{name}.lora_A.weight"] = a_RI
        tensors[f"base_model.model.{name}.lora_B.weight"] = b_OR * strength * weight.float().norm().cpu() / size
    policy.load_adapter({name: tensor.to(bank.backbone.device) for name, tensor in tensors.items()})
    return policy
