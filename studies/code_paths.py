"""The difference between results of two processors: the same commands under two matrix-product code paths.

``python -m studies.code_paths --runs DIR --out FILE.md``. Both paths run on one machine. The second is that of an old
processor without AVX, which environment variables ask for. It takes some ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from emorl_bench.assets.shipped import content_key
from emorl_bench.runner.provenance import provenance

OLD = {"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "ONEDNN_MAX_CPU_ISA": "SSE41"}
PATHS: dict[str, dict[str, str]] = {"the machine's own": {}, "SSE4 only": OLD}
METHODS, SEEDS = ("base", "weighted_scst"), (0, 1, 2)
OVERRIDES = ("budget=short", "decoding=[greedy]", "tracker=local")


def main() -> None:
    """Run the commands under both paths, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m studies.code_paths", description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/code_paths"))
    parser.add_argument("--out", type=Path, help="write the table there")
    parser.add_argument("--tasks", default="reflections,sums")
    arguments = parser.parse_args()
    found = {path: scores(arguments.runs / str(i), arguments.tasks, PATHS[path]) for i, path in enumerate(PATHS)}
    text = table(found)
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


def scores(runs: Path, tasks: str, variables: dict[str, str]) -> dict[tuple[str, str, int], float]:
    """Run the sweep under some environment variables.

    Returns:
        the mean reward at the uniform preference, greedily decoded, by task, method and seed.
    """
    sweep = [f"task={tasks}", f"method={','.join(METHODS)}", f"seed={','.join(map(str, SEEDS))}", f"runs_dir={runs}"]
    command = [sys.executable, "-m", "emorl_bench.cli", "-m", *OVERRIDES, *sweep]
    subprocess.run(command, check=True, env=os.environ | variables)
    found = {}
    for path in sorted(runs.rglob("summary.json")):
        summary = json.loads(path.read_text())
        names = summary["names"]
        found[names["task"], names["method"], summary["seed"]] = summary["mean_reward"]
    return found


def table(found: dict[str, dict[tuple[str, str, int], float]]) -> str:
    """The page in Markdown: one row for each run, one column for each code path."""
    origin = provenance(threads=1, device="cpu")
    lines = [
        "# One command under two matrix-product code paths",
        "",
        f"Mean reward at the uniform preference, greedy. {origin['machine']['processor']}, torch "
        f"{origin['versions']['torch']}, commit {origin['commit']}, assets {content_key()}.",
        "",
        "Command: `python -m studies.code_paths --out results/arena/code_paths.md`.",
        f"The second path: `{' '.join(f'{k}={v}' for k, v in OLD.items())}`.",
        "",
        f"| task | method | seed | {' | '.join(found)} | difference |",
        f"|---|---|--:|{'--:|' * (len(found) + 1)}",
    ]
    one, other = found.values()
    for task, method, seed in sorted(one):
        a, b = one[task, method, seed], other[task, method, seed]
        lines.append(f"| {task} | {method} | {seed} | {a:.6f} | {b:.6f} | {b - a:+.6f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
