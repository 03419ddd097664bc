"""Check a tracker before anything starts: that its class exists and takes its keys, and that its packages are there."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from hydra.utils import get_object

from emorl_bench.config.targets import check_targets
from emorl_bench.core.errors import UserError


def check_tracker(tracker: Any) -> None:
    """Check the node ``tracker`` of a plain configuration.

    A class that needs packages of an extra names them in ``packages``: package -> extra.

    Raises:
        UserError: there is no ``_target_``, it cannot be built from these keys, or a package is not installed.
    """
    if not isinstance(tracker, Mapping) or "_target_" not in tracker:
        raise UserError(f"tracker={tracker}: names no class; say tracker=wandb, or another file of conf/tracker")
    check_targets(tracker, "tracker")
    target = str(tracker["_target_"])
    needed: Mapping[str, str] = getattr(get_object(target), "packages", {})
    for package, extra in needed.items():
        if find_spec(package) is None:
            raise UserError(
                f"tracker._target_={target}: needs the package {package}; "
                f"pip install 'emorl-bench[{extra}]', or say tracker=local"
            )
