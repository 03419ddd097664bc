"""The embedded task for measurements: its base model, its scorers, and experts trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from benchmarks.models import Setting, endless_bank
from emorl_bench.assets.shipped import asset_dir
from emorl_bench.config import schema
from emorl_bench.config.compose import VERSION_BASE, conf_dir
from emorl_bench.core.protocols import Bench, Policy
from emorl_bench.core.types import Example
from emorl_bench.offline.fetching import cache_root
from emorl_bench.rl.experts import expert_bank
from emorl_bench.runner.bench import Workbench
from emorl_bench.runner.job import resolve
from emorl_bench.tracking.silent import Silent

MODEL, PROMPTS, NEW_TOKENS, LONGEST = "tiny_t5", 16, 64, 128
EXPERT_STEPS, BATCH, SAMPLES = 48, 16, 4


def embedded_bench(directory: Path, overrides: Sequence[str]) -> Bench:
    """The bench of method=emorl on the embedded task.

    Args:
        directory: where runs and experts go.
        overrides: Hydra overrides on top of budget=short.
    """
    threads = torch.get_num_threads()
    schema.register()
    GlobalHydra.instance().clear()
    fixed = [f"model={MODEL}", "tracker=local", f"runs_dir={directory}", "hardware=cpu", f"hardware.threads={threads}"]
    with initialize_config_dir(str(conf_dir()), version_base=VERSION_BASE):
        config = compose("config", overrides=["budget=short", *fixed, *overrides])
    settings = resolve(config, {"task": "reflections", "model": MODEL, "method": "emorl"})
    return Workbench.build(settings, directory, Silent()).bench


def trained_experts() -> tuple[Bench, list[Policy]]:
    """Three trained experts and their bench. They are kept in the cache, because their training takes a minute."""
    directory = cache_root() / "benchmarks"
    directory.mkdir(parents=True, exist_ok=True)
    bench = embedded_bench(directory, ["budget.prompts=null", f"budget.samples={3 * EXPERT_STEPS * BATCH * SAMPLES}"])
    return bench, expert_bank(bench)


def trained_setting(dtype: torch.dtype, device: torch.device) -> Setting:
    """The trained experts on a model whose answers do not end."""
    bench, trained = trained_experts()
    path = asset_dir(f"reflections/{MODEL}")

    def new_model() -> Any:
        return (
            AutoModelForSeq2SeqLM.from_pretrained(path, dtype=dtype, use_safetensors=True, trust_remote_code=False)
            .to(device)
            .eval()
        )

    bank = endless_bank(
        new_model(), AutoTokenizer.from_pretrained(path, trust_remote_code=False), "seq2seq", LONGEST, device
    )
    experts = [bank.new_policy(policy.name) for policy in trained]
    for mine, policy in zip(experts, trained, strict=True):
        mine.load_adapter(policy.adapter())

    pool = list({e.prompt: e for e in [*bench.select, *bench.train]}.values())

    def draw(call: int, times: int) -> list[Example]:
        first = call * PROMPTS % (len(pool) - PROMPTS * times)  # new prompts, because the decoder remembers answers
        return pool[first : first + PROMPTS * times]

    return Setting("embedded", new_model, bank, experts, NEW_TOKENS, draw)
