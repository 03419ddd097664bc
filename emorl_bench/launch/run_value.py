"""What a job of a sweep returns: a number for Hydra's sweepers, which also says where its run is recorded."""

from __future__ import annotations

OBJECTIVE = "mean_reward"  # the number of ``summary.json`` that is the value of a finished run


class RunValue(float):
    """The mean reward of a finished run at the uniform preference.

    Hydra and its launchers pass it on as a plain number, between processes as well.
    """

    path: str = ""
    """The run directory."""
    skipped: bool = False
    """Whether the run was done before, so that this job had nothing to do."""

    @classmethod
    def of(cls, value: float, path: str, *, skipped: bool = False) -> RunValue:
        """The value of the run in the directory ``path``."""
        made = cls(value)
        made.path, made.skipped = path, skipped
        return made
