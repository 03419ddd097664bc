"""Attention: eager, sdpa and flash_attention_2 on prompts of unequal lengths, which are padded on the left.

Attention of transformers is used where a policy is trained and where prompts are read; the fused step has its own.
So what is compared is a pass of training: its log-probabilities, beside eager's, and its time, forward and backward.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec

import torch
from torch import Tensor

from benchmarks.gpu.kit import Kit, Number
from benchmarks.models import SHAPES, Setting, Shape, micro, random_setting
from benchmarks.timing import interleaved, timed
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Rollout, Sampling

SHAPE, ROWS = "smollm2_135m", 64
FIRST = "eager"  # what the others are compared with
FLASH = "flash_attention_2"
BOUNDS = {torch.float32: 1e-4, torch.bfloat16: 0.05}  # nats a token, on average


def measure_attention(kit: Kit) -> None:
    """Compare the implementations in float32 and in bfloat16."""
    for dtype, bound in BOUNDS.items():
        name = str(dtype).removeprefix("torch.")
        if kit.wants(name, f"attention/{name}"):
            with kit.attempt(name, f"attention/{name}"):
                compare(kit, dtype, bound)


def available(kit: Kit, dtype: torch.dtype) -> list[str]:
    """The implementations that can run here; what cannot is recorded."""
    why = ""
    if find_spec("flash_attn") is None:
        why = "the package flash-attn is not installed"
    elif kit.device.type != "cuda":
        why = "it needs a GPU"
    elif dtype == torch.float32:
        why = "it has no float32"
    if why:
        kit.skip(f"{FLASH}, {str(dtype).removeprefix('torch.')}", why)
    return [FIRST, "sdpa", *([] if why else [FLASH])]


def compare(kit: Kit, dtype: torch.dtype, bound: float) -> None:
    """Time all implementations in turns, and fail where one gives other log-probabilities than eager attention."""
    shape: Shape = micro(SHAPES[SHAPE]) if kit.settings.quick else replace(SHAPES[SHAPE], prompts=ROWS)
    setting, kinds = random_setting(shape, experts=1, dtype=dtype, device=kit.device), available(kit, dtype)
    setting.bank.decoder.ledger.flops_every = 0
    sampling = Sampling(shape.new_tokens, 1.0)
    rollout = setting.experts[0].generate(setting.prompts(), sampling, stream(0, "attention"))
    lengths = setting.prompt_lengths()
    assert min(lengths) < max(lengths), "prompts of equal lengths need no padding"
    found: dict[str, Tensor] = {}
    for kind in kinds:
        with using(setting, kind), torch.no_grad():
            found[kind] = setting.experts[0].logprobs(rollout).float()
        passed(setting, kind, rollout)()  # in the first call libraries choose their kernels
    sides = {kind: timed(lambda kind=kind: passed(setting, kind, rollout), kit.device) for kind in kinds}  # type: ignore[misc]
    name = str(dtype).removeprefix("torch.")
    timings = interleaved(f"attention, {name}", sides, kit.settings.repeats)
    for kind in kinds:
        gap_BT = (found[kind] - found[FIRST]).abs()[rollout.response_mask_BT]
        facts = {"mean_gap_nats": float(gap_BT.mean()), "largest_gap_nats": float(gap_BT.max())}
        what = f"{shape.name}, {len(lengths)} rows, {name}, {kind}: forward and backward"
        ratio = timings[kind].median / timings[FIRST].median
        number = Number("attention", what, timings[kind].median, "s", ratio, "over eager", facts, timings[kind].raw)
        kit.number(f"attention/{name}/{kind}", number)
        if not facts["mean_gap_nats"] <= bound:
            kit.fail(f"{kind} in {name}", f"{facts['mean_gap_nats']:.3g} nats a token from eager, more than {bound:g}")


@contextmanager
def using(setting: Setting, kind: str) -> Iterator[None]:
    """Let the model of a setting use an implementation, and afterwards its own again."""
    model = setting.backbone.model
    own = model.config._attn_implementation
    model.set_attn_implementation(kind)
    try:
        yield
    finally:
        model.set_attn_implementation(own)


def passed(setting: Setting, kind: str, rollout: Rollout) -> Callable[[], object]:
    """A pass of training over a rollout: log-probabilities and their gradients."""
    policy = setting.experts[0]

    def act() -> None:
        with using(setting, kind):
            policy.logprobs(rollout).sum().backward()  # type: ignore[no-untyped-call]
        for parameter in policy.parameters():
            parameter.grad = None

    return act
