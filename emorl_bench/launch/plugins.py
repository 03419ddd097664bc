"""What Hydra is told of: our launchers and our sweeper, and which launchers give every job a process of its own."""

from __future__ import annotations

from hydra.core.plugins import Plugins

from emorl_bench.launch.process_launcher import Processes
from emorl_bench.launch.ray_launcher import Ray
from emorl_bench.launch.sweeper import Grid

PACKAGE = "hydra_plugins.emorl_bench"  # Hydra admits plugins under `hydra_plugins` only
OURS = (Processes, Ray, Grid)
OWN_PROCESS = (f"{PACKAGE}.", "hydra_plugins.hydra_submitit_launcher.")


def register() -> None:
    """Make ``hydra/launcher=processes|ray`` and ``hydra/sweeper=grid`` known to Hydra; safe to call again."""
    plugins = Plugins.instance()
    for plugin in OURS:
        plugins.register(plugin)
        plugins.class_name_to_class[f"{PACKAGE}.{plugin.__name__}"] = plugin


def own_process(launcher: str) -> bool:
    """Whether the launcher of this class starts a process for each job. joblib reuses its workers, basic its own."""
    return launcher.startswith(OWN_PROCESS)
