"""The scorers that methods train against: one network that reads an answer beside its prompt and gives three grades.

Every word of the answer is compared with the part of the prompt that is most like it. Two recurrent passes, one in each
direction, read these comparisons in order. Three heads grade what the passes have found, beside the words of the
prompt. No grade depends on how far a row is padded.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

PAD_ID = 0
NEVER = -1e4  # a softmax gives this score no weight, and an empty prompt causes no NaN


class Reader(nn.Module):
    """A network from prompt and response to logits of the grades.

    Args:
        vocabulary: the number of token ids.
        width: H.
        grades: K.
    """

    def __init__(self, vocabulary: int, width: int, grades: int = 3) -> None:
        """Make the layers with torch's initial weights."""
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.context = nn.Conv1d(width, width, 3, padding=1)
        self.sharpness = nn.Parameter(torch.tensor(8.0))
        self.compare = nn.Linear(4 * width + 1, width)
        self.forwards = nn.GRU(2 * width, width, batch_first=True)
        self.backwards = nn.GRU(2 * width, width, batch_first=True)
        self.head = nn.Sequential(nn.Linear(5 * width + 1, 2 * width), nn.ReLU(), nn.Linear(2 * width, grades))

    def forward(self, prompt_BS: Tensor, response_BT: Tensor) -> Tensor:
        """Logits (B, K) of prompt ids (B, S) and response ids (B, T), both padded on the right."""
        heard_BS, mask_BT = prompt_BS != PAD_ID, response_BT != PAD_ID
        said_BTH, words_BTH = self._in_context(response_BT, mask_BT)
        prompt_BSH, asked_BSH = self._in_context(prompt_BS, heard_BS)
        matched_BTH = self._matched(said_BTH, prompt_BSH, heard_BS)
        read_BTH = torch.cat([matched_BTH, words_BTH], -1) * mask_BT.unsqueeze(-1)
        order_BT = reversed_rows(mask_BT)
        there_BTH, _ = self.forwards(read_BTH)
        back_BTH, _ = self.backwards(taken(read_BTH, order_BT))
        state_BTH = torch.cat([there_BTH, taken(back_BTH, order_BT)], -1)
        # Padding counts as -1, and every row is treated as if it had padding.
        asked_BH = pooled(asked_BSH, heard_BS)[0].clamp_min(-1.0)
        length_B1 = mask_BT.sum(1, keepdim=True) / 20
        return self.head(torch.cat([*pooled(state_BTH, mask_BT), asked_BH, length_B1], -1))

    def _in_context(self, ids_BT: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Each word with its neighbours, and each word by itself: (B, T, H) each."""
        words_BTH = self.embed(ids_BT) * mask_BT.unsqueeze(-1)
        return words_BTH + F.relu(self.context(words_BTH.mT)).mT * mask_BT.unsqueeze(-1), words_BTH

    def _matched(self, said_BTH: Tensor, prompt_BSH: Tensor, heard_BS: Tensor) -> Tensor:
        """Each word compared with the part of the prompt that is most like it: (B, T, H)."""
        alike_BTS = F.normalize(said_BTH, dim=-1) @ F.normalize(prompt_BSH, dim=-1).mT
        unheard_B1S = ~heard_BS.unsqueeze(1)
        shares_BTS = torch.softmax((self.sharpness * alike_BTS).masked_fill(unheard_B1S, NEVER), -1)
        match_BTH, best_BT1 = shares_BTS @ prompt_BSH, alike_BTS.masked_fill(unheard_B1S, -1.0).amax(-1, keepdim=True)
        both = [said_BTH, match_BTH, said_BTH * match_BTH, (said_BTH - match_BTH).abs(), best_BT1]
        return F.relu(self.compare(torch.cat(both, -1)))


def reversed_rows(mask_BT: Tensor) -> Tensor:
    """(B, T): the order that reads each row's words backwards and leaves the padding after them."""
    place_BT = torch.arange(mask_BT.shape[1], device=mask_BT.device).expand_as(mask_BT)
    return torch.where(mask_BT, mask_BT.sum(1, keepdim=True) - 1 - place_BT, place_BT)


def taken(values_BTH: Tensor, order_BT: Tensor) -> Tensor:
    """(B, T, H): the columns of each row in an order (B, T)."""
    return values_BTH.gather(1, order_BT.unsqueeze(-1).expand_as(values_BTH))


def pooled(values_BTH: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Each row's maximum (was it said anywhere) and mean (how much of the answer is it), (B, H) each."""
    mean_BH = (values_BTH * mask_BT.unsqueeze(-1)).sum(1) / mask_BT.sum(1, keepdim=True).clamp(min=1)
    return values_BTH.masked_fill(~mask_BT.unsqueeze(-1), -1.0).amax(1), mean_BH


def encode(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> Tensor:
    """Ids (B, T), padded on the right; at least one column."""
    rows = tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
    ids_BT = torch.full((len(rows), max([1, *map(len, rows)])), PAD_ID)
    for i, row in enumerate(rows):
        ids_BT[i, : len(row)] = torch.tensor(row, dtype=torch.long)
    return ids_BT
