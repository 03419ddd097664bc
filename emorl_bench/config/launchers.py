"""Which launchers of Hydra need packages that are not installed with this one, checked before a job is started."""

from __future__ import annotations

from importlib.util import find_spec

from emorl_bench.core.errors import UserError

EXTRAS = {"joblib": "joblib", "submitit_local": "submitit", "submitit_slurm": "submitit", "ray": "ray"}
"""The extra of this package that brings each launcher of Hydra."""


def check_launcher(name: str) -> None:
    """Check that the packages of a launcher are installed.

    joblib's and submitit's configurations come with their plugins, so without these Hydra does not find them. The
    configuration of ``ray`` belongs to this project, so its package is checked here.

    Raises:
        UserError: the launcher needs an extra that is not installed.
    """
    if name == "ray" and find_spec("ray") is None:
        raise UserError(needs_extra(name))


def needs_extra(name: str) -> str:
    """One line that says how to install the extra of this launcher."""
    return f'hydra/launcher={name} needs the extra: pip install -c constraints.txt -e ".[{EXTRAS[name]}]"'
