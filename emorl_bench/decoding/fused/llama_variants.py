"""Fused steps of models whose block is Llama's but for one or two things: Qwen3, SmolLM3, Gemma, Phi-3."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from emorl_bench.decoding.fused.decoder_only import FusedLlama
from emorl_bench.decoding.fused.engine import Norm, norm_of
from emorl_bench.decoding.fused.projection import Projection


class FusedQwen3(FusedLlama):
    """Qwen3 (2505.09388): every head of queries and keys is normalised before its rotation."""

    def __init__(self, model: Any, layers: Any) -> None:
        """Collect the norms of queries and keys beside what Llama has."""
        super().__init__(model, layers)
        attentions = [block.self_attn for block in model.model.layers]
        self.head_norms = [(norm_of(own.q_norm), norm_of(own.k_norm)) for own in attentions]

    def _qkv(self, x_NRO: Tensor, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = super()._qkv(x_NRO, layer)
        of_query, of_key = self.head_norms[layer]
        return of_query(q), of_key(k), v


class FusedSmolLm3(FusedLlama):
    """SmolLM3: some layers have no rotary positions (NoPE, 2501.18795)."""

    def _rotates(self, layer: int) -> bool:
        return bool(self.model.model.layers[layer].self_attn.use_rope)


class FusedGemma(FusedLlama):
    """Gemma (2403.08295): scaled embeddings, and norms whose weight is one more than the parameter."""

    def _norm(self, module: Any) -> Norm:
        return lambda x: module(x)  # its product is in float32, which torch's own norm does not do for bfloat16

    def _embed(self, tokens_R: Tensor, place_R: Tensor) -> Tensor:
        embedded: Tensor = self.model.model.embed_tokens(tokens_R)
        return embedded


class FusedPhi3(FusedLlama):
    """Phi-3 (2404.14219) and Phi-4: the model itself joins its projections, and may rotate a part of each head."""

    def _projections(self) -> list[dict[str, Projection]]:
        return [
            {
                "qkv": self._joined(block.self_attn.qkv_proj),
                "o": self._joined(block.self_attn.o_proj),
                "up": self._joined(block.mlp.gate_up_proj),
                "down": self._joined(block.mlp.down_proj),
            }
            for block in self.model.model.layers
        ]

    def _activation(self, feed: Any) -> Any:
        return feed.activation_fn
