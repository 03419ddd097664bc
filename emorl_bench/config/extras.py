"""Which classes need a package that is not installed with this one, checked before a job is started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from emorl_bench.core.errors import UserError

NEEDS: dict[str, tuple[str, Sequence[str]]] = {
    "baselines.trl.trl_policy.TrlPolicy": ("", ("trl", "datasets")),
    "emorl_bench.rl.jacobian.Mgda": ("torchjd", ("torchjd",)),
    "emorl_bench.rl.jacobian.CaGrad": ("torchjd", ("torchjd", "cvxpy", "clarabel")),
    "emorl_bench.rl.jacobian.UpGrad": ("torchjd", ("torchjd", "qpsolvers", "quadprog")),
    "emorl_bench.search.optuna_study.OptunaSearch": ("optuna", ("optuna",)),
}
"""Class -> the extra of this package that brings what it needs, and the modules that it imports. An empty extra: the
module belongs to this package's own requirements."""
BY_VALUE = {("bandit", "vowpal_wabbit"): ("vw", ("vowpalwabbit",)), ("rollouts", "vllm"): ("vllm", ("vllm",))}
"""The same for a key that has a certain value."""


def check_extras(node: Any, where: str = "") -> None:
    """Check that the packages of all classes below a configuration are installed.

    Raises:
        UserError: one is not. The line names the key, and the command that installs it.
    """
    if isinstance(node, list):
        for index, value in enumerate(node):
            check_extras(value, f"{where}[{index}]")
    if not isinstance(node, Mapping):
        return
    for key, value in node.items():
        here = f"{where}.{key}" if where else str(key)
        if isinstance(value, str):
            needed = NEEDS.get(value) if key == "_target_" else BY_VALUE.get((str(key), value))
            if needed is not None:
                check_installed(f"{here}={value}", *needed)
        check_extras(value, here)


def check_installed(what: str, extra: str, modules: Sequence[str]) -> None:
    """Check that the modules of an extra are installed, which ``what`` needs.

    Raises:
        UserError: one is not. The line has the command that installs it.
    """
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        install = f'-e ".[{extra}]"' if extra else " ".join(missing)
        raise UserError(f"{what} needs {', '.join(missing)}: pip install -c constraints.txt {install}")
