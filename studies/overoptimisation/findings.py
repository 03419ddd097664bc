"""From curves to findings: gold at the end, how far it fell before, and the difference from the single proxy.

Intervals are Student's over seeds, at 95 %. Differences are paired by seed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from emorl_bench.indicators.intervals import Interval, t_interval
from studies.overoptimisation.curves import Curve, Floats, Variant

SINGLE = Variant(1, False, "mean")
Key = tuple[str, float, Variant]  # kind, noise, variant
Curves = Mapping[Key, Sequence[Curve]]


@dataclass(frozen=True)
class Finding:
    """One variant over the seeds.

    Attributes:
        kind: "bon" is best-of-n, "rl" is training.
        noise: the share of wrong labels.
        variant: how the proxy is made.
        start: gold without pressure.
        end: gold under the highest pressure.
        fall: gold at its peak less gold at the end (`falls`); above 0 is over-optimisation.
        over_single: ``end`` less that of the single proxy.
        less_fall: the single proxy's fall less this one's.
        bend: Gao's beta (`gao_form`).
        proxy_end: the proxy score at the end.
        kl_end: KL at the end, in nats for a sequence.
    """

    kind: str
    noise: float
    variant: Variant
    start: Interval
    end: Interval
    fall: Interval
    over_single: Interval | None
    less_fall: Interval | None
    bend: Interval
    proxy_end: float
    kl_end: float

    def as_dict(self) -> dict[str, Any]:
        """The finding as it is recorded."""
        return asdict(self) | {"variant": str(self.variant)}


def grouped(curves: Sequence[Curve]) -> dict[Key, list[Curve]]:
    """The curves of each kind, noise and variant, ordered by seed."""
    found: dict[Key, list[Curve]] = defaultdict(list)
    for curve in curves:
        found[curve.kind, curve.noise, curve.variant].append(curve)
    return {key: sorted(mine, key=lambda curve: curve.seed) for key, mine in found.items()}


def findings(curves: Curves) -> list[Finding]:
    """One finding for each kind, noise and variant."""
    return [_finding(key, mine, curves.get((key[0], key[1], SINGLE), ())) for key, mine in curves.items()]


def _finding(key: Key, mine: Sequence[Curve], single: Sequence[Curve]) -> Finding:
    kind, noise, variant = key
    alone = {curve.seed: curve for curve in single} if variant != SINGLE else {}
    pairs = [(curve, alone[curve.seed]) for curve in mine if curve.seed in alone]
    fall, its_fall = falls(mine), falls(single)
    return Finding(
        kind,
        noise,
        variant,
        start=t_interval([_gold(curve, 0) for curve in mine]),
        end=t_interval([_gold(curve, -1) for curve in mine]),
        fall=t_interval(list(fall.values())),
        over_single=t_interval([_gold(a, -1) - _gold(b, -1) for a, b in pairs]) if pairs else None,
        less_fall=t_interval([its_fall[b.seed] - fall[a.seed] for a, b in pairs]) if pairs else None,
        bend=t_interval([gao_form(curve.kl_J, curve.gold_PJ.mean(0), kind)[1] for curve in mine]),
        proxy_end=float(np.mean([curve.proxy_J[-1] for curve in mine])),
        kl_end=float(np.mean([curve.kl_J[-1] for curve in mine])),
    )


def _gold(curve: Curve, point: int) -> float:
    return float(curve.gold_PJ[:, point].mean())


def falls(mine: Sequence[Curve]) -> dict[int, float]:
    """The fall of each seed: gold at the peak of the other seeds' mean curve, less gold at the end.

    A peak that is found on the same seed lies above the end by luck alone. With one seed the fall is NaN.
    """
    gold_NJ = np.array([curve.gold_PJ.mean(0) for curve in mine])
    if len(mine) < 2:
        return {curve.seed: float("nan") for curve in mine}
    peaks = [int((gold_NJ.sum(0) - own_J).argmax()) for own_J in gold_NJ]
    return {c.seed: float(own_J[at] - own_J[-1]) for c, own_J, at in zip(mine, gold_NJ, peaks, strict=True)}


def gao_form(kl_J: Floats, gold_J: Floats, kind: str) -> tuple[float, float]:
    """Alpha and beta of Gao et al. (2210.10760), by least squares on the gain of gold over the start.

    With ``d = sqrt(KL)`` the gain is ``d (alpha - beta d)`` for best-of-n and ``d (alpha - beta ln d)`` for
    reinforcement learning. A beta above 0 bends the curve down.
    """
    d_J = np.sqrt(np.clip(kl_J, 0, None))
    d_I, gain_I = d_J[d_J > 0], (gold_J - gold_J[0])[d_J > 0]
    bend_I = d_I if kind == "bon" else np.log(d_I)
    terms_I2 = np.stack([d_I, -d_I * bend_I], axis=1)
    (alpha, beta), *_ = np.linalg.lstsq(terms_I2, gain_I, rcond=None)
    return float(alpha), float(beta)


def table(found: Sequence[Finding], kind: str, noise: float) -> list[str]:
    """The table of one kind and noise in Markdown, with the single proxy first."""
    rows = [f for f in found if (f.kind, f.noise) == (kind, noise)]
    lines = [
        "| reward | seeds | gold at the end | fall from the peak | beta | end over the single proxy | fall saved "
        "| proxy at the end | KL at the end |",
        "|:--|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for f in rows:
        cells = [_shown(f.end), _shown(f.fall), _shown(f.bend), _shown(f.over_single), _shown(f.less_fall)]
        lines.append(f"| {f.variant} | {f.end.n} | {' | '.join(cells)} | {f.proxy_end:.3f} | {f.kl_end:.1f} |")
    return lines


def _shown(interval: Interval | None) -> str:
    """Mean and half-width; one seed has no half-width."""
    if interval is None or math.isnan(interval.mean):
        return "–"
    if interval.n < 2:
        return f"{interval.mean:.3f}"
    return f"{interval.mean:.3f} ± {interval.half_width:.3f}"
