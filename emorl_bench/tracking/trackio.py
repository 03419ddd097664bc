"""Trackio as a view of the run directory: a dashboard on this machine, without an account.

``trackio show --project emorl-bench`` opens it in a browser. A session that goes on replaces the run, for a killed one
may have lost rows. Needs the package trackio.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import BytesIO, StringIO
from typing import Any, ClassVar

from emorl_bench.tracking.charts import Charts
from emorl_bench.tracking.method_rows import AXES
from emorl_bench.tracking.view import Row, RunIdentity, View


@dataclass(frozen=True)
class Trackio:
    """Settings of trackio: the project that its dashboard shows."""

    packages: ClassVar[Mapping[str, str]] = {"trackio": "trackio"}

    project: str

    def open(self, run: RunIdentity, rows: Sequence[Row]) -> View:
        """Begin the run with all rows of the record."""
        import trackio

        name = f"{run.name}-{run.id}"
        config = {**run.config, "tags": list(run.tags), "command": run.notes}
        with _quiet():
            _delete(self.project, name)
            options = {"embed": False, "auto_log_cpu": False, "auto_log_gpu": False}
            started = trackio.init(self.project, name=name, group=run.group, config=config, resume="never", **options)
        view = TrackioView(started)
        for number, row in enumerate(rows, start=1):
            view.log(row, row=number)
        return view


class TrackioView:
    """One run. The step of a row is the data points that the method had spent."""

    def __init__(self, run: Any) -> None:
        """Log to a run of trackio."""
        self._run, self._charts, self._spent = run, Charts(), 0

    def log(self, metrics: Row, *, row: int) -> None:
        """Log a row."""
        shown = self._charts.of(metrics)
        self._spent = int(shown.get(AXES[0], self._spent))
        self._run.log(shown, step=self._spent)

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log a table."""
        import pandas as pd
        import trackio

        if rows:
            self._run.log({f"tables/{name}": trackio.Table(dataframe=pd.DataFrame(list(rows)))}, step=self._spent)

    def image(self, name: str, png: bytes) -> None:
        """Log a picture."""
        import trackio
        from PIL import Image

        self._run.log({f"pictures/{name}": trackio.Image(Image.open(BytesIO(png)))}, step=self._spent)

    def summarise(self, numbers: Mapping[str, float]) -> None:
        """Log the numbers of the summary as a table, for trackio has no summary."""
        self.table("summary", [{"number": name, "value": value} for name, value in numbers.items()])

    def close(self, status: str) -> None:
        """Write what is left."""
        import trackio

        with _quiet():
            trackio.finish()  # of the run that was begun last in this process, which has one


def _delete(project: str, name: str) -> None:
    """Delete what an earlier session has recorded under this name."""
    import trackio

    try:
        runs = list(trackio.Api().runs(project))
    except ValueError:  # there is no such project yet
        return
    for run in runs:
        if run.name == name:
            run.delete()


@contextmanager
def _quiet() -> Iterator[None]:
    """Trackio prints where its dashboard is, in the middle of a run's output."""
    with redirect_stdout(StringIO()):
        yield
