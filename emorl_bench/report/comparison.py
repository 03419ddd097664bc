"""Which runs may be in one table: those of one task and model with the same fingerprint.

The fingerprint covers data, scorers, model and budget. A row is a method with all its seeds. Runs that differ only in
``update.kl_coefficient`` have rows of their own, and are points of the method's frontier (`report.frontier`). Runs that
differ in another setting are refused.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from emorl_bench.core.errors import UserError
from emorl_bench.report.read import Floats, Run


@dataclass(frozen=True)
class Comparison:
    """The runs of one task and one model with one fingerprint, which may be in one table."""

    task: str
    model: str
    runs: tuple[Run, ...]

    @property
    def title(self) -> str:
        """Task and model, for headings."""
        return f"{self.task} · {self.model}"

    @property
    def stem(self) -> str:
        """The beginning of the names of its files."""
        return "".join(c if c.isalnum() or c in "-_" else "-" for c in f"{self.task}_{self.model}")

    @property
    def objectives(self) -> tuple[str, ...]:
        """Names of the objectives."""
        return self.runs[0].objectives

    def whole(self, run: Run, decoding: str) -> tuple[Floats, Floats]:
        """Preferences and mean scores, both (N, K'), of the complete points of a run, for indicators of fronts.

        An objective that applied to nothing in any run is left out. So is a point that lacks one of the other
        objectives.
        """
        everywhere = np.vstack([r.points_WK(decoding) for r in self.runs if decoding in r.decoding])
        kept_K = ~np.isnan(everywhere).all(axis=0)
        points_WK = run.points_WK(decoding)[:, kept_K]
        whole_W = ~np.isnan(points_WK).any(axis=1)
        return run.preferences_WK[:, kept_K][whole_W], points_WK[whole_W]

    def decodings(self) -> tuple[str, ...]:
        """The decodings that some run was graded with, greedy first."""
        return tuple(name for name in ("greedy", "sampled") if any(name in run.decoding for run in self.runs))

    def methods(self, decoding: str) -> dict[str, list[Run]]:
        """Method -> its runs, sorted by seed."""
        by_method: dict[str, list[Run]] = defaultdict(list)
        for run in sorted(self.runs, key=lambda run: run.seed):
            if decoding in run.decoding:
                by_method[run.method].append(run)
        return dict(by_method)


def comparisons(runs: Sequence[Run], fingerprint: str | None = None) -> list[Comparison]:
    """One comparison for each task and model.

    Raises:
        UserError: runs of one task and model have different fingerprints or settings, or two runs have one method and
            seed.
    """
    chosen = [run for run in runs if run.fingerprint.startswith(fingerprint or "")]
    if runs and not chosen:
        known = ", ".join(sorted({run.fingerprint[:12] for run in runs}))
        raise UserError(f"--fingerprint {fingerprint} matches no finished run; known: {known}")
    groups: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in chosen:
        groups[run.task, run.model].append(run)
    found = []
    for (task, model), members in sorted(groups.items()):
        _refuse_mixture(f"{task}/{model}", members)
        _refuse_settings(members)
        rows = _by_kl_coefficient(members)
        _refuse_twins(rows)
        found.append(Comparison(task, model, tuple(rows)))
    return found


def _by_kl_coefficient(runs: Sequence[Run]) -> list[Run]:
    """The runs; a method that was run with several KL coefficients has a row for each."""
    known: dict[str, set[float]] = defaultdict(set)
    for run in runs:
        if run.kl_coefficient is not None:
            known[run.family].add(run.kl_coefficient)
    return [
        replace(run, method=f"{run.family} (KL {run.kl_coefficient:g})")
        if run.kl_coefficient is not None and len(known[run.family]) > 1
        else run
        for run in runs
    ]


def _refuse_settings(runs: Sequence[Run]) -> None:
    """Seeds of one method must have the same settings, except for the KL coefficient."""
    seen: dict[str, Run] = {}
    for run in runs:
        if run.settings is None:
            continue
        first = seen.setdefault(run.family, run)
        if first.settings != run.settings:
            raise UserError(
                f"RUNS has runs of method={run.family} with different settings of the method or its update rule: "
                f"{first.dir} and {run.dir}; report them apart, each from its own runs_dir"
            )


def _refuse_mixture(name: str, runs: Sequence[Run]) -> None:
    by_fingerprint: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_fingerprint[run.fingerprint].append(run)
    if len(by_fingerprint) > 1:
        listed = "; ".join(f"{key[:12]} ({len(same)} runs, {same[0].dir})" for key, same in by_fingerprint.items())
        raise UserError(
            f"RUNS mixes {len(by_fingerprint)} fingerprints of {name}, which differ in data, scorers, model or budget: "
            f"{listed}; choose one with --fingerprint"
        )


def _refuse_twins(runs: Sequence[Run]) -> None:
    """One seed of a row must be one run. Older records do not show all settings, so two may still differ."""
    seen: dict[tuple[str, int], Run] = {}
    for run in runs:
        twin = seen.setdefault((run.method, run.seed), run)
        if twin is not run:
            raise UserError(
                f"RUNS has two runs of method={run.method} seed={run.seed}: {twin.dir} and {run.dir}; "
                "report differently configured runs apart, each from its own runs_dir"
            )
