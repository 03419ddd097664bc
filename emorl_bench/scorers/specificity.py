"""Is the response about this prompt? Cosine of the two texts' embeddings, as (1 + cos) / 2 in [0, 1].

EMORL (arXiv 2505.02579) reports the plain cosine as specificity. A copy of the prompt scores 1, so use `edit_rate`
beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from emorl_bench.core.errors import UserError, did_you_mean
from emorl_bench.core.types import Example
from emorl_bench.scorers.checkpoints import Judge

POOLINGS = ("mean", "cls")


@dataclass(frozen=True, kw_only=True)
class Specificity(Judge):
    """Cosine similarity as a score. Texts are cut after ``max_tokens``. An empty response scores 0.

    ``pooling`` makes one vector of a text: the ``mean`` over its tokens, as sentence encoders are trained, or the
    first, ``cls``.
    """

    model: str = "offline:minilm_l6"
    pooling: str = "mean"
    max_tokens: int = 256
    batch_tokens: int = 16384
    name: str = "specificity"
    kind = "encoder"

    def score(self, examples: Sequence[Example], responses: Sequence[str]) -> Tensor:
        """(B,) in [0, 1].

        Raises:
            UserError: an unknown pooling, or an encoder that cannot be loaded.
        """
        if self.pooling not in POOLINGS:
            raise UserError(
                f"scorer {self.name}: pooling={self.pooling}: unknown{did_you_mean(self.pooling, POOLINGS)}"
            )
        if not responses:
            return torch.zeros(0)
        prompts = [e.prompt for e in examples]
        distinct = list(dict.fromkeys([*prompts, *responses]))  # a prompt is repeated for each of its samples
        place = {text: i for i, text in enumerate(distinct)}
        embedded_NH = self.embed(distinct).double()  # a float32 cosine differs by the number of rows
        cosine_B = F.cosine_similarity(
            embedded_NH[[place[p] for p in prompts]], embedded_NH[[place[r] for r in responses]]
        )
        said_B = torch.tensor([bool(r.strip()) for r in responses], dtype=torch.bool)
        return ((1 + cosine_B) / 2).clamp(0.0, 1.0).float() * said_B

    def embed(self, texts: Sequence[str]) -> Tensor:
        """(N, H) float32 embeddings on the CPU. A text without a token is the zero vector."""
        loaded = self.loaded()
        most = min(self.max_tokens, loaded.context)
        rows = loaded.tokenizer(list(texts), truncation=True, max_length=most)["input_ids"]
        told = [i for i, row in enumerate(rows) if row]

        def judge(indices: list[int], width: int) -> Tensor:
            inputs = loaded.padded([rows[told[i]] for i in indices], width)
            states_BTH = loaded.model(**inputs).last_hidden_state.float()
            weights_BT1 = inputs["attention_mask"][..., None].float()
            mean_BH: Tensor = (states_BTH * weights_BT1).sum(1) / weights_BT1.sum(1)
            return states_BTH[:, 0] if self.pooling == "cls" else mean_BH

        embedded_NH = torch.zeros(len(rows), loaded.model.config.hidden_size)
        if told:
            embedded_NH[told] = self.in_batches([rows[i] for i in told], judge)
        return embedded_NH
