"""Scorers on the device give the scores of the CPU, and in bfloat16 the same order."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import VOCABULARY, word_prompts, word_tokenizer
from on_device import DEVICE, needs_device
from transformers import BertConfig, BertForSequenceClassification

from emorl_bench.assets.world.corpus import WARMTHS
from emorl_bench.assets.world.grades import OBJECTIVES
from emorl_bench.assets.world.responses import DEFECTS, KINDS, respond
from emorl_bench.assets.world.statements import sample_statements
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.types import Example, Rollout
from emorl_bench.scorers.embedded import Embedded
from emorl_bench.scorers.panel import ScorerPanel
from emorl_bench.scorers.precision import SAME_ORDER, rank_correlations
from emorl_bench.scorers.reward_model import RewardModel

pytestmark = [pytest.mark.gpu, needs_device]

EMBEDDED = tuple(Embedded(name) for name in OBJECTIVES)
CPU = torch.device("cpu")


def rollout(prompts: list[str], responses: list[str]) -> Rollout:
    """Texts alone: scorers read nothing else."""
    empty_BT = torch.zeros(len(responses), 1)
    examples = tuple(Example(str(i), prompt) for i, prompt in enumerate(prompts))
    return Rollout(examples, tuple(responses), empty_BT.long(), empty_BT.bool(), empty_BT, 1)


def reflections(count: int) -> Rollout:
    """Statements of the embedded world, each answered in another manner."""
    rng, said = random.Random(0), sample_statements("select", count, seed=0)
    manners = itertools.cycle(itertools.product(KINDS, WARMTHS, (None, *DEFECTS)))
    answers = [respond(rng, statement, *manner).text for statement, manner in zip(said, manners, strict=False)]
    return rollout([statement.text for statement in said], answers)


def panels(scorers: list[object]) -> tuple[ScorerPanel, ScorerPanel, ScorerPanel]:
    """On the CPU, on the device, and there in bfloat16."""
    here = [scorer.on(DEVICE) for scorer in scorers]
    return (
        ScorerPanel(scorers, Ledger(CPU)),
        ScorerPanel(here, Ledger(DEVICE)),
        ScorerPanel(here, Ledger(DEVICE), bfloat16=True),
    )


def check(scorers: list[object], said: Rollout, record_property: Callable[[str, object], None]) -> None:
    exact, found, fast = panels(scorers)
    right_BK = exact.score(said)
    apart = float((found.score(said) - right_BK).abs().max())
    record_property("largest_difference_of_a_score", apart)
    record_property("lowest_rank_correlation_in_bfloat16", min(rank_correlations(found, fast, said)))
    assert apart < 1e-3
    assert min(rank_correlations(found, fast, said)) >= SAME_ORDER
    assert float(right_BK.std(0).min()) > 0.005  # a scorer that says one number would agree with anything


def test_embedded_scorers(record_property: Callable[[str, object], None]) -> None:
    check(list(EMBEDDED), reflections(60), record_property)


def test_a_reward_model(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    torch.manual_seed(0)
    shape = {"vocab_size": VOCABULARY, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3}
    config = BertConfig(**shape, intermediate_size=32, initializer_range=0.3, max_position_embeddings=64, num_labels=1)
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    word_tokenizer().save_pretrained(tmp_path)
    prompts = [example.prompt for example in word_prompts(60)]
    check([RewardModel(model=str(tmp_path))], rollout(prompts, prompts[7:] + prompts[:7]), record_property)
