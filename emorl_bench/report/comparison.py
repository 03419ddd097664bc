"""Which runs are in one table: those of one task and model that were graded on the same data, by the same scorers.

A row is a method with all its seeds, or a method with the settings in which its runs differ (`report.rows`). Runs that
were graded otherwise, or on something that their configurations do not show, are in a section of their own, which says
what differs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from emorl_bench.core.errors import UserError
from emorl_bench.report.keys import UNSET, belongs, grades, short_names, value_text
from emorl_bench.report.read import Floats, Run
from emorl_bench.report.rows import group_rows, name_rows


@dataclass(frozen=True)
class Comparison:
    """The runs of one task and one model which may be in one table. ``note`` says what sets them apart from others."""

    task: str
    model: str
    runs: tuple[Run, ...]
    note: str = ""

    @property
    def title(self) -> str:
        """Task and model, for headings."""
        return " · ".join(part for part in (self.task, self.model, self.note) if part)

    @property
    def stem(self) -> str:
        """The beginning of the names of its files."""
        name = "_".join(part for part in (self.task, self.model, self.note) if part)
        return "".join(c if c.isalnum() or c in "-_" else "-" for c in name)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of its runs; several, joined by ``+``, where rows differ in their budget or their model."""
        return "+".join(sorted({run.fingerprint for run in self.runs}))

    @property
    def objectives(self) -> tuple[str, ...]:
        """Names of the objectives."""
        return self.runs[0].objectives

    def whole(self, run: Run, decoding: str) -> tuple[Floats, Floats]:
        """Preferences and mean scores, both (N, K'), of the complete points of a run, for indicators of fronts.

        An objective that applied to nothing in any run is left out. So is a point that lacks one of the other
        objectives.
        """
        if decoding not in self._kept:
            everywhere = np.vstack([r.points_WK(decoding) for r in self.runs if decoding in r.decoding])
            self._kept[decoding] = np.asarray(~np.isnan(everywhere).all(axis=0))
        kept_K = self._kept[decoding]
        points_WK = run.points_WK(decoding)[:, kept_K]
        whole_W = ~np.isnan(points_WK).any(axis=1)
        return run.preferences_WK[:, kept_K][whole_W], points_WK[whole_W]

    @cached_property
    def _kept(self) -> dict[str, NDArray[np.bool_]]:
        """Decoding -> which objectives applied to anything."""
        return {}

    def rewards(self, run: Run, decoding: str, prefix: str = "") -> dict[str, float]:
        """`Run.reward_by_prompt`, read once."""
        key = (run.dir, decoding, prefix)
        if key not in self._rewards:
            self._rewards[key] = run.reward_by_prompt(decoding, prefix)
        return self._rewards[key]

    @cached_property
    def _rewards(self) -> dict[Hashable, dict[str, float]]:
        return {}

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


def comparisons(runs: Sequence[Run], fingerprint: str | None = None, group_by: Sequence[str] = ()) -> list[Comparison]:
    """One comparison for each task and model, or several where runs were not graded on the same.

    Args:
        runs: finished runs.
        fingerprint: take only runs whose fingerprint begins so.
        group_by: keys that make the rows, instead of the method and what its runs differ in.

    Raises:
        UserError: no run has the fingerprint, a key is unknown, or a run is there twice.
    """
    chosen = [run for run in runs if run.fingerprint.startswith(fingerprint or "")]
    if runs and not chosen:
        known = ", ".join(sorted({run.fingerprint[:12] for run in runs}))
        raise UserError(f"--fingerprint {fingerprint} matches no finished run; known: {known}")
    found = []
    by_name = _split(sorted(chosen, key=lambda run: (run.task, run.model)), lambda run: (run.task, run.model))
    for members in by_name.values():
        task, model = members[0].task, members[0].model
        sections = [part for same in _split(members, _graded_on).values() for part in _explained(same)]
        for note, section in sorted(zip(_notes(sections), sections, strict=True), key=lambda pair: pair[0]):
            rows = group_rows(section, group_by) if group_by else name_rows(section)
            found.append(Comparison(task, model, tuple(rows), note))
    return found


def _graded_on(run: Run) -> Hashable:
    """What answers were graded on and by, as far as the record shows it."""
    shown = tuple(sorted((key, value_text(value)) for key, value in run.keys.items() if grades(key)))
    return run.objectives, run.preferences_WK.tobytes(), shown


def _explained(runs: list[Run]) -> list[list[Run]]:
    """The runs together, if their configurations show why fingerprints differ; else apart.

    Budget, adapter and sampling are shown. Data, weights and code are not: two fingerprints with the same
    configuration, or with other embedded assets, differ in these.
    """
    parts = _split(runs, lambda run: run.fingerprint)
    shown = {_shown(part[0]) for part in parts.values()}
    if len(shown) < len(parts) or len({run.assets for run in runs}) > 1 < len(parts):
        return list(parts.values())
    return [runs]


def _shown(run: Run) -> Hashable:
    return tuple(sorted((k, value_text(v)) for k, v in run.keys.items() if not (belongs(k) or k == "seed")))


def _notes(sections: Sequence[Sequence[Run]]) -> list[str]:
    """What sets each section of one task and model apart: the keys that differ, else the fingerprint."""
    firsts = [section[0] for section in sections]
    if len(firsts) == 1:
        return [""]
    keys = dict.fromkeys(key for run in firsts for key in run.keys if grades(key))
    names = short_names(key for key in keys if len({run.keys.get(key, UNSET) for run in firsts}) > 1)
    notes = [
        ", ".join(f"{name}={value_text(run.keys.get(key, UNSET))}" for key, name in names.items()) for run in firsts
    ]
    if len(set(notes)) == len(notes):
        return notes
    prints = (f"fingerprint {run.fingerprint[:12]}" for run in firsts)
    return [", ".join(part for part in pair if part) for pair in zip(notes, prints, strict=True)]


def _split(runs: Sequence[Run], key: Callable[[Run], Hashable]) -> dict[Hashable, list[Run]]:
    parts: dict[Hashable, list[Run]] = defaultdict(list)
    for run in runs:
        parts[key(run)].append(run)
    return dict(parts)
