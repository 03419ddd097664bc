"""Encoder-decoder models (T5 and its relatives): the prompt is encoded once, the decoder starts from a fixed token."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache

from emorl_bench.core.types import Rollout
from emorl_bench.models.backbone import Backbone, Decoding, distinct_contexts, responses


class Seq2SeqBackbone(Backbone):
    """An encoder-decoder; see `Backbone`. A prompt ends with the end token; padding is on the right and masked."""

    family = "seq2seq"

    def plain_ids(self, text: str) -> list[int]:
        """The text without end tokens of its own, and then one end token, as T5 was trained."""
        return [*(i for i in self.tokenizer(text, verbose=False)["input_ids"] if i != self.eos), self.eos]

    @property
    def first_token(self) -> int:
        """The token that starts every response (``decoder_start_token_id``)."""
        return int(self.model.config.decoder_start_token_id)

    def padded_prompts(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Pad on the right; relative positions of the encoder then count from the first token."""
        return self._padded(prompts, left=False)

    def _encode(self, prompts: Sequence[Sequence[int]], adapters: int) -> tuple[Tensor, Tensor]:
        ids_PS, mask_PS = self.padded_prompts(prompts)
        ids, mask = ids_PS.repeat(adapters, 1), mask_PS.repeat(adapters, 1)
        return self.model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state, mask

    def start(self, prompts: Sequence[Sequence[int]], adapters: int) -> tuple[Decoding, Tensor]:
        """See `Backbone.start`; the first tokens are chosen after the decoder has read `first_token`."""
        memory, mask = self._encode(prompts, adapters)
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        state = Decoding(cache, mask, memory)
        first = torch.full((len(memory),), self.first_token, device=self.device)
        return state, self.step(state, first)

    def step(self, state: Decoding, tokens_R: Tensor) -> Tensor:
        """See `Backbone.step`."""
        out = self.model.get_decoder()(
            input_ids=tokens_R[:, None],
            encoder_hidden_states=state.memory,
            encoder_attention_mask=state.mask_RS,
            past_key_values=state.cache,
            use_cache=True,
        )
        return out.last_hidden_state[:, -1]

    def head(self, hidden: Tensor) -> Tensor:
        """(..., H) -> (..., V) logits; T5 with tied embeddings scales hidden states by ``1 / sqrt(d_model)`` first."""
        if getattr(self.model.config, "scale_decoder_outputs", False):
            # T5 with tied embeddings: the scale does not change the argmax, but it acts as a temperature in sampling.
            hidden = hidden * self.model.config.d_model**-0.5
        return self._of_tokens(self.lm_head(hidden))

    def forced(self, rollouts: Sequence[Rollout]) -> Tensor:
        """See `Backbone.forced`.

        Each distinct prompt is encoded once for all its samples. That is exact, because the encoder never sees the
        response.
        """
        contexts, rows_B = distinct_contexts(rollouts)  # samples share their prompt's encoding
        memory, mask = self._encode([self.prompt_ids(text) for text in contexts], 1)
        index_B = torch.tensor(rows_B, device=self.device)
        memory, mask = memory[index_B], mask[index_B]
        ids_BT, _ = responses(rollouts, self.pad)
        starts_B1 = torch.full_like(ids_BT[:, :1], self.first_token)
        # Padding follows the end token, so under causal attention no position that counts sees it.
        out = self.model.get_decoder()(
            input_ids=torch.cat([starts_B1, ids_BT[:, :-1]], dim=1),
            encoder_hidden_states=memory,
            encoder_attention_mask=mask,
            use_cache=False,
        )
        return out.last_hidden_state
