"""The networks behind the scorers: a soft-matching classifier of pairs, a bag of phrases, a causal language model.

All three are convolutions over word embeddings, so a batch of a thousand texts takes milliseconds on a CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PAD_ID = 0


def pooled(features_BTH: Tensor, mask_BT: Tensor) -> Tensor:
    """Maximum (was it said anywhere) and mean (how much of the text is it); zeros for an empty text."""
    mask_BT1 = mask_BT.unsqueeze(-1)
    mean_BH = (features_BTH * mask_BT1).sum(1) / mask_BT1.sum(1).clamp(min=1)
    max_BH = features_BTH.masked_fill(~mask_BT1, 0.0).amax(1)  # features are not negative
    return torch.cat([max_BH, mean_BH], dim=-1)


class PhraseNet(nn.Module):
    """Empathy: trigram features of the response alone, pooled."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.phrase = nn.Conv1d(width, 2 * width, 3, padding=1)
        self.head = nn.Sequential(nn.Linear(4 * width + 1, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, prompt_BS: Tensor, response_BT: Tensor) -> Tensor:
        mask_BT = response_BT != PAD_ID
        words_BTH = self.embed(response_BT) * mask_BT.unsqueeze(-1)
        features_BTH = F.relu(self.phrase(words_BTH.transpose(1, 2))).transpose(1, 2)
        length_B1 = mask_BT.sum(1, keepdim=True) / 20
        return self.head(torch.cat([pooled(features_BTH, mask_BT), length_B1], -1)).squeeze(-1)


class MatchNet(nn.Module):
    """Reflection: align each word of the response with the prompt, compare, convolve, pool.

    After the decomposable attention model (Parikh et al. 2016), with phrases instead of words compared.
    """

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.context = nn.Conv1d(width, width, 3, padding=1)
        self.sharpness = nn.Parameter(torch.tensor(8.0))
        self.compare = nn.Linear(4 * width + 1, width)
        self.phrase = nn.Conv1d(width, 2 * width, 5, padding=2)
        self.head = nn.Sequential(nn.Linear(4 * width + 1, width), nn.ReLU(), nn.Linear(width, 1))

    def encode(self, ids_BS: Tensor, mask_BS: Tensor) -> Tensor:
        words_BSH = self.embed(ids_BS) * mask_BS.unsqueeze(-1)
        return words_BSH + F.relu(self.context(words_BSH.transpose(1, 2))).transpose(1, 2)

    def forward(self, prompt_BS: Tensor, response_BT: Tensor) -> Tensor:
        heard_BS, mask_BT = prompt_BS != PAD_ID, response_BT != PAD_ID
        prompt_BSH, said_BTH = self.encode(prompt_BS, heard_BS), self.encode(response_BT, mask_BT)
        match_BTS = F.normalize(said_BTH, dim=-1) @ F.normalize(prompt_BSH, dim=-1).transpose(1, 2)
        match_BTS = match_BTS.masked_fill(~heard_BS.unsqueeze(1), -1.0)
        aligned_BTH = torch.softmax(self.sharpness * match_BTS, -1) @ prompt_BSH
        best_BT1 = match_BTS.amax(-1, keepdim=True)
        pair = [said_BTH, aligned_BTH, said_BTH * aligned_BTH, (said_BTH - aligned_BTH).abs(), best_BT1]
        compared_BTH = F.relu(self.compare(torch.cat(pair, -1))) * mask_BT.unsqueeze(-1)
        features_BTH = F.relu(self.phrase(compared_BTH.transpose(1, 2))).transpose(1, 2)
        length_B1 = mask_BT.sum(1, keepdim=True) / 20
        return self.head(torch.cat([pooled(features_BTH, mask_BT), length_B1], -1)).squeeze(-1)


class CausalNet(nn.Module):
    """Fluency: a language model of the response alone, by gated causal convolutions over the last 15 words."""

    def __init__(self, vocabulary: int, width: int, dilations: tuple[int, ...] = (1, 2, 4)) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.dilations = dilations
        self.layers = nn.ModuleList(nn.Conv1d(width, 2 * width, 3, dilation=d) for d in dilations)
        self.norm = nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        nn.init.normal_(self.embed.weight, std=width**-0.5)

    def forward(self, before_BT: Tensor) -> Tensor:
        """Log-probabilities (B, T, V) of the next word after each prefix."""
        x_BHT = self.embed(before_BT).transpose(1, 2)
        for layer, dilation in zip(self.layers, self.dilations, strict=True):
            past_BHT = F.pad(x_BHT, (2 * dilation, 0))
            value_BHT, gate_BHT = layer(past_BHT).chunk(2, dim=1)
            x_BHT = x_BHT + value_BHT * torch.sigmoid(gate_BHT)
        hidden_BTH = self.norm(x_BHT.transpose(1, 2))
        return F.log_softmax(hidden_BTH @ self.embed.weight.T + self.bias, dim=-1)

    def nll(self, response_BT: Tensor) -> Tensor:
        """Mean negative log-likelihood (B,) of rows ``ids + [eos]``, padded; row starts are predicted from padding."""
        before_BT = F.pad(response_BT, (1, 0))[:, :-1]
        taken_BT = self(before_BT).gather(-1, response_BT.unsqueeze(-1)).squeeze(-1)
        mask_BT = response_BT != PAD_ID
        return -(taken_BT * mask_BT).sum(1) / mask_BT.sum(1)
