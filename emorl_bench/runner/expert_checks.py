"""Is the embedded task an experiment? Each objective can be learned alone, and at the expense of another."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from emorl_bench.assets.diagnostics import Check
from emorl_bench.core.applicable import mean_scores
from emorl_bench.core.protocols import Bench, Generator
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Example, Sampling
from emorl_bench.rl.experts import expert_bank
from emorl_bench.runner import schema
from emorl_bench.runner.bench import Config, Workbench
from emorl_bench.runner.compose import VERSION_BASE, conf_dir
from emorl_bench.runner.job import resolve
from emorl_bench.tracking.silent import Silent

LEARNED = 0.85  # what an expert must reach on its own objective
BUDGET = ("budget=short", "budget.prompts=2688")  # 48 steps an expert and 4 validations, nothing kept for a search


def expert_checks(model: str) -> list[Check]:
    """Train the three experts of one base model and grade them, and the base, greedily on the report split."""
    with tempfile.TemporaryDirectory() as directory:
        workbench = Workbench.build(_configuration(model, directory), Path(directory), Silent())
        bench, report = workbench.bench, workbench.grader.report
        base_K = _means(bench, workbench.grader.reference, report)
        expert_KK = torch.stack([_means(bench, expert, report) for expert in expert_bank(bench)])
    checks = []
    for k, objective in enumerate(bench.objectives):
        checks.append(Check(f"{model}: {objective} expert on its own objective", expert_KK[k, k].item(), low=LEARNED))
    others_KK = (expert_KK - base_K).fill_diagonal_(1.0)
    checks.append(Check(f"{model}: worst change of another objective", others_KK.min().item(), low=-1.0, high=-0.05))
    return checks


def _configuration(model: str, directory: str) -> Config:
    schema.register()
    GlobalHydra.instance().clear()
    overrides = [*BUDGET, f"model={model}", "tracker=local", f"runs_dir={directory}", "hardware=cpu"]
    with initialize_config_dir(str(conf_dir()), version_base=VERSION_BASE):
        config = compose("config", overrides=overrides)
    return resolve(config, {"task": "reflections", "model": model, "method": "emorl"})


def _means(bench: Bench, policy: Generator, examples: Sequence[Example]) -> torch.Tensor:
    rollout = policy.generate(examples, Sampling(bench.sampling.max_new_tokens, 0.0), stream(0))
    return mean_scores(bench.score(rollout))
