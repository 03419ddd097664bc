"""T5 (1910.10683; gated variants, mT5): relative position bias, unscaled attention, cross-attention to the encoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding

from emorl_bench.decoding.fused.engine import FusedModel, Products, heads, joined, norm_of
from emorl_bench.decoding.fused.projection import Projection
from emorl_bench.decoding.fused.rows import PromptStates, Rows


class FusedT5(FusedModel):
    """The decoder of T5. The encoder is transformers' own, and its output is turned into keys and values once."""

    def __init__(self, model: Any, layers: Any) -> None:
        """Collect norms and activation from the model."""
        super().__init__(model, layers)
        self.count = int(model.config.num_heads)
        self.norms = [[norm_of(part.layer_norm) for part in block.layer] for block in model.decoder.block]
        self.last_norm = norm_of(model.decoder.final_layer_norm)
        self.activation = model.decoder.block[0].layer[2].DenseReluDense.act
        self.gated = bool(model.config.is_gated_act)
        self._bias_HTT: Tensor | None = None

    def _projections(self) -> list[dict[str, Projection]]:
        layers = []
        for block in self.model.decoder.block:
            own, cross, feed = (
                block.layer[0].SelfAttention,
                block.layer[1].EncDecAttention,
                block.layer[2].DenseReluDense,
            )
            gated = self.model.config.is_gated_act
            layers.append(
                {
                    "qkv": self._joined(own.q, own.k, own.v),
                    "o": self._joined(own.o),
                    "cross_q": self._joined(cross.q),
                    "cross_o": self._joined(cross.o),
                    "wi": self._joined(feed.wi_0, feed.wi_1) if gated else self._joined(feed.wi),
                    "wo": self._joined(feed.wo),
                }
            )
        return layers

    def read(self, ids_PS: Tensor, mask_PS: Tensor, adapters: int) -> PromptStates:
        """See `FusedModel.read`; the keys and values are those of cross-attention."""
        p, s = ids_PS.shape
        ids, mask = ids_PS.repeat(adapters, 1), mask_PS.repeat(adapters, 1)
        memory = self.model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
        keys: list[Tensor] = []
        values: list[Tensor] = []
        for block in self.model.decoder.block:
            cross = block.layer[1].EncDecAttention
            for layer, kept in ((cross.k, keys), (cross.v, values)):
                x = layer(memory).view(adapters, p, s, self.count, -1)
                kept.append(x.permute(1, 0, 3, 2, 4).reshape(p, adapters * self.count, s, -1))
        return PromptStates(keys, values, mask_PS.bool())

    def step(self, products: Products, rows: Rows, tokens_R: Tensor, adapters: int) -> Tensor:
        """See `FusedModel.step`."""
        n, mix = adapters, rows.mix_RM
        x = embedding(tokens_R, self.model.shared.weight).expand(n, -1, -1)
        ahead = rows.ahead(x.dtype)
        near = (rows.biases(self._bias(rows.steps)) + ahead).repeat(n, 1)[:, None]  # (N*H, 1, room)
        unread = rows.unread(x.dtype)
        for index, (product, norms) in enumerate(zip(products, self.norms, strict=True)):
            q, k, v = product["qkv"](norms[0](x), mix).chunk(3, dim=-1)
            keys, values = rows.append(index, heads(k, self.count), heads(v, self.count))
            scores = torch.matmul(heads(q, self.count)[:, :, None], keys.transpose(2, 3)).add_(near)
            seen = torch.matmul(scores.softmax(-1), values)[:, :, 0]
            x = x + product["o"](joined(seen, n), mix)
            q = rows.by_prompt(heads(product["cross_q"](norms[1](x), mix), self.count)[:, :, None])
            scores = torch.matmul(q, rows.prompts.keys[index].transpose(2, 3)).add_(unread)
            seen = rows.by_row(torch.matmul(scores.softmax(-1), rows.prompts.values[index]))[:, :, 0]
            x = x + product["cross_o"](joined(seen, n), mix)
            x = x + product["wo"](self._feed(product["wi"](norms[2](x), mix)), mix)
        return self.last_norm(x)

    def _feed(self, x: Tensor) -> Tensor:
        if not self.gated:
            return self.activation(x)
        gate, value = x.chunk(2, dim=-1)
        return self.activation(gate) * value

    def _bias(self, steps: int) -> Tensor:
        """(H, T, T) relative position bias of a decode of at most T tokens."""
        if self._bias_HTT is None or self._bias_HTT.shape[1] < steps:
            attention = self.model.decoder.block[0].layer[0].SelfAttention
            self._bias_HTT = attention.compute_bias(steps, steps)[0].detach()
        return self._bias_HTT
