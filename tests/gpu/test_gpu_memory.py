"""Memory that runs out: a decode goes on with half the rows, and learners go on one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from on_device import DEVICE, ON_GPU, needs_device

from benchmarks.models import SHAPES, Setting, micro, random_setting
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Example, Rollout, Sampling
from emorl_bench.rl.scst import Scst
from emorl_bench.rl.update import Updater

pytestmark = [pytest.mark.gpu, needs_device]

SMALL_HEAD = {**SHAPES["tiny_llama"].dims, "vocab_size": 503}  # what a batch does not decide is little
WIDE = replace(SHAPES["tiny_llama"], dims=SMALL_HEAD, prompts=2048, prompt_tokens=(8, 16), new_tokens=32)
SHAPE = WIDE if ON_GPU else micro(SHAPES["tiny_llama"])
TIGHT = 0.7  # of the memory that the work takes where it is free to


@contextmanager
def cramped(setting: Setting, needed: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let this process have ``TIGHT`` of ``needed`` bytes beside what it holds; on a CPU the reading of many fails."""
    if not ON_GPU:
        read = setting.bank.decoder.fused.read

        def failing(ids_PS: Any, mask_PS: Any, adapters: int) -> Any:
            if len(ids_PS) > SHAPE.prompts // 2:
                raise torch.OutOfMemoryError("no room")
            return read(ids_PS, mask_PS, adapters)

        monkeypatch.setattr(setting.bank.decoder.fused, "read", failing)
        yield
        return
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(DEVICE).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(DEVICE) + TIGHT * needed) / total, DEVICE)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, DEVICE)


def measured(setting: Setting, examples: list[Example], sampling: Sampling) -> tuple[Rollout, int]:
    """What the first expert says where memory is free, and how many bytes it took beside what was held before."""
    if not ON_GPU:
        return setting.experts[0].generate(examples, sampling, stream(0)), 0
    setting.experts[0].generate(examples[:8], sampling, stream(0))  # libraries take their workspaces
    torch.cuda.empty_cache()
    held = torch.cuda.memory_reserved(DEVICE)
    torch.cuda.reset_peak_memory_stats(DEVICE)
    rollout = setting.experts[0].generate(examples, sampling, stream(0))
    return rollout, torch.cuda.max_memory_reserved(DEVICE) - held


def test_a_decode_that_does_not_fit_goes_on_with_fewer_rows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    setting = random_setting(SHAPE, dtype=torch.float32, device=DEVICE)
    setting.bank.decoder.max_rows = SHAPE.prompts
    examples, greedy = setting.prompts(), Sampling(SHAPE.new_tokens, 0.0)
    expected, needed = measured(setting, examples, greedy)
    with cramped(setting, needed, monkeypatch):
        found = setting.experts[0].generate(examples, greedy, stream(0))
    assert setting.bank.decoder.max_rows <= SHAPE.prompts // 2
    assert "out of memory" in capsys.readouterr().err
    same = [ours == theirs for ours, theirs in zip(found.responses, expected.responses, strict=True)]
    assert sum(same) >= 0.95 * len(same)  # products of another size round otherwise, and few rows part by it


@pytest.mark.skipif(
    not ON_GPU, reason="the memory of a CPU cannot be limited; tests/rl/test_joint_training.py fakes it"
)
def test_learners_that_do_not_fit_together_learn_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = replace(SHAPE, prompts=64)
    setting = random_setting(shape, dtype=torch.float32, device=DEVICE)
    sampling, prompts = Sampling(shape.new_tokens, 1.0, samples_per_prompt=4), setting.prompts()
    said = [policy.generate(prompts, sampling, stream(i)) for i, policy in enumerate(setting.experts)]
    rewards = [torch.rand(len(said[0].examples), generator=stream(i, "rewards")) for i in range(3)]
    updater = Updater(setting.bank.decoder.ledger)

    def update() -> None:
        learners = [
            Scst(learning_rate=0.0, kl_coefficient=0.0).learner(policy, updater.ledger) for policy in setting.experts
        ]
        updater.update(learners, said, rewards, [stream(i, "update") for i in range(3)])

    torch.cuda.empty_cache()
    held = torch.cuda.memory_reserved(DEVICE)
    torch.cuda.reset_peak_memory_stats(DEVICE)
    update()
    assert updater.stacking.joint
    with cramped(setting, torch.cuda.max_memory_reserved(DEVICE) - held, monkeypatch):
        update()
    assert not updater.stacking.joint
    assert "one after the other" in capsys.readouterr().err
