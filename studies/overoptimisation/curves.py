"""Curves of gold and proxy against KL: best-of-n by order statistics, and snapshots of trained policies."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from emorl_bench.config import schema
from emorl_bench.config.compose import VERSION_BASE, conf_dir
from emorl_bench.core.protocols import Sampler
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Example, Rollout, Sampling
from emorl_bench.indicators.best_of_n import best_of_n_kl, expected_best
from emorl_bench.policies.peft_io import WEIGHTS
from emorl_bench.rl.kl import kl_to_reference
from emorl_bench.runner import fingerprints, job
from emorl_bench.runner.bench import Workbench
from emorl_bench.runner.directory import RunDirectory
from emorl_bench.scorer_training.proxies import size
from emorl_bench.scorers.proxy import Proxy
from emorl_bench.tracking.silent import Silent
from studies.overoptimisation.snapshots import place

Floats = NDArray[np.float64]
NAMES = {"task": "proxy_reflections", "model": "tiny_t5", "method": "snapshots"}
CONF = Path(__file__).with_name("conf")  # the experiment, and the method that only this study needs
SAMPLES = 4  # samples of each report prompt, to grade a snapshot


@dataclass(frozen=True)
class Variant:
    """One way to make a reward of proxies. With one member it is the single proxy, whatever the form.

    Attributes:
        members: the number of proxies.
        shared: whether the members share one encoder.
        statistic: how the members' rewards become one reward.
        width: of every encoder; None is the configured one.
    """

    members: int
    shared: bool
    statistic: str
    width: int | None = None

    @property
    def form(self) -> str:
        """What is built: variants of one form have the same members, and differ in the statistic."""
        if self.members == 1:
            return "single" if self.width is None else "single, large"
        return ("full", "shared")[self.shared]

    def __str__(self) -> str:
        """The name in tables."""
        if self.members == 1:
            return self.form
        return f"{self.statistic} of {self.members}, {'shared' if self.shared else 'full'}"

    def overrides(self, noise: float) -> list[str]:
        """Hydra overrides that make this proxy with a share of wrong labels."""
        chosen = {"members": self.members, "shared": str(self.shared).lower(), "statistic": self.statistic}
        if self.width is not None:
            chosen["width"] = self.width
        return [f"task.scorers.proxy.{k}={v}" for k, v in (chosen | {"label_noise": noise}).items()]


@dataclass(frozen=True)
class Curve:
    """One variant under one seed: J points of growing pressure, gold by prompt.

    Attributes:
        kind: "bon" is best-of-n, "rl" is training.
        noise: the share of wrong labels.
        variant: how the proxy is made.
        seed: the seed of labels, proxies and policies.
        pressure: n, or training steps, of each point.
        kl_J: KL to the base in nats for a sequence.
        proxy_J: the mean proxy score.
        gold_PJ: the gold score of each prompt.
    """

    kind: str
    noise: float
    variant: Variant
    seed: int
    pressure: Sequence[int]
    kl_J: Floats
    proxy_J: Floats
    gold_PJ: Floats

    def as_dict(self) -> dict[str, Any]:
        """The curve as it is recorded."""
        return {
            "kind": self.kind,
            "noise": self.noise,
            "variant": str(self.variant),
            "seed": self.seed,
            "n" if self.kind == "bon" else "steps": list(self.pressure),
            "kl": self.kl_J.tolist(),
            "proxy": self.proxy_J.tolist(),
            "gold": self.gold_PJ.mean(0).tolist(),
        }


@dataclass(frozen=True)
class Candidates:
    """Samples of the base model for one seed, N of each prompt, and their gold scores."""

    rollout: Rollout
    gold_PN: Floats
    seed: int

    @classmethod
    def drawn(cls, prompts: int, samples: int, seed: int) -> Candidates:
        """Sample the candidates, and grade them by gold."""
        workbench = _workbench(settings(["task.scorers.proxy.members=1", f"budget.report_prompts={prompts}"], seed))
        grader = workbench.grader
        rollout = grader.reference.generate(
            grader.report, Sampling(grader.sampling.max_new_tokens, 1.0, samples), stream(seed, "candidates")
        )
        return cls(rollout, grader.held_out.score(rollout).view(-1, samples).double().numpy(), seed)

    def rewards(self, proxy: Proxy) -> Tensor:
        """(B, members): the rewards of every member, which are the same for every statistic."""
        return proxy.rewards(self.rollout.examples, self.rollout.responses)

    def curve(self, proxy: Proxy, rewards_BM: Tensor, noise: float, variant: Variant, sizes: Sequence[int]) -> Curve:
        """The expected gold and proxy of best-of-n, over all subsets of the candidates.

        Args:
            proxy: it merges its members' rewards.
            rewards_BM: what `rewards` gave.
            noise: the share of wrong labels.
            variant: how the proxy is made.
            sizes: the values of n.
        """
        score_B = proxy.merged(rewards_BM, self.rollout.responses)
        score_PN = score_B.view(len(self.gold_PN), -1).double().numpy()
        gold_PJ = expected_best(score_PN, self.gold_PN, sizes)
        proxy_J = expected_best(score_PN, score_PN, sizes).mean(0)
        kl_J = np.array([best_of_n_kl(n) for n in sizes])
        return Curve("bon", noise, variant, self.seed, sizes, kl_J, proxy_J, gold_PJ)


def settings(overrides: Sequence[str], seed: int) -> dict[str, Any]:
    """The plain configuration of experiment=overoptimisation with some changes."""
    return job.resolve(_composed(overrides, seed), NAMES)


def width_of(parameters: float) -> int:
    """The smallest width of a single proxy with at least so many parameters."""
    return next(width for width in itertools.count(2) if size(width) >= parameters)


def proxy_of(variant: Variant, noise: float, seed: int, changes: Sequence[str]) -> Proxy:
    """The proxy of a variant, trained unless it is in the cache."""
    task = fingerprints.build_task(settings([*variant.overrides(noise), *changes], seed))
    proxy = task.scorers["proxy"]
    assert isinstance(proxy, Proxy)
    proxy.prepare()
    return proxy


def trained(variant: Variant, noise: float, seed: int, changes: Sequence[str]) -> Curve:
    """The curve of one training; its snapshots are graded on the report prompts.

    The training is run unless it was run before.
    """
    lines = [*variant.overrides(noise), *changes]
    composed = _composed(lines, seed)
    job.run(composed, lines, NAMES)
    config = job.resolve(composed, NAMES)
    directory = RunDirectory(config, fingerprints.fingerprint(config)).path
    workbench = _workbench(config)
    policy = workbench.bench.new_policy("policy")
    steps = [step for step in sorted(config["method"]["keep"]) if place(directory, step).is_dir()]
    points = []
    for step in steps:
        policy.load_adapter(load_file(place(directory, step) / WEIGHTS))
        points.append(_graded(workbench, policy, seed))
    kl, proxy, gold_P = zip(*points, strict=True)
    return Curve("rl", noise, variant, seed, steps, np.array(kl), np.array(proxy), np.stack(gold_P, axis=1))


def _graded(workbench: Workbench, policy: Sampler, seed: int) -> tuple[float, float, Floats]:
    """The grades of one snapshot on sampled answers, with the same random numbers for all snapshots.

    Returns:
        KL in nats for a sequence, the mean proxy score, and gold (P,) by prompt.
    """
    grader = workbench.grader
    sampling = Sampling(grader.sampling.max_new_tokens, grader.sampling.temperature, SAMPLES)
    rollout = policy.generate(grader.report, sampling, stream(seed, "snapshots"))
    gold_P = grader.held_out.score(rollout).view(-1, SAMPLES).mean(1).double().numpy()
    return kl_to_reference(rollout, grader.reference), grader.panel.score(rollout).mean().item(), gold_P


def scoring_seconds(proxy: Proxy, examples: Sequence[Example], responses: Sequence[str], repeats: int = 2) -> float:
    """CPU seconds to score some tokenised texts, the fastest of ``repeats`` rounds."""
    proxy.rewards(examples, responses)
    rounds = []
    for _ in range(repeats):
        started = time.process_time()
        proxy.rewards(examples, responses)
        rounds.append(time.process_time() - started)
    return min(rounds)


def _composed(overrides: Sequence[str], seed: int) -> Any:
    schema.register()
    GlobalHydra.instance().clear()
    threads = torch.get_num_threads()
    fixed = [f"hydra.searchpath=[file://{CONF}]", "experiment=overoptimisation", "tracker=local"]
    fixed += ["hardware=cpu", f"hardware.threads={threads}"]
    with initialize_config_dir(str(conf_dir()), version_base=VERSION_BASE):
        return compose("config", overrides=[*fixed, f"seed={seed}", *overrides])


def _workbench(config: Mapping[str, Any]) -> Workbench:
    """A workbench that only grades; it counts no operations, because counting takes as long as the operations."""
    workbench = Workbench.build(config, Path(config["runs_dir"]), Silent())
    workbench.bench.ledger.flops_every = 0
    return workbench
