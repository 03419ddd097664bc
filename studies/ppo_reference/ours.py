"""Our half: it writes what both halves start from (``exchange/``) and our learning curves (``ours.json``).

``exchange/`` has the set-up and one adapter for each seed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from benchmarks.timing import say
from emorl_bench.config import schema
from emorl_bench.config.compose import VERSION_BASE, conf_dir
from emorl_bench.core.atomic import write_json
from emorl_bench.core.errors import UserError
from emorl_bench.policies.together import on_one_base
from emorl_bench.rl.loop import train
from emorl_bench.rl.weighting import fixed_weights
from emorl_bench.runner import job
from emorl_bench.runner.bench import Workbench
from emorl_bench.runner.fingerprints import fingerprint
from emorl_bench.runner.provenance import provenance

EXCHANGE = "exchange"  # a directory within the results, for what both halves start from; it is not committed
SAME = [  # settings that TRL's trainer does not have are off
    "method=weighted_ppo",
    "tracker=local",
    "hardware=cpu",
    "update.clip_norm=1e9",
    "update.ratio_limit=null",
    "update.weight_decay=0.0",
    "budget=short",
    "budget.training.variation=0.0",
    "budget.training.samples_per_prompt=1",
    "budget.select_prompts=1",
    "budget.report_prompts=1",
    "budget.training.validate_every=1000",
    "budget.training.checkpoint_every=1000",
]


@dataclass
class Memory:
    """A tracker that keeps rows."""

    rows: list[dict[str, float]] = field(default_factory=list)

    def log(self, metrics: Any, *, step: int) -> None:
        """See `core.protocols.Tracker.log`."""
        self.rows.append({"step": step, **metrics})

    def table(self, name: str, rows: Any) -> None:
        """See `core.protocols.Tracker.table`; nothing is kept."""

    def close(self, status: str) -> None:
        """See `core.protocols.Tracker.close`; there is nothing to close."""


def main(argv: Sequence[str] | None = None) -> None:
    """Train with every seed, and write the curves.

    Raises:
        UserError: the model is not decoder-only, or a setting is wrong.
    """
    given = parser(__doc__).parse_args(argv)
    (given.dir / EXCHANGE).mkdir(parents=True, exist_ok=True)
    seeds = [int(seed) for seed in given.seeds.split(",")]
    curves: dict[str, dict[str, list[float]]] = {}
    for seed in seeds:
        say(f"ours: seed {seed}")
        curves[str(seed)] = curve(given, seed, first=seed == seeds[0])
    told = json.loads((given.dir / EXCHANGE / "setup.json").read_text())
    kept = {key: value for key, value in told.items() if key not in ("train", "task")}
    write_json(given.dir / "ours.json", {"side": "ours", "setup": kept, "curves": curves})
    say(f"wrote {given.dir}/ours.json, and in {EXCHANGE} what TRL's half starts from")


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The options of this half."""
    made = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    made.add_argument("--dir", type=Path, default=Path("results/ppo_reference"), help="where both halves meet")
    made.add_argument("--seeds", default="0,1,2,3,4", help="with commas")
    made.add_argument("--steps", type=int, default=48, help="PPO steps")
    made.add_argument("--prompts", type=int, default=64, help="of a step, one answer each")
    made.add_argument("--task", default="reflections")
    made.add_argument("--model", default="tiny_gpt2", help="a decoder-only one")
    made.add_argument("overrides", nargs="*", help="of the configuration, such as update.epochs=4")
    return made


def configured(given: argparse.Namespace, seed: int) -> dict[str, Any]:
    """The plain configuration of one seed."""
    schema.register()
    GlobalHydra.instance().clear()
    size = [f"budget.prompts={given.steps * given.prompts}", f"budget.training.batch_prompts={given.prompts}"]
    names = {"task": given.task, "model": given.model, "method": "weighted_ppo"}
    lines = [*SAME, *size, f"task={given.task}", f"model={given.model}", f"seed={seed}", *given.overrides]
    with initialize_config_dir(str(conf_dir()), version_base=VERSION_BASE):
        return job.resolve(compose("config", overrides=lines), names)


def curve(given: argparse.Namespace, seed: int, *, first: bool) -> dict[str, list[float]]:
    """Train once, after the initial adapter has been saved; the first seed also saves the set-up.

    Returns:
        mean reward and KL of each step.
    """
    config = configured(given, seed)
    with tempfile.TemporaryDirectory() as directory:
        tracker = Memory()
        workbench = Workbench.build(config, Path(directory), tracker)
        bench = workbench.bench
        policy = bench.new_policy("policy")
        policy.save(given.dir / EXCHANGE / f"seed-{seed}")
        if first:
            write_json(given.dir / EXCHANGE / "setup.json", setup(given, config, workbench))
        train(bench, policy, fixed_weights(None, bench.objectives, "linear"), name="policy", budget=bench.budget)
    rows = [row for row in tracker.rows if "train/policy/reward" in row]
    return {key: [row[f"train/policy/{key}"] for row in rows] for key in ("reward", "kl")}


def setup(given: argparse.Namespace, config: dict[str, Any], workbench: Workbench) -> dict[str, Any]:
    """What TRL's half needs, and which assets and code the record belongs to.

    Raises:
        UserError: the model is not decoder-only.
    """
    bench = workbench.bench
    backbone = on_one_base([bench.new_policy("probe")])[0].backbone
    if backbone.family != "causal":
        raise UserError(f"--model {given.model}: TRL's PPO trains decoder-only models alone")
    return {
        "model": config["model"],
        "steps": given.steps,
        "prompts": given.prompts,
        "update": config["update"],
        "max_new_tokens": bench.sampling.max_new_tokens,
        "temperature": bench.sampling.temperature,
        "pad": backbone.pad,
        "eos": backbone.eos,
        "task": config["task"],
        "train": [{"id": e.id, "prompt": e.prompt, "ids": backbone.prompt_ids(e.context)} for e in bench.train],
        "assets": {"fingerprint": fingerprint(config), "model": backbone.fingerprint},
        "provenance": provenance(1, "cpu"),
        "command": " ".join(sys.argv[1:]),
    }


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"studies.ppo_reference.ours: {error}")
