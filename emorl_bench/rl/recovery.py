"""Learners that are trained together go on together, from the latest checkpoint that all of them have.

Their checkpoints are written one after the other. A process that is killed in between leaves some learners one
checkpoint ahead of the others. If the others caught up alone, their batches would have another composition: the last
bits of their numbers, their decoded tokens and their FLOPs would differ from those of a training that never stopped.
So those ahead go back by one checkpoint (`rl.checkpoint.PREVIOUS`). This is the recovery line of distributed systems.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from emorl_bench.rl.checkpoint import END, FILE, PREVIOUS, Progress, read_progress
from emorl_bench.rl.run import TrainingRun

Mark = tuple[int, bool]  # the step of a checkpoint, and whether its training has ended there: marks are ordered


@dataclass(frozen=True)
class Stand:
    """What is on disk of one training: its checkpoints, the newest first, and who was trained with it.

    The last mark has no file where going back means to begin anew, or from the training with a smaller budget.
    """

    run: TrainingRun
    marks: list[tuple[Mark, Path | None]]
    together: frozenset[str]

    @property
    def newest(self) -> Mark:
        """Where the training would go on."""
        return self.marks[0][0]

    @classmethod
    def of(cls, run: TrainingRun) -> Stand:
        """Read the progress of every checkpoint of a training."""
        place = run.checkpoint.dir
        own = [path for path in (place / END, place / FILE, place / PREVIOUS) if path.exists()]
        found = [(read_progress(path), path) for path in own]
        marks: list[tuple[Mark, Path | None]] = [(_mark(progress), path) for progress, path in found]
        if [path.name for path in own] in ([], [FILE]):  # there never was another checkpoint
            before = next((path / FILE for path in run.earlier if (path / FILE).exists()), None)
            marks.append(((0, False) if before is None else _mark(read_progress(before)), None))
        return cls(run, marks, frozenset(found[0][0].together if found else ()))


def meet(runs: Sequence[TrainingRun]) -> None:
    """Bring trainings that were killed between their checkpoints back to one that all of them have.

    Nothing is loaded here, and only files of checkpoints that will be written again are removed.
    """
    if len(runs) > 1 and not runs[0].bench.runtime.frozen:
        runs[0].bench.runtime.ranks.once(partial(_meet, runs))


def _meet(runs: Sequence[TrainingRun]) -> None:
    stands = [Stand.of(run) for run in runs]
    unfinished = [stand for stand in stands if not stand.newest[1]]
    for stand in stands:
        behind = [other.newest for other in unfinished if other.run.name in stand.together]
        line = min(behind, default=stand.newest)
        if any(mark == line for mark, _ in stand.marks):
            for mark, path in stand.marks:
                if mark > line and path is not None:
                    path.unlink(missing_ok=True)


def _mark(progress: Progress) -> Mark:
    return progress.step, progress.ended is not None
