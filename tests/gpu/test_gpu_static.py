"""Decoding that does not wait for the device, there: no hidden wait, the answers of the other loop, graphs exact."""

from __future__ import annotations

from statistics import mean

import pytest
import torch
from conftest import word_prompts
from on_device import (
    DEVICE,
    ON_GPU,
    REGRET,
    WEIGHTS_WM,
    moved,
    needs_device,
    on_architectures,
    on_types,
    plain_copies,
    regrets,
    trio,
)
from support.recorder import Recorder

from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Sampling
from emorl_bench.decoding import static_rows
from emorl_bench.decoding.graphs import CudaGraph
from emorl_bench.decoding.measuring import time_graphs
from emorl_bench.ensemble.blending import HiddenState
from emorl_bench.ensemble.merging import SideBySide

pytestmark = [pytest.mark.gpu, needs_device]

STEPS = 40
GREEDY, SAMPLED = Sampling(STEPS, 0.0), Sampling(STEPS, 1.0, samples_per_prompt=4)
PROMPTS = word_prompts(9)
RECORD = CudaGraph if ON_GPU else Recorder


@on_architectures
@on_types
def test_blends_are_as_good_as_those_of_plain_models(architecture: str, dtype: torch.dtype) -> None:
    made = trio(architecture, dtype)
    made.bank.decoder.check_every, made.bank.decoder.record = 6, RECORD
    made.bank.decoder.ledger.flops_every = 0
    rollout = HiddenState().blend(made.experts, WEIGHTS_WM).generate(PROMPTS, Sampling(12, 0.0), stream(0))
    copies, each = plain_copies(made), len(PROMPTS)
    for w, weights_M in enumerate(WEIGHTS_WM.tolist()):
        own = moved(rollout.rows(range(w * each, (w + 1) * each)), torch.device("cpu"))
        assert mean(regrets(copies, weights_M, made.backbone, own)) <= REGRET[dtype]


@on_architectures
@on_types
def test_replayed_steps_are_launched_ones_to_the_bit(
    architecture: str, dtype: torch.dtype, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for record in (None, RECORD):
        made = trio(architecture, dtype)
        made.bank.decoder.check_every, made.bank.decoder.record = 6, record
        made.bank.decoder.ledger.flops_every = 0  # a decode that is counted uses no graphs
        asked = (
            made.experts[0],
            SideBySide(made.experts, WEIGHTS_WM),
            HiddenState().blend(made.experts, WEIGHTS_WM),
        )
        found.append([one.generate(PROMPTS, sampling, stream(0)) for one in asked for sampling in (GREEDY, SAMPLED)])
    for launched, replayed in zip(*found, strict=True):
        assert launched.responses == replayed.responses
        torch.testing.assert_close(launched.logprobs_BT, replayed.logprobs_BT, atol=0, rtol=0, equal_nan=True)
    assert "no CUDA graphs" not in capsys.readouterr().err
    assert time_graphs(made.backbone, made.bank.decoder.fused, RECORD).same


@on_architectures
def test_nothing_between_two_checks_waits(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch itself says where the host waits for the device."""
    made = trio(architecture, torch.float32)
    made.bank.decoder.check_every = 100  # the only check is at the first token
    inner_choose, inner_run = static_rows._Static.choose, static_rows._Static.run

    def choose(self: static_rows._Static, hidden_NRH: torch.Tensor, t: int) -> torch.Tensor:
        if t == 1 and ON_GPU:
            torch.cuda.set_sync_debug_mode("error")
        return inner_choose(self, hidden_NRH, t)

    def run(self: static_rows._Static) -> int:
        try:
            return inner_run(self)
        finally:
            if ON_GPU:
                torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(static_rows._Static, "choose", choose)
    monkeypatch.setattr(static_rows._Static, "run", run)
    for one in (made.experts[0], SideBySide(made.experts, WEIGHTS_WM), HiddenState().blend(made.experts, WEIGHTS_WM)):
        for sampling in (GREEDY, SAMPLED):
            one.generate(PROMPTS, sampling, stream(0))
    assert made.backbone.device.type == DEVICE.type
