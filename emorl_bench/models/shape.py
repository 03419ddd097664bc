"""What a model takes in memory, from its ``config.json`` alone: weights, adapters, kept activations, keys and values.

torch is not imported, so that memory is planned before anything is loaded. Counts leave out norms and biases, which are
less than one per cent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

GROWTH = 2  # a decode's blocks of rows grow by doubling (`decoding.fused.cache`)


@dataclass(frozen=True)
class Kept:
    """What a layer keeps of a token for the backward pass, with adapters on every linear layer, in numbers.

    Counted in the graphs of transformers 5 by ``saved_tensors_hooks``, in bfloat16, which keeps most. ``width`` and
    ``feed`` are multiples of the two widths; ``matrices``: attention matrices of all heads, 0 where they are fused.
    """

    width: float
    feed: float
    matrices: int = 0


@dataclass(frozen=True)
class Shape:
    """The sizes of a transformer. ``encoder_layers`` is 0 for a decoder-only model."""

    layers: int
    encoder_layers: int
    width: int
    heads: int
    kv_heads: int
    head_size: int
    feed: int
    gated: bool
    vocabulary: int
    tied: bool
    kept: Kept
    positions: int = 0
    """Learned positions."""
    joined: bool = False
    """Whether queries, keys and values are one layer, as in GPT-2."""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Shape | None:
        """The shape that a model's configuration states; None for an architecture without known names of its sizes."""
        if "d_kv" in config and "d_model" in config:
            return _t5(config)
        if "n_embd" in config:
            return _gpt2(config)
        inner = config.get("text_config") or config
        return _llama(inner) if {"hidden_size", "intermediate_size", "num_attention_heads"} <= inner.keys() else None

    @property
    def stepped(self) -> int:
        """Number of weights of the linear layers that every new token meets; an encoder's are not among them."""
        attention = 2 * self.width * (self.heads * self.head_size + self.attended)
        read_once = self.encoder_layers * (attention + (3 if self.gated else 2) * self.width * self.feed)
        keys = 2 * self.layers * self.width * self.attended if self.encoder_layers else 0  # of cross-attention
        return self.in_layers - read_once - keys

    @property
    def widest(self) -> int:
        """Number of weights of the largest product of a decode: layers that read one input are joined."""
        queried = self.heads * self.head_size + 2 * self.attended
        return self.width * max((2 if self.gated else 1) * self.feed, queried)

    @property
    def attended(self) -> int:
        """The width of the keys, and of the values, of one token in one layer."""
        return self.kv_heads * self.head_size

    @property
    def parameters(self) -> int:
        """Number of weights, without norms and biases."""
        return self.in_layers + self.in_tables

    @property
    def in_layers(self) -> int:
        """Number of weights of the linear layers, without the head."""
        queried = self.heads * self.head_size
        attention = 2 * self.width * (queried + self.attended)
        mlp = (3 if self.gated else 2) * self.width * self.feed
        blocks = (self.layers + self.encoder_layers) * (attention + mlp)
        return blocks + (self.layers * attention if self.encoder_layers else 0)

    @property
    def in_tables(self) -> int:
        """Number of weights of embeddings, learned positions and the head."""
        return ((1 if self.tied else 2) * self.vocabulary + self.positions) * self.width

    def adapter_parameters(self, rank: int) -> int:
        """Number of weights of one adapter of all linear layers but the head."""
        attention = 2 * (2 * self.width + self.heads * self.head_size + self.attended)
        attention -= 2 * self.width if self.joined else 0
        mlp = (3 if self.gated else 2) * (self.width + self.feed)
        blocks = (self.layers + self.encoder_layers) * (attention + mlp)
        return rank * (blocks + (self.layers * attention if self.encoder_layers else 0))

    def held(self, tokens: float) -> float:
        """Numbers that the keys and values of so many tokens take under one adapter."""
        return 2 * self.layers * self.attended * tokens

    def cache(self, tokens: float) -> float:
        """The same with the room to grow."""
        return GROWTH * self.held(tokens)

    def copied(self, tokens: float) -> float:
        """The same where a layer's keys and values are copied as they grow, one layer at a time."""
        return self.held(tokens) * (1 + 1 / self.layers)

    @property
    def passing(self) -> int:
        """The most numbers that exist of one token at one time in a layer of a pass without gradients."""
        return 4 * self.width + 5 * self.feed

    def trained(self, prompt: int, answer: int) -> int:
        """Numbers that a pass with gradients keeps of one row: the prompt's tokens and the answer's."""
        each = self.kept.width * self.width + self.kept.feed * self.feed + 2 * self.attended
        if self.encoder_layers:
            read = prompt * (each + self.kept.matrices * self.heads * prompt)
            said = answer * (each + self.kept.matrices * self.heads * (prompt + answer))
            return int(self.encoder_layers * read + self.layers * said)
        whole = prompt + answer
        return int(self.layers * whole * (each + self.kept.matrices * self.heads * whole))


def tokens_within(block_bytes: int, config: Mapping[str, Any], word: int) -> int | None:
    """How many tokens a pass without gradients may read at one time, at least one, so that a layer fits the budget.

    Args:
        block_bytes: the budget.
        config: the model's configuration.
        word: bytes of a number.

    Returns:
        None for a model of unknown sizes.
    """
    shape = Shape.of(config)
    return None if shape is None else max(1, block_bytes // (word * shape.passing))


def _llama(config: Mapping[str, Any]) -> Shape:
    heads, width = config["num_attention_heads"], config["hidden_size"]
    return Shape(
        layers=config["num_hidden_layers"],
        encoder_layers=0,
        width=width,
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_size=config.get("head_dim") or width // heads,
        feed=config["intermediate_size"],
        gated=config.get("hidden_act", "silu") == "silu",
        vocabulary=config["vocab_size"],
        tied=bool(config.get("tie_word_embeddings", False)),
        kept=Kept(width=11, feed=4),
    )


def _gpt2(config: Mapping[str, Any]) -> Shape:
    width, heads = config["n_embd"], config["n_head"]
    return Shape(
        layers=config["n_layer"],
        encoder_layers=0,
        width=width,
        heads=heads,
        kv_heads=heads,
        head_size=width // heads,
        feed=config.get("n_inner") or 4 * width,
        gated=False,
        vocabulary=config["vocab_size"],
        tied=bool(config.get("tie_word_embeddings", True)),
        kept=Kept(width=9.5, feed=5),
        positions=config["n_positions"],
        joined=True,
    )


def _t5(config: Mapping[str, Any]) -> Shape:
    gated = str(config.get("feed_forward_proj", "relu")).startswith("gated")
    return Shape(
        layers=config.get("num_decoder_layers") or config["num_layers"],
        encoder_layers=config["num_layers"],
        width=config["d_model"],
        heads=config["num_heads"],
        kv_heads=config["num_heads"],
        head_size=config["d_kv"],
        feed=config["d_ff"],
        gated=gated,
        vocabulary=config["vocab_size"],
        tied=bool(config.get("tie_word_embeddings", True)),
        kept=Kept(width=12, feed=7 if gated else 1, matrices=2),
    )
