"""Decoding without waiting for the device: the same answers however seldom ends are looked for, and no hidden wait."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import make_bank, shaken, word_prompts
from support.families import FUSED
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from emorl_bench.core.ledger import Ledger
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Sampling
from emorl_bench.decoding import static_rows
from emorl_bench.decoding.decode import Decoder
from emorl_bench.decoding.stepping import Start, static_stepper, stepping
from emorl_bench.ensemble.blending import HiddenState, Probabilities
from emorl_bench.ensemble.merging import SideBySide
from emorl_bench.models.causal import CausalBackbone
from emorl_bench.models.lora import AdapterSettings
from emorl_bench.policies.adapter_policy import AdapterBank

STEPS = 24
GREEDY, SAMPLED = Sampling(STEPS, 0.0), Sampling(STEPS, 1.0, samples_per_prompt=3)
PROMPTS = word_prompts(6)


def same(mine, theirs) -> None:
    assert mine.responses == theirs.responses
    assert torch.equal(mine.response_mask_BT, theirs.response_mask_BT)
    assert torch.equal(mine.response_ids_BT, theirs.response_ids_BT)
    torch.testing.assert_close(mine.logprobs_BT, theirs.logprobs_BT, atol=1e-9, rtol=0, equal_nan=True)


def every_kind(bank, sampling):
    """Answers of one policy, of the base, of merges and of two kinds of blends."""
    trio = [shaken(bank, seed) for seed in (1, 2, 3)]
    weights_WM = torch.rand(4, 3, generator=stream(5), dtype=torch.float64)
    asked = [trio[0], trio[0].reference(), SideBySide(trio, weights_WM)]
    asked += [kind().blend(trio, weights_WM) for kind in (HiddenState, Probabilities)]
    return [one.generate(PROMPTS, sampling, stream(0)) for one in asked]


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_answers_are_equal_however_seldom_ends_are_looked_for(architecture, sampling):
    found = {}
    for every in (1, 2, 7, 100):
        bank = make_bank(architecture, dtype=torch.float64)
        bank.decoder.check_every = every
        found[every] = every_kind(bank, sampling)
    for every in (2, 7, 100):
        for mine, theirs in zip(found[every], found[1], strict=True):
            same(mine, theirs)
    lengths = {n for rollout in found[1] for n in rollout.response_mask_BT.sum(1).tolist()}
    assert len(lengths) > 3 or (architecture, sampling) == ("t5", GREEDY)  # answers end at many places


@pytest.mark.parametrize("family", ["qwen3", "smollm3", "gemma", "phi4"])
def test_families_with_steps_of_their_own(family):
    torch.manual_seed(0)
    model = FUSED[family]().double()
    from conftest import word_tokenizer

    backbone = CausalBackbone(model, word_tokenizer(), AdapterSettings(rank=4, alpha=8.0), 64)
    rollouts = []
    for every in (1, 5):
        decoder = Decoder(backbone, Ledger(), check_every=every)
        assert decoder.fused is not None
        rollouts.append(shaken(AdapterBank(decoder, seed=0), 1).generate(PROMPTS, SAMPLED, stream(0)))
    same(*rollouts)


def test_blends_whose_answers_are_known_in_part(architecture):
    """The second front begins with what follows from the first; nothing of it is chosen anew."""
    found = []
    for every in (1, 5):
        bank = make_bank(architecture, dtype=torch.float64)
        bank.decoder.check_every = every
        trio = [shaken(bank, seed) for seed in (1, 2, 3)]
        first, second = (torch.rand(6, 3, generator=stream(n), dtype=torch.float64) for n in (1, 2))
        HiddenState().blend(trio, first).generate(PROMPTS, GREEDY, stream(0))
        found.append(HiddenState().blend(trio, second).generate(PROMPTS, GREEDY, stream(0)))
    same(*found)


def test_large_decodes_keep_sharing_rows(monkeypatch):
    bank = make_bank("llama", dtype=torch.float64)
    bank.decoder.check_every = 5
    calls = []
    inner = static_rows._Static.run
    monkeypatch.setattr(static_rows._Static, "run", lambda self: (calls.append(1), inner(self))[1])
    monkeypatch.setattr("emorl_bench.decoding.decode.STATIC_ROWS", 17)
    policy = shaken(bank, 1)
    policy.generate(PROMPTS, Sampling(4, 1.0, 2), stream(0))
    assert len(calls) == 1
    policy.generate(PROMPTS, Sampling(4, 1.0, 3), stream(0))
    assert len(calls) == 1


def test_the_cost_counts_rows_that_are_fed_on():
    """One prompt whose answers end at known places: rows are dropped when half of them have ended."""
    fed = {}
    for every in (1, 4, 100):
        bank = make_bank("llama", dtype=torch.float64)
        bank.decoder.check_every = every
        rollout = shaken(bank, 1).generate(PROMPTS[:1], Sampling(STEPS, 1.0, 8), stream(0))
        fed[every] = bank.decoder.ledger.current.decoded_tokens
        assert bank.decoder.ledger.current.generated_tokens == rollout.tokens
    lengths = rollout.response_mask_BT.sum(1)
    expected, rows, kept = 1, 8, lengths
    for t in range(STEPS - 1):
        if t % 4 == 0:
            going = kept > t + 1
            if 2 * int(going.sum()) <= rows:
                kept, rows = kept[going], int(going.sum())
            if not rows:
                break
        expected += rows
    assert fed[4] == expected
    assert fed[100] == 1 + 8 * (STEPS - 1)
    assert fed[1] <= fed[4] <= fed[100]


class Waits(TorchDispatchMode):
    """Notes each operation that a GPU would have to answer before the host can go on."""

    NAMES = ("_local_scalar_dense", "nonzero", "_unique", "unique_", "masked_select", "bincount", "is_nonzero", "equal")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__
        masks = [x for x in tree_leaves(args[1:]) if isinstance(x, torch.Tensor) and x.dtype == torch.bool]
        by_mask = name.startswith(("index.", "index_put", "_index_put")) and masks and len(args) > 1
        # `where` copies a number to the device, and so does what moves a tensor that is not there.
        numbers = name.startswith("where") and (
            "Scalar" in name or any(isinstance(x, torch.Tensor) and not x.dim() for x in args)
        )
        if numbers or name.startswith(self.NAMES) or (by_mask and not _mask_is_value(name, args)):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def _mask_is_value(name: str, args: Any) -> bool:
    """``x[index] = mask`` puts booleans at given places, which needs no answer."""
    indices = [x for x in args[1] if isinstance(x, torch.Tensor)]
    return "put" in name and all(x.dtype != torch.bool for x in indices)


@pytest.mark.parametrize("kind", ["policy", "merges", "blend"])
@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_no_step_between_two_checks_waits_for_the_device(architecture, kind, sampling, monkeypatch):
    bank = make_bank(architecture)
    bank.decoder.check_every = 100  # the only check is at the first token
    trio = [shaken(bank, seed) for seed in (1, 2, 3)]
    weights_WM = torch.rand(2, 3, generator=stream(5))
    asked = {"policy": trio[0], "merges": SideBySide(trio, weights_WM), "blend": HiddenState().blend(trio, weights_WM)}
    waits, counted = Waits(), []
    inner_choose, inner_check = static_rows._Static.choose, static_rows._Static.check

    def choose(self, hidden_NRH, t):
        if t == 1:
            waits.__enter__()
        return inner_choose(self, hidden_NRH, t)

    def next_tokens(*given):
        counted.append(1)
        if len(counted) == STEPS:
            waits.__exit__(None, None, None)
        return inner_next(*given)

    inner_next = bank.decoder.next_tokens
    monkeypatch.setattr(static_rows._Static, "choose", choose)
    monkeypatch.setattr(bank.decoder, "next_tokens", next_tokens)
    asked[kind].generate(PROMPTS, sampling, stream(0))
    assert len(counted) == STEPS
    assert not waits.found
    assert inner_check is static_rows._Static.check


def test_the_detector_sees_the_waits_of_the_other_loop():
    bank = make_bank("llama")
    with Waits() as waits:
        shaken(bank, 1).generate(PROMPTS, SAMPLED, stream(0))
    assert {"_local_scalar_dense.default", "nonzero.default"} <= set(waits.found)
    with Waits() as waits:
        x = torch.arange(4.0)
        x[x > 1] = x[x > 2].sum()
    assert len(waits.found) >= 2
    with Waits() as waits, torch.inference_mode():
        torch.where(torch.tensor([True, False]), torch.tensor([1, 2]), 0)
    assert waits.found
    with Waits() as waits:
        y = torch.zeros(4, dtype=torch.bool)
        y[torch.tensor([1, 2])] = torch.tensor([True, False])
    assert not waits.found


def test_a_static_cache_gives_the_states_of_the_growing_one_bit_for_bit(architecture):
    for dtype in (torch.float32, torch.float64):
        bank = make_bank(architecture, dtype=dtype)
        policy = shaken(bank, 1)
        backbone, fused = bank.backbone, bank.decoder.fused
        start = Start([backbone.prompt_ids(e.context) for e in PROMPTS], policy.adapters, None, STEPS)
        tokens = torch.randint(4, 40, (STEPS - 1, len(PROMPTS)), generator=stream(3))
        with torch.inference_mode():
            with stepping(backbone, fused, start, None) as stepper:
                growing = [stepper.first(), *(stepper.step(token_R) for token_R in tokens)]
            static = static_stepper(backbone, fused, start, None, None)
            found = [static.first()]
            for t, token_R in enumerate(tokens):
                static.rows.reserve(t + 2)
                found.append(static.step(token_R))
            whole = static_stepper(backbone, fused, start, None, None)
            whole.rows.reserve(STEPS)
            ahead = [whole.first(), *(whole.step(token_R) for token_R in tokens)]
        for one, other, early in zip(growing, found, ahead, strict=True):
            assert torch.equal(one, other)
            torch.testing.assert_close(one, early, atol=1e-5 if dtype == torch.float32 else 1e-12, rtol=0)
