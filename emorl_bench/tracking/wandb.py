"""Weights & Biases as a view of the run directory: the same rows, from the same calls.

It is offline unless the user is logged in; ``wandb sync`` sends offline runs later. All runs of a ``runs_dir`` lie in
``runs_dir/wandb``. The run's id is the hash of the run directory, and the step of a row is its number in the record.

A session that is killed may lose what W&B has not written or sent yet. So the next session first asks what W&B has. The
server tells how many rows it has, and is sent the others. What an earlier session has recorded offline is replaced by
one record that begins with the first row. Only this file imports wandb, and only when it is used.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar, Literal

from emorl_bench.tracking.charts import Charts
from emorl_bench.tracking.method_rows import AXES
from emorl_bench.tracking.view import Row, RunIdentity, View

log = logging.getLogger(__name__)

INIT_SECONDS = 15.0
FINISH_SECONDS = 120.0  # a lost connection must not delay a sweep; what was not sent stays on disk
FLUSH_SECONDS = 0.5  # between writes of an offline record: what a killed run may lose until it is resumed
DRAWN = ("train/*", "eval/*", "search/*", "learner/*", "weights/*", "weighting/*")


@dataclass(frozen=True)
class Wandb:
    """Settings of W&B: project, user or team, and ``auto``, ``online`` or ``offline``.

    ``auto`` is online where the user is logged in, and offline where W&B cannot be reached.
    """

    packages: ClassVar[Mapping[str, str]] = {}
    modules: ClassVar[Sequence[str]] = ("wandb", "wandb.sdk.launch", "emorl_bench.tracking.pictures")

    project: str
    entity: str | None
    mode: Literal["auto", "online", "offline"] | None

    def open(self, run: RunIdentity, rows: Sequence[Row]) -> View:
        """Start or resume the run.

        Raises:
            wandb.errors.CommError: ``online`` was asked for, and W&B cannot be reached.
        """
        import wandb

        _keep_files_here(run.runs_dir)
        mode = self.mode or "auto"
        options = self._options(run, resumed=bool(rows))
        chosen = _resolve(mode)
        try:
            started = wandb.init(mode=chosen, settings=_settings(), **options)
        except wandb.errors.CommError as error:
            if mode != "auto":
                raise
            log.warning(
                "W&B cannot be reached (%s); recording offline, `wandb sync` sends it later", _first_line(error)
            )
            wandb.teardown()  # gives the id back
            started = wandb.init(mode="offline", settings=_settings(), **options)
        _remove_earlier(run.runs_dir, run.id, Path(started.settings.sync_dir))
        return WandbView(started, rows)

    def _options(self, run: RunIdentity, resumed: bool) -> dict[str, Any]:
        return {
            "project": self.project,
            "entity": self.entity,
            "dir": str(run.runs_dir),
            "id": run.id,
            "name": run.name,
            "group": run.group,
            "job_type": run.method,
            "tags": list(run.tags),
            "notes": run.notes,
            "config": dict(run.config),
            "resume": "allow" if resumed else None,  # a run that starts afresh replaces one of its id
            "reinit": "create_new",  # several jobs of one process stay several runs
        }


class WandbView:
    """One run. Steps are row numbers of the record, which never decrease. Curves are drawn over data points."""

    def __init__(self, run: Any, rows: Sequence[Row]) -> None:
        """Draw over data points, and show the rows that W&B has not got."""
        self._run, self._charts, self._last = run, Charts(), 0
        for axis in AXES:
            self._run.define_metric(axis, hidden=True)
        for pattern in DRAWN:
            self._run.define_metric(pattern, step_metric=AXES[0])
        known = self._run.starting_step - 1 if self._run.resumed else 0
        for number, row in enumerate(rows, start=1):
            if number > known:
                self.log(row, row=number)
            else:
                self._charts.of(row)
        self._last = max(known, len(rows))

    def log(self, metrics: Row, *, row: int) -> None:
        """Log a row."""
        self._last = row
        self._run.log(self._charts.of(metrics), step=row, commit=True)

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log a table, which is shown at the step after the last row."""
        import wandb

        columns = list(dict.fromkeys(column for row in rows for column in row))
        data = [[row.get(column) for column in columns] for row in rows]
        if rows:
            self._run.log({f"tables/{name}": wandb.Table(columns=columns, data=data)}, step=self._last + 1)

    def image(self, name: str, png: bytes) -> None:
        """Log a picture, which is shown at the step after the last row."""
        import wandb
        from PIL import Image

        self._run.log({f"pictures/{name}": wandb.Image(Image.open(BytesIO(png)))}, step=self._last + 1)

    def summarise(self, numbers: Mapping[str, float]) -> None:
        """Set the numbers of the run's summary."""
        self._run.summary.update(dict(numbers))

    def close(self, status: str) -> None:
        """Finish the run, which writes or sends all that was logged."""
        self._run.finish(exit_code=0 if status == "done" else 1)


def _keep_files_here(runs_dir: Path) -> None:
    """Where the home directory cannot be written, tables on their way to W&B lie in ``runs_dir/wandb``."""
    from wandb import env

    for variable, usual in ((env.DATA_DIR, env.get_data_dir()), (env.CACHE_DIR, env.get_cache_dir())):
        if variable not in os.environ and not _can_be_written(Path(usual)):
            os.environ[variable] = str((runs_dir / "wandb" / variable.lower()).resolve())


def _can_be_written(place: Path) -> bool:
    there = next((parent for parent in (place, *place.parents) if parent.exists()), place)
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return False
    try:
        place.mkdir(parents=True, exist_ok=True)  # what W&B would do; /proc says that root may, and refuses
    except OSError:
        return False
    return True


def _remove_earlier(runs_dir: Path, id: str, now: Path) -> None:
    """Remove what earlier sessions of this run have recorded offline: the one that goes on has all of it."""
    for earlier in (runs_dir / "wandb").glob(f"offline-run-*-{id}*"):  # W&B numbers two that begin in one second
        if earlier.resolve() != now.resolve():
            shutil.rmtree(earlier)


def _settings() -> Any:
    import wandb

    return wandb.Settings(
        silent=True,
        console="off",
        init_timeout=INIT_SECONDS,
        finish_timeout=FINISH_SECONDS,
        x_transaction_log_flush_interval=FLUSH_SECONDS,
    )


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
