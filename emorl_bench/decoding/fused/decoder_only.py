"""Fused steps of decoder-only models. A row attends to its prompt, which its rows share, and to its own tokens.

The scores of both parts go through one softmax, so the result is ordinary attention over prompt and tokens. The
prompt's keys and values are read once and are not copied to the rows. That is exact, because causal attention keeps
them independent of what follows the prompt.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding
from transformers import DynamicCache

from emorl_bench.decoding.fused.engine import FusedModel, Norm, Products, heads, joined, norm_of
from emorl_bench.decoding.fused.projection import Projection
from emorl_bench.decoding.fused.rows import PromptStates, Rows
from emorl_bench.models.causal import positions


class FusedDecoderOnly(FusedModel):
    """What decoder-only architectures share; a subclass defines projections, embedding and feed-forward layer.

    ``heads`` query heads share ``kv_heads`` heads of keys and values (grouped-query attention, 2305.13245). ``scale``
    multiplies the queries.
    """

    heads: int
    kv_heads: int
    scale: float
    norms: list[list[Norm]]
    last_norm: Norm

    def read(self, ids_PS: Tensor, mask_PS: Tensor, adapters: int) -> PromptStates:
        """See `FusedModel.read`."""
        p = len(ids_PS)
        ids, mask, cache = ids_PS.repeat(adapters, 1), mask_PS.repeat(adapters, 1), DynamicCache()
        body = getattr(self.model, self.model.base_model_prefix)
        out = body(
            input_ids=ids, attention_mask=mask, position_ids=positions(mask), past_key_values=cache, use_cache=True
        )

        def side_by_side(x: Tensor) -> Tensor:  # (N*P, H, S, D) -> (P, N*H, S, D)
            return x.view(adapters, p, *x.shape[1:]).transpose(0, 1).reshape(p, -1, *x.shape[2:])

        keys = [side_by_side(layer.keys) for layer in cache.layers]
        values = [side_by_side(layer.values) for layer in cache.layers]
        first_NPH = out.last_hidden_state[:, -1].view(adapters, p, -1)
        return PromptStates(keys, values, mask_PS.bool(), first_NPH)

    def step(self, products: Products, rows: Rows, tokens_R: Tensor, adapters: int) -> Tensor:
        """See `FusedModel.step`."""
        mix, place_R = rows.mix_RM, rows.prompts.mask_PS.sum(1)[rows.prompt_R] + rows.position
        x = self._embed(tokens_R, place_R).expand(adapters, -1, -1)
        turn = self._turn(x, place_R)
        unread = rows.unread(x.dtype)
        for index, (product, norms) in enumerate(zip(products, self.norms, strict=True)):
            q, k, v = self._qkv(product["qkv"](norms[0](x), mix), index)
            own = turn if self._rotates(index) else None
            seen = self._attend(rows, index, self._turned(q, own), self._turned(k, own), v, unread)
            x = x + product["o"](joined(seen, adapters), mix)
            x = x + product["down"](self._feed(product["up"](norms[1](x), mix)), mix)
        return self.last_norm(x)

    def _qkv(self, x_NRO: Tensor, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (R, N*heads, D), keys and values (R, N*kv_heads, D)."""
        size = x_NRO.shape[-1] // (self.heads + 2 * self.kv_heads)
        q, k, v = x_NRO.split([self.heads * size, self.kv_heads * size, self.kv_heads * size], dim=-1)
        return heads(q, self.heads), heads(k, self.kv_heads), heads(v, self.kv_heads)

    def _attend(self, rows: Rows, layer: int, q: Tensor, k: Tensor, v: Tensor, unread: Tensor) -> Tensor:
        """Attention of one layer, (R, N*heads, D). Queries that share a key head take the place of positions."""
        keys, values = rows.append(layer, k, v)
        q_RHGD = (q * self.scale).view(len(rows), k.shape[1], -1, q.shape[-1])
        prompt = torch.matmul(rows.by_prompt(q_RHGD), rows.prompts.keys[layer].transpose(2, 3)).add_(unread)
        own = torch.matmul(q_RHGD, keys.transpose(2, 3)).add_(rows.ahead(q.dtype))
        weights = torch.cat([rows.by_row(prompt), own], dim=-1).softmax(-1)
        split = prompt.shape[-1]
        seen = rows.by_row(torch.matmul(rows.by_prompt(weights[..., :split]), rows.prompts.values[layer]))
        return (seen + torch.matmul(weights[..., split:], values)).view(q.shape)

    @abstractmethod
    def _embed(self, tokens_R: Tensor, place_R: Tensor) -> Tensor:
        """(R, H) input embeddings of tokens at their positions."""

    def _turn(self, x: Tensor, place_R: Tensor) -> tuple[Tensor, Tensor] | None:
        """Cosines and sines of rotary positions, each (R, 1, D); None for models that embed positions.

        They are narrower than a head where only its first part is rotated.
        """
        return None

    def _rotates(self, layer: int) -> bool:
        """Whether a layer has rotary positions, if the model has any."""
        return True

    def _turned(self, x_RHD: Tensor, turn: tuple[Tensor, Tensor] | None) -> Tensor:
        if turn is None:
            return x_RHD
        width = turn[0].shape[-1]
        if width < x_RHD.shape[-1]:
            return torch.cat([self._turned(x_RHD[..., :width], turn), x_RHD[..., width:]], dim=-1)
        low, high = x_RHD.chunk(2, dim=-1)
        return x_RHD * turn[0] + torch.cat([-high, low], dim=-1) * turn[1]

    @abstractmethod
    def _feed(self, x: Tensor) -> Tensor:
        """The activation between the two products of the feed-forward layer."""


class FusedGpt2(FusedDecoderOnly):
    """GPT-2: positions are embedded, and every head has its own keys and values."""

    def __init__(self, model: Any, layers: Any) -> None:
        """Collect heads, norms and activation from the model."""
        super().__init__(model, layers)
        self.heads = self.kv_heads = int(model.config.n_head)
        self.scale = (model.config.n_embd // self.heads) ** -0.5
        self.norms = [[norm_of(block.ln_1), norm_of(block.ln_2)] for block in model.transformer.h]
        self.last_norm = norm_of(model.transformer.ln_f)
        self.activation = model.transformer.h[0].mlp.act

    def _projections(self) -> list[dict[str, Projection]]:
        return [
            {
                "qkv": self._joined(block.attn.c_attn),
                "o": self._joined(block.attn.c_proj),
                "up": self._joined(block.mlp.c_fc),
                "down": self._joined(block.mlp.c_proj),
            }
            for block in self.model.transformer.h
        ]

    def _embed(self, tokens_R: Tensor, place_R: Tensor) -> Tensor:
        body = self.model.transformer
        return embedding(tokens_R, body.wte.weight) + embedding(place_R, body.wpe.weight)

    def _feed(self, x: Tensor) -> Tensor:
        return self.activation(x)


class FusedLlama(FusedDecoderOnly):
    """Llama (2302.13971) and models with the same block: SmolLM2, Qwen2, Mistral without a sliding window."""

    def __init__(self, model: Any, layers: Any) -> None:
        """Collect heads, norms and activation from the model."""
        super().__init__(model, layers)
        self.heads, self.kv_heads = int(model.config.num_attention_heads), int(model.config.num_key_value_heads)
        first = model.model.layers[0]
        self.scale = float(first.self_attn.scaling)
        blocks = model.model.layers
        self.norms = [[self._norm(b.input_layernorm), self._norm(b.post_attention_layernorm)] for b in blocks]
        self.last_norm = self._norm(model.model.norm)
        self.activation = self._activation(first.mlp)

    def _norm(self, module: Any) -> Norm:
        return norm_of(module)

    def _activation(self, feed: Any) -> Any:
        return feed.act_fn

    def _projections(self) -> list[dict[str, Projection]]:
        return [
            {
                "qkv": self._joined(block.self_attn.q_proj, block.self_attn.k_proj, block.self_attn.v_proj),
                "o": self._joined(block.self_attn.o_proj),
                "up": self._joined(block.mlp.gate_proj, block.mlp.up_proj),
                "down": self._joined(block.mlp.down_proj),
            }
            for block in self.model.model.layers
        ]

    def _embed(self, tokens_R: Tensor, place_R: Tensor) -> Tensor:
        return embedding(tokens_R, self.model.model.embed_tokens.weight)

    def _turn(self, x: Tensor, place_R: Tensor) -> tuple[Tensor, Tensor] | None:
        cosine, sine = self.model.model.rotary_emb(x, place_R[:, None])
        return cosine, sine

    def _feed(self, x: Tensor) -> Tensor:
        gate, value = x.chunk(2, dim=-1)
        return self.activation(gate) * value
