"""Training of the embedded scorers on texts that the judge has labelled.

`Reader` learns from the situations of one half; methods optimise it. `NGrams` learns from the other half; only reports
use it. Grades are soft targets of a cross-entropy, so a score is calibrated and not merely ranked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from emorl_bench.assets.ngrams import NGrams, features
from emorl_bench.assets.reader import PAD_ID, Reader, encode
from emorl_bench.assets.world.grades import golds
from emorl_bench.building.reflections.scorer_texts import Text

HALVES = {"train": 0, "held_out": 1}  # set of scorers -> half of the training situations that it learns from
WIDTH, BATCH, DECAY = 48, 128, 0.01


def labels(texts: Sequence[Text]) -> Tensor:
    """(B, K) gold grades."""
    return torch.tensor(golds(*zip(*texts, strict=True)), dtype=torch.float32)


def fit_reader(
    net: Reader, tokenizer: PreTrainedTokenizerFast, texts: Sequence[Text], *, epochs: int, rate: float, seed: int
) -> None:
    """Train the reader, in place."""
    prompt_NS, response_NT = (encode(tokenizer, part) for part in zip(*texts, strict=True))
    grade_NK = labels(texts)

    def loss(rows: Tensor) -> Tensor:
        prompt_BS, response_BT = _trimmed(prompt_NS[rows]), _trimmed(response_NT[rows])
        return F.binary_cross_entropy_with_logits(net(prompt_BS, response_BT), grade_NK[rows])

    _descend(net, loss, len(texts), epochs=epochs, rate=rate, seed=seed)


def fit_ngrams(net: NGrams, texts: Sequence[Text], *, epochs: int, rate: float, seed: int) -> None:
    """Train the n-gram model, in place."""
    rows_N, grade_NK = [features(*text) for text in texts], labels(texts)

    def loss(rows: Tensor) -> Tensor:
        raw_BK = net.raw([rows_N[i] for i in rows.tolist()])
        return F.binary_cross_entropy_with_logits(raw_BK, grade_NK[rows])

    _descend(net, loss, len(texts), epochs=epochs, rate=rate, seed=seed)


def calibrate(net: NGrams, texts: Sequence[Text]) -> None:
    """Scale and shift each grade so that it fits texts that were not trained on (Platt scaling)."""
    with torch.no_grad():
        raw_NK = net.raw([features(*text) for text in texts])
    grade_NK, parameters = labels(texts), [net.scale, net.shift]
    optimiser = torch.optim.LBFGS(parameters, max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = F.binary_cross_entropy_with_logits(net.calibrated(raw_NK), grade_NK)
        loss.backward()
        return loss

    optimiser.step(closure)


def _trimmed(ids_BT: Tensor) -> Tensor:
    """The ids without the columns that are padding in every row."""
    return ids_BT[:, : max(1, int((ids_BT != PAD_ID).sum(1).max()))]


def _descend(
    net: nn.Module, loss: Callable[[Tensor], Tensor], count: int, *, epochs: int, rate: float, seed: int
) -> None:
    """AdamW with a one-cycle schedule over shuffled minibatches."""
    rng = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(net.parameters(), rate, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=epochs * (count // BATCH))
    net.train()
    for _ in range(epochs):
        for rows in torch.randperm(count, generator=rng)[: count // BATCH * BATCH].split(BATCH):
            optimiser.zero_grad()
            loss(rows).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            schedule.step()
    net.eval()
