"""Golden runs: does a change of the code leave every number of a training as it was, bit for bit?

A golden run is one method at the smoke budget on the shipped tiny model. A change that only moves or renames code must
leave its grades (``scores.parquet``), what it has logged (``metrics.jsonl``) and its checkpoints (adapters, value
heads, Adam's moments) equal to the bit. To compare the commit that you work on with its predecessor::

    git worktree add /tmp/before main
    (cd /tmp/before && PYTHONPATH=$PWD python tests/golden.py run /tmp/golden_before)
    PYTHONPATH=$PWD python tests/golden.py run /tmp/golden_after
    python tests/golden.py compare /tmp/golden_before /tmp/golden_after
    git worktree remove /tmp/before

Both times on one machine, with one version of torch: rounding is a matter of these. Where ``main`` has no such file,
copy it there. All runs take some minutes with one thread; ``--only emorl`` makes those whose names contain a word.
``compare`` prints one line a run and ends with status 1 where any differs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet
from safetensors import safe_open

PROGRAM = [sys.executable, "-m", "emorl_bench.cli"]
COMMON = ["budget=smoke", "preferences.divisions=1", "tracker=local", "hardware=cpu", "hydra.launcher.workers=1"]
JOINT = "budget.training.batch_prompts=2"  # 8 rows: experts are updated together


Rows = list[dict[str, Any]]
PARTS = ("update.micro_batch=5", "update.minibatches=3", "update.epochs=2")


@dataclass(frozen=True)
class Group:
    """Methods that are run with the same overrides, in one directory of runs."""

    methods: tuple[str, ...]
    overrides: tuple[str, ...] = ()


RULES = ("weighted_scst", "weighted_ppo", "ppo_matched", "ppo_released", "grpo", "gdpo", "mo_grpo", "rloo", "agro")
MORE_RULES = ("agro_replay", "agro_offline", "mgda", "cagrad", "upgrad")
WEIGHTINGS = ("dynaopt", "c_dynaopt", "dorb", "round_robin", "random_weights", "saw", "hv_guided")
OTHERS = ("emorl", "param_merge", "single_objective", "best_of_n", "cory", "cory_released", "morlhf", "ric")
CONDITIONED = ("pareto_set", "weight_ensembling_moe")

GROUPS: Mapping[str, Group] = {
    "rules": Group((*RULES, *MORE_RULES)),
    "weightings": Group(WEIGHTINGS),
    "methods": Group(OTHERS),
    "conditioned": Group(CONDITIONED, ("budget.prompts=320",)),
    "causal": Group(("emorl", "weighted_ppo", "gdpo", "cory", "trl_grpo"), ("model=tiny_gpt2",)),
    "joint_scst": Group(("emorl", "morlhf"), ("update=scst", JOINT)),
    "joint_ppo": Group(("emorl",), ("update=ppo", "update.minibatches=2", JOINT)),
    "joint_gdpo": Group(("emorl",), ("update=gdpo", JOINT)),
    "joint_agro": Group(("emorl",), ("update=agro_replay", JOINT)),
    "joint_mgda": Group(("emorl",), ("update=mgda", JOINT)),
    "rows_64": Group(("emorl",), ("update=ppo", "budget.prompts=384", "budget.training.batch_prompts=16")),
    "micro_ppo": Group(("weighted_ppo",), ("update=ppo", *PARTS)),
    "micro_grpo": Group(("weighted_scst",), ("update=grpo", *PARTS)),
    "micro_whole": Group(("weighted_scst", "agro_replay", "cagrad"), ("update.micro_batch=5",)),
    "decoupled": Group(("cory", "agro_offline", "saw"), ("update=mo_grpo",)),
    "release": Group(("weighted_scst",), ("update.train_on=text", "update.end_token=false", "reward=log")),
}


def run(directory: Path, only: str) -> None:
    for name, group in GROUPS.items():
        methods = [method for method in group.methods if only in f"{name}/{method}"]
        if not methods:
            continue
        sweep = ["-m", f"method={','.join(methods)}", f"runs_dir={directory.resolve() / name}"]
        print(f"{name}: {', '.join(methods)}", file=sys.stderr, flush=True)
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run([*PROGRAM, *sweep, *COMMON, *group.overrides], env=environment, check=False)
        if done.returncode:
            raise SystemExit(f"{name}: a run has failed; see above")


def compare(before: Path, after: Path) -> int:
    """Prints whether each run is equal; the number of those that are not, or that only one side has."""
    mine, theirs = found(before), found(after)
    differing = 0
    for name in sorted(mine.keys() | theirs.keys()):
        if name not in mine or name not in theirs:
            verdicts = [f"only in {before if name in mine else after}"]
        else:
            verdicts = [*differences(mine[name], theirs[name])]
        differing += bool(verdicts)
        print(f"{name:40} {'; '.join(verdicts) or 'equal'}")
    return differing


def found(directory: Path) -> dict[str, Path]:
    """Finished runs by group and method: a run's own hash may change with a name in the configuration."""
    runs = [path.parent for path in directory.glob("*/*/*/*/s*/scores.parquet")]
    return {f"{path.relative_to(directory).parts[0]}/{path.parent.name}": path for path in runs}


def differences(before: Path, after: Path) -> Iterator[str]:
    tables = [pyarrow.parquet.read_table(path / "scores.parquet") for path in (before, after)]
    if not tables[0].equals(tables[1]) and not same_values(*tables):
        yield "scores.parquet differs"
    logged = [[json.loads(line) for line in (path / "metrics.jsonl").open()] for path in (before, after)]
    if names := other_metrics(*logged):
        yield f"metrics differ: {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}"
    for name, (mine, theirs) in paired(before, after).items():
        if mine is None or theirs is None:
            yield f"{name}: only on one side"
        elif away := distance(mine, theirs):
            yield f"{name}: {away}"


def other_metrics(mine: Rows, theirs: Rows) -> list[str]:
    """Names of logged metrics that differ, but for times and peak memory."""
    if len(mine) != len(theirs):
        return [f"{len(mine)} and {len(theirs)} rows"]
    keys = {key for pair in zip(mine, theirs, strict=True) for key in pair[0].keys() ^ pair[1].keys()}
    for one, other in zip(mine, theirs, strict=True):
        keys |= {key for key in one.keys() & other.keys() if repr(one[key]) != repr(other[key])}
    return sorted(key for key in keys if "seconds" not in key and "peak_bytes" not in key)


def same_values(mine: pyarrow.Table, theirs: pyarrow.Table) -> bool:
    """Equality in which NaN is NaN."""
    return mine.schema.equals(theirs.schema) and mine.to_pandas().equals(theirs.to_pandas())


def paired(before: Path, after: Path) -> dict[str, tuple[Path | None, Path | None]]:
    """The checkpoints of a run and of its experts, by name, on both sides."""
    sides = [checkpoints(path) for path in (before, after)]
    names = sides[0].keys() | sides[1].keys()
    return {name: (sides[0].get(name), sides[1].get(name)) for name in sorted(names)}


def checkpoints(run: Path) -> dict[str, Path]:
    own = {str(path.parent.relative_to(run)): path for path in run.rglob("end.safetensors")}
    bank = run.parents[3] / ".experts"
    experts = {f"expert {path.parents[1].name.split('-s')[0]}": path for path in bank.rglob("end.safetensors")}
    return own | experts


def distance(mine: Path, theirs: Path) -> str:
    """Empty where all tensors are equal to the bit."""
    with safe_open(mine, framework="pt") as first, safe_open(theirs, framework="pt") as second:
        if set(first.keys()) != set(second.keys()):
            return "other tensors"
        pairs = [(first.get_tensor(key), second.get_tensor(key)) for key in first.keys()]  # noqa: SIM118
    if all(a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes() for a, b in pairs):
        return ""
    if any(a.shape != b.shape for a, b in pairs):
        return "other shapes"
    return (
        f"tensors differ by up to {max((a - b).abs().nan_to_num(0.0).max().item() for a, b in pairs if a.numel()):.1e}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    actions = parser.add_subparsers(dest="action", required=True)
    make = actions.add_parser("run", help="make the golden runs of the code at hand")
    make.add_argument("directory", type=Path)
    make.add_argument("--only", default="", help="those whose group/method contains this")
    both = actions.add_parser("compare", help="compare two directories of golden runs")
    both.add_argument("before", type=Path)
    both.add_argument("after", type=Path)
    given = parser.parse_args()
    if given.action == "run":
        run(given.directory, given.only)
        return 0
    return 1 if compare(given.before, given.after) else 0


if __name__ == "__main__":
    sys.exit(main())
