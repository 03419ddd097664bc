"""Decoder-only models (GPT-2, Llama and relatives): prompts are padded on the left, positions count real tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from emorl_bench.core.types import Rollout
from emorl_bench.models.backbone import Backbone, Decoding, distinct_contexts, responses


class CausalBackbone(Backbone):
    """A decoder-only model; see `Backbone`. A separator token, if the tokenizer has one, ends the prompt."""

    family = "causal"

    @property
    def _body(self) -> nn.Module:
        return getattr(self.model, self.model.base_model_prefix)

    def plain_ids(self, text: str) -> list[int]:
        """The text and the separator token; without a separator, the text with the tokenizer's own special tokens.

        End tokens that the tokenizer puts behind every text (``add_eos_token``) are taken off: an answer goes on there.
        """
        separator = self.tokenizer.sep_token_id
        if separator is not None:
            return [*self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"], separator]
        ids = list(self.tokenizer(text, verbose=False)["input_ids"])
        while ids and ids[-1] in (self.eos, *self.other_ends):
            ids.pop()
        return ids or [self.eos]

    @property
    def first_token(self) -> None:
        """None: the first token of a response is read from the last token of the prompt."""
        return None

    def padded_prompts(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Pad on the left, so that the last token of every prompt stands in the last column."""
        return self._padded(prompts, left=True)

    def start(self, prompts: Sequence[Sequence[int]], adapters: int) -> tuple[Decoding, Tensor]:
        """See `Backbone.start`; the first tokens are chosen from the last token of each prompt."""
        ids_PS, mask_PS = self.padded_prompts(prompts)
        ids, mask = ids_PS.repeat(adapters, 1), mask_PS.repeat(adapters, 1)
        cache = DynamicCache()
        out = self._body(
            input_ids=ids, attention_mask=mask, position_ids=positions(mask), past_key_values=cache, use_cache=True
        )
        return Decoding(cache, mask), out.last_hidden_state[:, -1]

    def step(self, state: Decoding, tokens_R: Tensor) -> Tensor:
        """See `Backbone.step`."""
        state.mask_RS = torch.cat([state.mask_RS, torch.ones_like(state.mask_RS[:, :1])], dim=1)
        out = self._body(
            input_ids=tokens_R[:, None],
            attention_mask=state.mask_RS,
            position_ids=state.mask_RS.sum(1, keepdim=True) - 1,
            past_key_values=state.cache,
            use_cache=True,
        )
        return out.last_hidden_state[:, -1]

    def forced(self, rollouts: Sequence[Rollout]) -> Tensor:
        """See `Backbone.forced`.

        Each distinct prompt is read once, and its samples start from copies of its keys and values. That is exact,
        because causal attention keeps a prompt's states independent of the response. Gradients of all samples add up in
        the prompt.
        """
        contexts, rows_B = distinct_contexts(rollouts)
        ids_BT, mask_BT = responses(rollouts, self.pad)
        ids_PS, mask_PS = self._padded([self.prompt_ids(text) for text in contexts], left=True)
        index_B = torch.tensor(rows_B, device=self.device)
        if self.recomputes:  # every sample reads its prompt itself
            return self._without_cache(ids_PS[index_B], mask_PS[index_B], ids_BT, mask_BT)
        cache = DynamicCache()
        prompt = self._body(
            input_ids=ids_PS, attention_mask=mask_PS, position_ids=positions(mask_PS), past_key_values=cache
        )
        first_B1H = prompt.last_hidden_state[index_B, -1:]
        if ids_BT.shape[1] == 1:
            return first_B1H
        cache.batch_select_indices(index_B)  # samples share their prompt's keys and values, gradients included
        mask = torch.cat([mask_PS[index_B], mask_BT.long()], dim=1)[:, :-1]
        rest = self._body(
            input_ids=ids_BT[:, :-1],
            attention_mask=mask,
            position_ids=positions(mask)[:, ids_PS.shape[1] :],
            past_key_values=cache,
        )
        return torch.cat([first_B1H, rest.last_hidden_state], dim=1)

    def _without_cache(self, ids_BS: Tensor, mask_BS: Tensor, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """(B, T, H): prompts and responses in one pass."""
        mask = torch.cat([mask_BS, mask_BT.long()], dim=1)[:, :-1]
        out = self._body(
            input_ids=torch.cat([ids_BS, ids_BT], dim=1)[:, :-1],
            attention_mask=mask,
            position_ids=positions(mask),
            use_cache=False,
        )
        return out.last_hidden_state[:, ids_BS.shape[1] - 1 :]


def positions(mask_PS: Tensor) -> Tensor:
    """(P, S) positions of prompts padded on the left: real tokens count from 0, padding has position 0."""
    return (mask_PS.long().cumsum(1) - 1).clamp_min(0)
