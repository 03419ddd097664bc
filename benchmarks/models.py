"""The models of measurements: stated shapes with random weights, random adapters, and prompts of random words.

Speed does not depend on what a model has learned, with one exception: how soon the answers of different weight vectors
differ. That depends on how far the adapters move the base, so the size of the adapters is a setting (``strength``). No
token ends a response, so both sides of a comparison decode the same number of tokens.
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
# Size of a random adapter relative to the base. It decides how many distinct answers a front of 45 blends gives to a
# prompt (`benchmarks.decode` counts them). STRONG: 44. ALIKE: about 20, as the trained experts of the embedded task.
# WEAK: few.
STRONG, ALIKE, WEAK = 0.15, 0.015, 0.005
RANK = 8


@dataclass(frozen=True)
class Shape:
    """An architecture's dimensions and the work it is given.

    Attributes:
        name: the name on the command line and in records.
        family: "seq2seq" is T5, "causal" is Llama or Qwen2.
        dims: sizes by transformers' names.
        prompts: the prompts of a batch.
        prompt_tokens: the least and the largest number of tokens of a prompt.
        new_tokens: the tokens of each answer.
        threads: threads of torch, unless the command line says otherwise; a tiny model is slower on two.
        qwen: whether a decoder-only model has Qwen2's biases.
        tied: whether a T5's head is its embedding. Such a model with random weights repeats one word for ever.
    """

    name: str
    family: str
    dims: Mapping[str, int]
    prompts: int = 16
    prompt_tokens: tuple[int, int] = (64, 128)
    new_tokens: int = 64
    threads: int = 1
    qwen: bool = False
    tied: bool = False

    @property
    def vocabulary(self) -> int:
        """V, the number of token ids."""
        return self.dims["vocab_size"]

    def model(self) -> Any:
        """A model of transformers with the same random weights at every call."""
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
    """The dimensions of a T5 by transformers' names."""
    sizes = {"d_model": width, "d_kv": head, "num_heads": heads, "d_ff": inner, "vocab_size": vocabulary}
    return {**sizes, "num_layers": layers, "num_decoder_layers": layers}


def llama(layers: int, width: int, heads: int, kv_heads: int, inner: int, vocabulary: int) -> dict[str, int]:
    """The dimensions of a Llama by transformers' names."""
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
    """The same architecture in a size that shows whether everything runs; its timings mean nothing."""
    dims = t5(2, 32, 8, 4, 64, 211) if shape.family == "seq2seq" else llama(2, 32, 4, 2, 64, 211)
    return replace(shape, dims=dims, prompts=4, prompt_tokens=(6, 12), new_tokens=6)


@functools.lru_cache(maxsize=8)
def word_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """A tokenizer with one word for each id: ``w7`` is 7."""
    words = {word: i for i, word in enumerate(SPECIAL)} | {f"w{i}": i for i in range(len(SPECIAL), vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", padding_side="left"
    )


class EndlessSeq2Seq(Seq2SeqBackbone):
    """A backbone that adds no end token to a prompt."""

    def prompt_ids(self, text: str) -> list[int]:
        """The words of a prompt, without template and special tokens."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"][: self.max_prompt_tokens])


BACKBONES: dict[str, type[Backbone]] = {"seq2seq": EndlessSeq2Seq, "causal": CausalBackbone}


@dataclass(frozen=True)
class Setting:
    """What one measurement runs on: experts of one base model, and their prompts.

    Attributes:
        name: the name in records.
        new_model: makes the base model again, for the naive side.
        bank: makes policies on the base model.
        experts: the policies that are blended.
        new_tokens: the tokens of each answer.
        draw: the number of a call and the number of batches -> prompts.
    """

    name: str
    new_model: Callable[[], Any]
    bank: AdapterBank
    experts: Sequence[AdapterPolicy]
    new_tokens: int
    draw: Callable[[int, int], list[Example]]
    _calls: Iterator[int] = field(default_factory=itertools.count)

    @property
    def backbone(self) -> Backbone:
        """The base model."""
        return self.bank.backbone

    def prompts(self, times: int = 1) -> list[Example]:
        """A batch, ``times`` as large as usual, that no call before has seen, so remembered prompts save no time."""
        return self.draw(next(self._calls), times)

    def prompt_lengths(self) -> list[int]:
        """The number of tokens of each prompt of a batch."""
        return [len(self.backbone.prompt_ids(e.context)) for e in self.prompts()]


def word_prompts(shape: Shape, draw: int, times: int = 1) -> list[Example]:
    """Prompts of random words, ``times`` batches of them.

    Args:
        shape: it gives the number and the lengths of the prompts.
        draw: the number of the random stream.
        times: the number of batches.
    """
    low, high = shape.prompt_tokens
    lengths = torch.randint(low, high + 1, (shape.prompts,), generator=stream(0, "lengths")).tolist()
    lengths[0] = high  # so every batch has the same width
    rng, examples = stream(draw, "words"), []
    for i, length in enumerate(lengths * times):
        words = torch.randint(len(SPECIAL), shape.vocabulary, (length,), generator=rng)
        examples.append(Example(f"{draw}/{i}", " ".join(f"w{word}" for word in words.tolist())))
    return examples


def random_setting(
    shape: Shape, *, experts: int = 3, strength: float = STRONG, dtype: torch.dtype, device: torch.device
) -> Setting:
    """A setting with random weights and random adapters.

    Args:
        shape: the architecture and the work.
        experts: the number of adapters.
        strength: the size of an adapter's update relative to the weight that it is added to.
        dtype: that of the base weights.
        device: where the model lies.
    """

    def new_model() -> Any:
        with device:  # a large model's random numbers are drawn there
            return shape.model().to(device, dtype)

    bank = endless_bank(new_model(), word_tokenizer(shape.vocabulary), shape.family, shape.prompt_tokens[1], device)
    policies = [random_expert(bank, seed, strength) for seed in range(experts)]
    return Setting(shape.name, new_model, bank, policies, shape.new_tokens, functools.partial(word_prompts, shape))


def endless_bank(model: Any, tokenizer: Any, family: str, longest: int, device: torch.device) -> AdapterBank:
    """A bank of policies on a model whose responses never end."""
    backbone = BACKBONES[family](model, tokenizer, AdapterSettings(rank=RANK, alpha=4.0 * RANK), longest)
    backbone.eos, backbone.other_ends = NEVER, []
    return AdapterBank(Decoder(backbone, Ledger(device)), seed=0)


@torch.no_grad()
def random_expert(bank: AdapterBank, seed: int, strength: float) -> AdapterPolicy:
    """An adapter with two random factors.

    Args:
        bank: makes the policy.
        seed: the number of the random stream.
        strength: the norm of the update over the norm of the weight that it is added to.
    """
    policy, rng = bank.new_policy(f"expert{seed}"), stream(seed, "expert")
    tensors: dict[str, Tensor] = {}
    for name, layer in bank.backbone.layers.items():
        weight = layer.weight
        a_RI = torch.randn(RANK, layer.in_features, generator=rng)
        b_OR = torch.randn(layer.out_features, RANK, generator=rng)
        squared = ((b_OR.T @ b_OR) * (a_RI @ a_RI.T)).sum()  # squared norm of B A, without making B A
        size = bank.backbone.settings.scale * squared.sqrt()
        tensors[f"base_model.model.{name}.lora_A.weight"] = a_RI
        tensors[f"base_model.model.{name}.lora_B.weight"] = b_OR * strength * weight.float().norm().cpu() / size
    policy.load_adapter({name: tensor.to(bank.backbone.device) for name, tensor in tensors.items()})
    return policy
