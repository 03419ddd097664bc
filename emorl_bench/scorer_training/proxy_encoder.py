"""The encoder of the over-optimisation study's proxies: words of the answer are aligned with the prompt.

After the decomposable attention model (Parikh et al. 2016, arXiv 1606.01933). Phrases are compared instead of words.
"""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emorl_bench.assets.reader import NEVER, PAD_ID, pooled


class MatchEncoder(nn.Module):
    """Prompt ids (B, S) and response ids (B, T), right-padded -> one vector for each row, (B, width).

    Padding takes no part in the alignment: a text's reward does not depend on its batch.
    """

    def __init__(self, vocabulary: int, width: int) -> None:
        """New weights for a ``vocabulary`` of so many words."""
        super().__init__()
        self.config = SimpleNamespace(hidden_size=width)
        self.embed = nn.Embedding(vocabulary, width)
        self.context = nn.Conv1d(width, width, 3, padding=1)
        self.sharpness = nn.Parameter(torch.tensor(8.0))
        self.compare = nn.Linear(4 * width + 1, width)
        self.phrase = nn.Conv1d(width, 2 * width, 5, padding=2)
        self.head = nn.Sequential(nn.Linear(4 * width + 1, width), nn.ReLU())

    def forward(self, prompt_BS: Tensor, response_BT: Tensor) -> Tensor:
        """(B, width) features."""
        heard_BS, mask_BT = prompt_BS != PAD_ID, response_BT != PAD_ID
        prompt_BSH, said_BTH = self._in_context(prompt_BS, heard_BS), self._in_context(response_BT, mask_BT)
        alike_BTS = F.normalize(said_BTH, dim=-1) @ F.normalize(prompt_BSH, dim=-1).mT
        alike_BTS = alike_BTS.masked_fill(~heard_BS.unsqueeze(1), NEVER)
        aligned_BTH = torch.softmax(self.sharpness * alike_BTS, -1) @ (prompt_BSH * heard_BS.unsqueeze(-1))
        best_BT1 = alike_BTS.amax(-1, keepdim=True).clamp(min=-1.0)
        both = [said_BTH, aligned_BTH, said_BTH * aligned_BTH, (said_BTH - aligned_BTH).abs(), best_BT1]
        compared_BTH = F.relu(self.compare(torch.cat(both, -1))) * mask_BT.unsqueeze(-1)
        features_BTH = F.relu(self.phrase(compared_BTH.mT)).mT
        hidden_BH: Tensor = self.head(
            torch.cat([*pooled(features_BTH, mask_BT), mask_BT.sum(1, keepdim=True) / 20], -1)
        )
        return hidden_BH

    def _in_context(self, ids_BS: Tensor, mask_BS: Tensor) -> Tensor:
        words_BSH = self.embed(ids_BS) * mask_BS.unsqueeze(-1)
        in_context_BSH: Tensor = words_BSH + F.relu(self.context(words_BSH.mT)).mT
        return in_context_BSH
