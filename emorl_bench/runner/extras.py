"""Launchers that an extra of this package brings, and the one line for whoever has not installed it."""

from __future__ import annotations

from importlib.util import find_spec

from emorl_bench.core.errors import UserError

EXTRAS = {"joblib": "joblib", "submitit_local": "submitit", "submitit_slurm": "submitit", "ray": "ray"}


def check_launcher(name: str) -> None:
    """Raise a `UserError` where the launcher of this name needs an extra that is not installed.

    joblib's and submitit's configurations come with their plugins, so Hydra does not find them without; Ray's is ours.
    """
    if name == "ray" and find_spec("ray") is None:
        raise UserError(needs_extra(name))


def needs_extra(name: str) -> str:
    return f'hydra/launcher={name} needs the extra: pip install -c constraints.txt -e ".[{EXTRAS[name]}]"'
