"""Recorded decode steps: the answers of launched ones, and right or refused; a recorder on the CPU stands in."""

from __future__ import annotations

import pytest
import torch
from conftest import make_bank, shaken, word_prompts
from support.recorder import Recorder

from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Sampling
from emorl_bench.decoding.measuring import time_graphs
from emorl_bench.decoding.stepping import Start, static_stepper
from emorl_bench.ensemble.blending import HiddenState
from emorl_bench.ensemble.merging import SideBySide

STEPS = 24
PROMPTS = word_prompts(4)


@pytest.mark.parametrize("sampling", [Sampling(STEPS, 0.0), Sampling(STEPS, 1.0, 3)], ids=["greedy", "sampled"])
def test_replayed_steps_give_the_same_answers(architecture, sampling, monkeypatch):
    found, launched = {}, []
    for how in (None, Recorder):
        bank = make_bank(architecture)
        bank.decoder.check_every, bank.decoder.record, bank.decoder.ledger.flops_every = 6, how, 0
        inner = bank.decoder.fused.step
        monkeypatch.setattr(
            bank.decoder.fused, "step", lambda *given, inner=inner: (launched.append(1), inner(*given))[1]
        )
        launched.clear()
        trio = [shaken(bank, seed) for seed in (1, 2, 3)]
        weights_WM = torch.rand(2, 3, generator=stream(5))
        asked = (trio[0], SideBySide(trio, weights_WM), HiddenState().blend(trio, weights_WM))
        found[how] = [one.generate(PROMPTS, sampling, stream(0)) for one in asked], len(launched)
    for mine, theirs in zip(found[None][0], found[Recorder][0], strict=True):
        assert mine.responses == theirs.responses
        torch.testing.assert_close(mine.logprobs_BT, theirs.logprobs_BT, atol=0, rtol=0, equal_nan=True)
    assert found[Recorder][1] < 0.7 * found[None][1]  # most steps are replays


def test_no_operation_is_hidden_from_a_count_of_flops(architecture):
    found = []
    for how in (None, Recorder):
        bank = make_bank(architecture)
        bank.decoder.check_every, bank.decoder.record, bank.decoder.ledger.flops_every = 6, how, 2
        for seed in range(3):  # the first and the third are counted
            shaken(bank, 1).generate(PROMPTS, Sampling(STEPS, 1.0, 3), stream(seed))
        found.append(bank.decoder.ledger.current.flops)
    assert found[0] == found[1] > 0


def test_a_step_that_cannot_be_recorded_is_launched(capsys):
    def refuses(work):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    answers = []
    for how in (None, refuses):
        bank = make_bank("llama")
        bank.decoder.check_every, bank.decoder.record, bank.decoder.ledger.flops_every = 6, how, 0
        answers.append(shaken(bank, 1).generate(PROMPTS, Sampling(STEPS, 1.0, 2), stream(0)).responses)
    assert answers[0] == answers[1]
    said = [line for line in capsys.readouterr().err.splitlines() if "CUDA graphs" in line]
    assert said == ["decode: no CUDA graphs, operation not permitted when stream is capturing"]


class Stale(Recorder):
    """Replays everything but what it has written to: the place of a token stays the same."""

    def replay(self) -> None:
        self.steps = [step for step in self.steps if not step[0]._schema.is_mutable]
        super().replay()


def test_recorded_steps_are_compared_before_they_are_used(architecture, capsys):
    bank = make_bank(architecture)
    times = time_graphs(bank.backbone, bank.decoder.fused, Recorder)
    assert times.same
    assert min(times.launched, times.recorded) > 0
    assert times.pays == (times.recorded < times.launched)
    assert not capsys.readouterr().err
    wrong = time_graphs(bank.backbone, bank.decoder.fused, Stale)
    assert not wrong.same
    assert not wrong.pays
    assert "recorded steps differ" in capsys.readouterr().err


@pytest.mark.parametrize("architecture", ["t5", "llama"])
def test_a_static_step_is_one_graph_for_a_compiler(architecture):
    """`fullgraph` refuses whatever would leave the graph: a branch on a tensor, a number read from the device."""
    bank = make_bank(architecture)
    policy, backbone, fused = shaken(bank, 1), bank.backbone, bank.decoder.fused
    start = Start([backbone.prompt_ids(e.context) for e in PROMPTS], policy.adapters, None, STEPS)
    plain, compiled = (static_stepper(backbone, fused, start, None, None) for _ in range(2))
    with torch.no_grad():
        for stepper in (plain, compiled):
            stepper.first()
            stepper.rows.reserve(STEPS)
        step = torch.compile(
            lambda tokens_R: fused.step(compiled.products, compiled.rows, tokens_R, 1), backend="eager", fullgraph=True
        )
        for token in (5, 9):
            tokens_R = torch.full((len(PROMPTS),), token)
            expected = plain.step(tokens_R)
            found = step(tokens_R)
            compiled.rows.advance()
            torch.testing.assert_close(found, expected)
