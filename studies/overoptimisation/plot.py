"""Gold and proxy against the square root of KL: a panel for each kind, noise and form, a colour for each statistic."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from emorl_bench.report.palette import looks
from emorl_bench.report.style import figure, panels
from studies.overoptimisation.curves import Curve, Variant
from studies.overoptimisation.findings import SINGLE, Curves

KINDS = {"bon": "best-of-n", "rl": "training"}
Panel = tuple[str, float, bool]  # kind, noise, shared


def plot_curves(path: Path, curves: Curves) -> None:
    """Draw the largest ensembles and the single proxy. Gold is solid; the proxy that was optimised is dashed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    largest = max(variant.members for _, _, variant in curves)
    wanted = {k: v for k, v in curves.items() if k[2].members in (1, largest)}
    shown: list[Panel] = [
        (kind, noise, shared)
        for kind, noise in dict.fromkeys((kind, noise) for kind, noise, _ in wanted)
        for shared in (False, True)
    ]
    names = sorted(
        {_name(variant) for _, _, variant in wanted}, key=lambda name: (not name.startswith(SINGLE.form), name)
    )
    look = looks(names)
    with figure(path, width=8.8, height=3.1 * len(shown) / 2 + 0.8) as drawing:
        handles = {}
        for axes, panel in zip(panels(drawing, len(shown), 2), shown, strict=True):
            for (kind, noise, variant), mine in wanted.items():
                if (kind, noise) == panel[:2] and (variant.members == 1 or variant.shared == panel[2]):
                    colour = look[_name(variant)].colour
                    d_J = np.sqrt(np.clip(np.mean([c.kl_J for c in mine], axis=0), 0, None))
                    style = {"color": colour, "marker": look[_name(variant)].marker, "markersize": 4}
                    (handles[_name(variant)],) = axes.plot(d_J, _mean(mine, "gold"), linewidth=1.8, **style)
                    axes.plot(d_J, _mean(mine, "proxy"), linewidth=1.0, linestyle="--", color=colour, alpha=0.7)
            form = "shared encoder" if panel[2] else "full ensemble"
            axes.set_title(f"{KINDS[panel[0]]}, {panel[1]:.0%} of labels wrong, {form}", fontsize=9)
            axes.set(xlabel="√KL (nats)", ylabel="gold (solid), proxy (dashed)")
        drawing.legend([handles[n] for n in names], names, loc="outside lower center", ncols=len(names))


def _name(variant: Variant) -> str:
    return variant.form if variant.members == 1 else variant.statistic


def _mean(mine: Sequence[Curve], what: str) -> list[float]:
    values = [curve.gold_PJ.mean(0) if what == "gold" else curve.proxy_J for curve in mine]
    return [float(v) for v in np.mean(values, axis=0)]
