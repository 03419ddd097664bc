"""Training: a GRPO-type step beside TRL's, three experts together beside one after the other, and a profile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.benches import WordShare
from benchmarks.gpu.choices import as_runs_decode
from benchmarks.gpu.kit import Kit, Number
from benchmarks.gpu.launches import Profile, profiled
from benchmarks.models import SHAPES, Setting, Shape, micro, random_setting, word_prompts
from benchmarks.record import Options
from benchmarks.timing import Side, interleaved, timed
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Rollout, Sampling
from emorl_bench.decoding.stepping import Start, stepping
from emorl_bench.policies.together import generate_together
from emorl_bench.rl.grpo import Grpo
from emorl_bench.rl.update import Updater

SHAPE = "smollm2_135m"
ROWS = (24, 64, 8, 256)  # rows of each expert; the most informative number first
SAMPLES = 4  # samples of each prompt
RULE = Grpo(learning_rate=1e-4, kl_coefficient=0.0, epochs=1)
REWARD = WordShare("even", 0, 2)
PROFILED_ROWS, STEPS = 64, 64
PROMPT_TOKENS = (16, 32)


def measure_training(kit: Kit) -> None:
    """Run the comparisons and the profile, as far as the time allows."""
    if kit.wants("a step beside TRL's", "training/grpo_step"):
        with kit.attempt("a step beside TRL's", "training/grpo_step"):
            compare_with_trl(kit)
    setting = random_setting(sized(kit, 8), dtype=kit.settings.dtype, device=kit.device)
    as_runs_decode(setting.bank.decoder)
    slowest = 0.0
    for rows in (8,) if kit.settings.quick else ROWS:
        step = f"training/three_experts/{rows}_rows"
        if kit.wants(f"three experts, {rows} rows each", step, 1.5 * slowest):
            started = time.monotonic()
            with kit.attempt(f"three experts, {rows} rows each", step):
                compare_experts(kit, ThreeExperts(resized(kit, setting, rows)), rows)
            slowest = max(slowest, time.monotonic() - started)
    if kit.wants("profile", "training/profile"):
        with kit.attempt("profile", "training/profile"):
            profile(kit, setting)


def sized(kit: Kit, rows: int) -> Shape:
    """The shape with as many prompts as make ``rows`` rows."""
    shape = micro(SHAPES[SHAPE]) if kit.settings.quick else replace(SHAPES[SHAPE], prompt_tokens=PROMPT_TOKENS)
    return replace(shape, prompts=max(rows // SAMPLES, 1))


def resized(kit: Kit, setting: Setting, rows: int) -> Setting:
    """The same model and experts with as many prompts as make ``rows`` rows."""
    shape = sized(kit, rows)
    return replace(setting, draw=lambda call, times: word_prompts(shape, call, times))


def compare_with_trl(kit: Kit) -> None:
    """Time rollout, reward and update of one policy, through the calls that a run makes, in TRL's own loop."""
    try:
        from benchmarks.trl_step import step_times
    except ModuleNotFoundError as missing:
        kit.skip("a step beside TRL's", f"{missing}; it needs trl>=1.16,<1.17 and datasets")
        return
    given = Options("gpu", 1, kit.settings.repeats, Path(), kit.settings.quick, kit.device, kit.settings.dtype, {})
    times = step_times(micro(SHAPES[SHAPE]) if kit.settings.quick else SHAPES[SHAPE], given)
    ours, theirs = times.timings["ours"], times.timings["TRL"]
    about = f"{times.settings['shape']}, {times.settings['prompts']} prompts of {times.settings['group']} samples"
    tokens = {"tokens": times.tokens["ours"]}
    step = "one GRPO-type step of"
    kit.number(
        "training/grpo_step/ours",
        Number("training", f"{step} ours, {about}", ours.median, "s", None, "", tokens, ours.raw),
    )
    kit.number(
        "training/grpo_step/trl",
        Number(
            "training", f"{step} TRL's, {about}", theirs.median, "s",
            theirs.median / ours.median, "TRL over ours, time", tokens, theirs.raw,
        ),
    )  # fmt: skip


@dataclass
class ThreeExperts:
    """Three policies that sample and learn, from the same initial adapters and the same prompts."""

    setting: Setting

    @cached_property
    def rollouts(self) -> list[Rollout]:
        """Rollouts that updates learn from, sampled once."""
        return self.roll(True)()

    def roll(self, together: bool) -> Callable[[], list[Rollout]]:
        """A function that samples, together or one after the other."""
        setting, prompts = self.setting, self.setting.prompts()
        sampling = Sampling(setting.new_tokens, 1.0, samples_per_prompt=SAMPLES)
        rngs = [stream(i, "rollout") for i in range(len(setting.experts))]
        if together:
            return lambda: generate_together(setting.experts, prompts, sampling, rngs)
        alone = list(zip(setting.experts, rngs, strict=True))
        return lambda: [policy.generate(prompts, sampling, rng) for policy, rng in alone]

    def update(self, together: bool) -> Callable[[], object]:
        """A function that updates fresh learners on the same rollouts.

        The adapters are not put back between updates, because that does not change the speed.
        """
        ledger, experts = self.setting.bank.decoder.ledger, self.setting.experts
        learners = [RULE.learner(policy, ledger) for policy in experts]
        rewards: list[Tensor] = [torch.tensor(REWARD.of_texts(rollout.responses)) for rollout in self.rollouts]
        rngs = [stream(i, "update") for i in range(len(experts))]
        updater = Updater(ledger, joint=together)
        return lambda: updater.update(learners, self.rollouts, rewards, rngs)


def compare_experts(kit: Kit, three: ThreeExperts, rows: int) -> None:
    """Time rollouts and updates together and one after the other."""
    device = three.setting.backbone.device
    sides: dict[str, Side] = {}
    for how, together in (("together", True), ("in turn", False)):
        sides[f"rollout {how}"] = timed(lambda together=together: three.roll(together), device)  # type: ignore[misc]
        sides[f"update {how}"] = timed(lambda together=together: three.update(together), device)  # type: ignore[misc]
    for side in sides.values():
        side()  # in the first call libraries choose their kernels
    timings = interleaved(f"three experts, {rows} rows each", sides, kit.settings.repeats)
    for step in ("rollout", "update"):
        apart, joint = timings[f"{step} in turn"], timings[f"{step} together"]
        number = Number(
            "training", f"{step} of three experts, {rows} rows each, together", joint.median, "s",
            apart.median / joint.median, "in turn over together, time", {"in_turn_s": apart.median}, joint.raw,
        )  # fmt: skip
        kit.number(f"training/three_experts/{rows}_rows/{step}", number)


def profile(kit: Kit, setting: Setting) -> None:
    """Profile one decode step and one update of one expert."""
    rows = 8 if kit.settings.quick else PROFILED_ROWS
    three = ThreeExperts(resized(kit, setting, rows))
    with torch.inference_mode(), decode_step(three.setting) as step:
        add(kit, "decode_step", f"one decode step, {rows} rows", profiled(step, kit.device))
    one = ThreeExperts(replace(three.setting, experts=three.setting.experts[:1]))
    add(kit, "update", f"one update, {rows} rows", profiled(one.update(True), kit.device))


@contextmanager
def decode_step(setting: Setting) -> Iterator[Callable[[], object]]:
    """A function that feeds each row a token and chooses the next, as the decode loop does; prompts are read before."""
    backbone, expert = setting.backbone, setting.experts[0]
    prompts = [backbone.prompt_ids(e.context) for e in setting.prompts(SAMPLES)]
    tokens_R = torch.full((len(prompts),), 5, device=backbone.device)
    with stepping(backbone, expert.decoder.fused, Start(prompts, expert.adapters, None, STEPS), None) as stepper:
        stepper.first()
        yield lambda: backbone.head(stepper.step(tokens_R)[0]).argmax(-1)


def add(kit: Kit, key: str, what: str, found: Profile) -> None:
    """Record a profile as a figure and a table."""
    facts = {"device_ms": found.device_ms, "kernels": found.kernels, "operators": found.operators}
    share = found.device_ms / found.host_ms if found.device_ms else None
    over = "" if share is None else "device busy over wall time"
    kit.number(
        f"training/profile/{key}",
        Number("training", f"{what}, wall time", found.host_ms, "ms", share, over, facts, found.raw),
    )
    kit.tables[f"Where the time of {what} goes"] = list(found.top)
