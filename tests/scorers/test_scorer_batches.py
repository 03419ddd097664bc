"""Batches of scorers follow the memory budget; scores do not follow the batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

import pytest
import torch
from support.allocations import Allocations
from support.ready_scorers import examples, models  # noqa: F401 - models is a fixture
from transformers import AutoTokenizer

from emorl_bench.models.shape import tokens_within
from emorl_bench.scorer_training import nets
from emorl_bench.scorer_training.encoders import load_encoder
from emorl_bench.scorer_training.shapes import ROWS, fixed_batches
from emorl_bench.scorers import checkpoints
from emorl_bench.scorers.checkpoints import Judge
from emorl_bench.scorers.fluency import Fluency
from emorl_bench.scorers.reward_model import RewardModel
from emorl_bench.scorers.specificity import Specificity

RESPONSES = [" ".join(f"w{4 + (3 * i + j) % 36}" for j in range(1 + i % 20)) for i in range(100)]
PROMPTS = [f"w{4 + i % 36}" for i in range(100)]
MADE: dict[str, Callable[[dict[str, str]], Judge]] = {
    "fluency": lambda models: Fluency(model=models["causal"]),
    "specificity": lambda models: Specificity(model=models["encoder"]),
    "reward_model": lambda models: RewardModel(model=models["pairs"]),
}

Shapes = list[tuple[int, int]]


def as_on_a_gpu(module: Any, monkeypatch: pytest.MonkeyPatch) -> Shapes:
    """Cut batches as a GPU's; the shapes (rows, width) that are read are noted."""
    seen: Shapes = []

    def cut(lengths: Sequence[int], most: int, device: str, tokens: int | None = None) -> Iterator[Any]:
        for indices, own, width in fixed_batches(lengths, most, "cuda", tokens):
            seen.append((len(indices), width))
            yield indices, own, width

    monkeypatch.setattr(module, "fixed_batches", cut)
    return seen


@pytest.mark.parametrize("kind", MADE)
def test_a_small_budget_has_small_batches_and_the_same_scores(
    kind: str,
    models: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scorer = MADE[kind](models)
    alone_B = scorer.score(examples(PROMPTS), RESPONSES)
    assert torch.equal(scorer.within(1 << 14).score(examples(PROMPTS), RESPONSES), alone_B)  # a CPU reads one text
    seen = as_on_a_gpu(checkpoints, monkeypatch)
    torch.testing.assert_close(scorer.score(examples(PROMPTS), RESPONSES), alone_B, rtol=1e-5, atol=1e-6)
    assert {rows for rows, _ in seen} == {ROWS}
    config, fit = scorer.loaded().model.config.to_dict(), 100
    block = next(size for size in count(0, 1024) if tokens_within(size, config, 4) == fit)
    seen.clear()
    with Allocations() as found:
        scores_B = scorer.within(block).score(examples(PROMPTS), RESPONSES)
    torch.testing.assert_close(scores_B, alone_B, rtol=1e-5, atol=1e-6)
    assert {rows for rows, _ in seen} < set(range(2, ROWS))
    assert all(rows * width <= fit < (rows + 1) * width for rows, width in seen)
    assert found.largest <= block


def test_a_trained_scorer_s_batches_follow_the_budget(
    models: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder, tokenizer = load_encoder(models["encoder"])[0], AutoTokenizer.from_pretrained(models["encoder"])
    texts = list(zip(PROMPTS, RESPONSES, strict=True))
    seen = as_on_a_gpu(nets, monkeypatch)
    for block, rows in ((None, {ROWS}), (1 << 17, {4, 8}), (1, {1})):
        seen.clear()
        read = [i for own, _ in nets.fixed_inputs(tokenizer, texts, "response", 64, encoder, block) for i in own]
        assert sorted(read) == list(range(100))
        assert {shape[0] for shape in seen} == rows
