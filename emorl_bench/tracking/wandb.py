"""Weights & Biases as a view of the run directory: the same numbers, from the same calls.

It is offline unless the user is logged in; ``wandb sync`` sends an offline run later. The run's id is the hash of the
run directory, so a resumed run continues where it was. Only this file imports wandb, and only when it is used.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emorl_bench.core.types import Metrics

log = logging.getLogger(__name__)

INIT_SECONDS = 15.0
FINISH_SECONDS = 120.0  # a lost connection must not delay a sweep; what was not sent stays on disk
SHOWN = ("samples",)  # tables for reading; per-row scores stay in the run directory, their means are logged
TABLE_ROWS = 100
AGAINST_DATA_POINTS = ("tokens", "train/*", "eval/*", "weights/*", "weighting/*", "search/*")  # tokens: the other axis


@dataclass(frozen=True)
class Identity:
    """The place of a run among others."""

    id: str
    group: str
    """method/task/model"""
    job_type: str
    """The method."""
    name: str
    """The seed."""


class Wandb:
    """One run. Steps are row numbers of the record, which never decrease. Curves are drawn over data points."""

    def __init__(
        self,
        directory: Path,
        config: Mapping[str, Any],
        identity: Identity,
        *,
        project: str,
        entity: str | None = None,
        mode: str = "auto",
    ) -> None:
        """Start or resume the run; offline where W&B cannot be reached and ``mode`` is ``auto``.

        Args:
            directory: the run directory, which holds W&B's files as well.
            config: the run's configuration.
            identity: where the run stands among others.
            project: W&B's project.
            entity: W&B's user or team.
            mode: ``auto``, ``online`` or ``offline``.
        """
        import wandb

        self._wandb = wandb
        options: dict[str, Any] = {
            "project": project,
            "entity": entity,
            "dir": str(directory),
            "id": identity.id,
            "group": identity.group,
            "job_type": identity.job_type,
            "name": identity.name,
            "config": dict(config),
            "resume": "allow",
            "reinit": "create_new",  # several jobs of one process stay several runs
        }
        chosen = _resolve(mode)
        try:
            self._run = wandb.init(mode=chosen, settings=_settings(), **options)
        except wandb.errors.CommError as error:
            if mode != "auto":
                raise
            log.warning(
                "W&B cannot be reached (%s); recording offline, `wandb sync` sends it later", _first_line(error)
            )
            wandb.teardown()  # gives the id back
            self._run = wandb.init(mode="offline", settings=_settings(), **options)
        self._row = 0
        self._run.define_metric("data_points", hidden=True)
        for pattern in AGAINST_DATA_POINTS:
            self._run.define_metric(pattern, step_metric="data_points")

    def log(self, metrics: Metrics, *, step: int, row: int) -> None:
        """Log metrics of one step."""
        self._row = row
        self._run.log({"step": step, **{key: float(value) for key, value in metrics.items()}}, step=row)

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log the first rows of a table that is meant for readers."""
        if rows and name in SHOWN:
            columns = list(rows[0])
            data = [[row.get(column) for column in columns] for row in rows[:TABLE_ROWS]]
            self._run.log({f"tables/{name}": self._wandb.Table(columns=columns, data=data)}, step=self._row)

    def summarise(self, summary: Mapping[str, float]) -> None:
        """Set the numbers of the run's summary."""
        self._run.summary.update(dict(summary))

    def close(self, status: str) -> None:
        """Finish the run."""
        self._run.finish(exit_code=0 if status == "done" else 1)


def _settings() -> Any:
    import wandb

    return wandb.Settings(silent=True, console="off", init_timeout=INIT_SECONDS, finish_timeout=FINISH_SECONDS)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]


def _resolve(mode: str) -> Any:
    """``auto``: what the environment says; else online where there is a key to log in with; else offline."""
    if mode != "auto":
        return mode
    if chosen := os.environ.get("WANDB_MODE"):
        return chosen
    return "online" if _logged_in() else "offline"


def _logged_in() -> bool:
    import wandb
    from wandb.sdk.lib.wbauth import wbnetrc

    settings = wandb.setup().settings
    if os.environ.get("WANDB_API_KEY") or settings.api_key or settings.identity_token_file:
        return True
    return wbnetrc.read_netrc_auth(host=settings.base_url) is not None
