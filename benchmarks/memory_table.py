"""The planned peak of memory for every base model, as docs/models.md shows it: ``python -m benchmarks.memory_table``.

One policy is trained by PPO at ``budget=full`` (64 rows of an update), with answers of up to 64 tokens behind prompts
as long as the model reads. Nothing is loaded: `emorl_bench.runner.memory_plan` knows the sizes.
"""

from __future__ import annotations

from collections.abc import Iterator

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from emorl_bench.config import schema
from emorl_bench.config.compose import conf_dir
from emorl_bench.runner.memory_plan import Plan, gib, plan

COMMON = ("method=weighted_ppo", "sampling.max_new_tokens=64")
COLUMNS = {  # heading -> overrides
    "bfloat16": ("hardware=cuda",),
    "16 rows at a time": ("hardware=cuda", "update.micro_batch=16"),
    "recomputed blocks": ("hardware=cuda", "model.gradient_checkpointing=true"),
    "float32": ("hardware=cuda", "hardware.dtype=float32"),
}


def planned(model: str, *overrides: str) -> Plan | None:
    """The plan of one model; None where nobody says which model it is."""
    config = compose("config", overrides=[f"model={model}", *COMMON, *overrides])
    settings = OmegaConf.to_container(config, resolve=True)
    assert isinstance(settings, dict)
    return plan({str(key): value for key, value in settings.items()})


def table() -> Iterator[str]:
    """The lines of the table in Markdown, by the size of the peak."""
    schema.register()
    found: list[tuple[int, str]] = []
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        for file in sorted((conf_dir() / "model").glob("*.yaml")):
            plans = [planned(file.stem, *overrides) for overrides in COLUMNS.values()]
            known = [plan for plan in plans if plan is not None]
            if len(known) == len(plans):
                first = known[0]
                cells = [f"`{file.stem}`", gib(first.weights), gib(first.training), gib(first.decoding)]
                found.append((first.peak, f"| {' | '.join([*cells, *(gib(plan.peak) for plan in known)])} |"))
    yield f"| `model=` | weights | training pass | rollout | {' | '.join(f'peak, {name}' for name in COLUMNS)} |"
    yield f"|---|{'--:|' * (len(COLUMNS) + 3)}"
    yield from (line for _, line in sorted(found))


if __name__ == "__main__":
    print("\n".join(table()))
