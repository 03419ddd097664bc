"""Both halves side by side: learning curves with 95 % t intervals over seeds (``curves.png``), a table (README.md)."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emorl_bench.core.atomic import write_text
from emorl_bench.indicators.intervals import t_interval
from emorl_bench.report.palette import looks
from emorl_bench.report.style import figure, panels

Floats = NDArray[np.float64]
MEASURES = {"reward": "mean reward", "kl": "KL to the base (nats)"}
SIDES = {"ours": "this suite", "theirs": "TRL"}


def main(argv: Sequence[str] | None = None) -> None:
    """Read both records, and write the picture and the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dir", type=Path, default=Path("results/ppo_reference"), help="where both halves meet")
    given = parser.parse_args(argv)
    records = [json.loads((given.dir / f"{name}.json").read_text()) for name in SIDES]
    curves = {record["side"]: {m: stacked(record, m) for m in MEASURES} for record in records}
    plot(given.dir / "curves.png", curves)
    write_text(given.dir / "README.md", text(records[0]["setup"], records[1], curves))


def stacked(record: Any, measure: str) -> Floats:
    """(seeds, steps) of one measure."""
    return np.array([curve[measure] for curve in record["curves"].values()])


def ends(curve_NS: Floats) -> Floats:
    """(seeds,): the mean of each curve's last quarter."""
    return np.asarray(curve_NS[:, -max(1, curve_NS.shape[1] // 4) :].mean(1))


def plot(path: Path, curves: dict[str, dict[str, Floats]]) -> None:
    """Draw a panel for each measure, with a mean curve and its interval for each side."""
    look = looks(sorted(SIDES))
    with figure(path, width=8.8, height=3.4) as drawing:
        for axes, (measure, title) in zip(panels(drawing, 2, 2), MEASURES.items(), strict=True):
            for side, name in SIDES.items():
                curve_NS = curves[side][measure]
                intervals = [t_interval(list(step)) for step in curve_NS.T]
                mean_S = np.array([interval.mean for interval in intervals])
                half_S = np.array([interval.half_width for interval in intervals])
                steps = range(len(mean_S))
                axes.plot(steps, mean_S, label=name, color=look[side].colour)
                axes.fill_between(steps, mean_S - half_S, mean_S + half_S, color=look[side].colour, alpha=0.2)
            axes.set(xlabel="step", ylabel=title)
            axes.legend()


def text(setup: Any, theirs: Any, curves: dict[str, dict[str, Floats]]) -> str:
    """The page in Markdown."""
    rows = []
    for measure, title in MEASURES.items():
        own, other = (ends(curves[side][measure]) for side in SIDES)
        apart = t_interval(list(own - other)) if len(own) == len(other) else None
        gap = "" if apart is None else f"{apart.mean:+.3f} ± {apart.half_width:.3f}"
        shown = [f"{i.mean:.3f} ± {i.half_width:.3f}" for i in (t_interval(list(v)) for v in (own, other))]
        rows.append(f"| {title} | {' | '.join(shown)} | {gap} |")
    lines = [
        "# PPO against TRL's PPO",
        "",
        f"{len(curves['ours']['reward'])} seeds, {setup['steps']} steps of {setup['prompts']} answers; model "
        f"`{setup['assets']['model']}`, data and scorers `{setup['assets']['fingerprint']}`; TRL {theirs['trl']}. "
        "Means of the last quarter of the steps, with 95 % t intervals over seeds; the difference is paired by seed, "
        "which fixes the adapter that both start from. `studies/ppo_reference/__init__.py` has the commands and "
        "what is not the same.",
        "",
        "| | this suite | TRL | difference |",
        "|---|---|---|---|",
        *rows,
        "",
        "![learning curves](curves.png)",
    ]
    made = curves["ours"]["reward"].shape[1]
    if made < setup["steps"]:
        lines += [
            "",
            f"Ours made {made} steps: the budget of {setup['steps']} steps pays for its first validation too.",
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
