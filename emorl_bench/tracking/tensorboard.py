"""TensorBoard as a view of the run directory: event files in ``runs_dir/tensorboard``, drawn over data points.

``tensorboard --logdir RUNS/tensorboard`` shows them. A session that goes on replaces the files of the run, for a killed
one may have lost rows. Needs the package tensorboard.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, ClassVar

from emorl_bench.tracking.charts import Charts
from emorl_bench.tracking.markdown import markdown_table
from emorl_bench.tracking.method_rows import AXES
from emorl_bench.tracking.view import Row, RunIdentity, View

FLUSH_SECONDS = 2


@dataclass(frozen=True)
class TensorBoard:
    """TensorBoard has no settings of its own."""

    packages: ClassVar[Mapping[str, str]] = {"tensorboard": "tensorboard"}

    def open(self, run: RunIdentity, rows: Sequence[Row]) -> View:
        """Begin the run's event file with all rows of the record."""
        from torch.utils.tensorboard import SummaryWriter

        place = run.runs_dir / "tensorboard" / run.task / run.model / f"{run.name}-{run.id}"
        shutil.rmtree(place, ignore_errors=True)
        writer = SummaryWriter(str(place), flush_secs=FLUSH_SECONDS)
        writer.add_text(
            "run", markdown_table([{"group": run.group, "tags": ", ".join(run.tags), "command": run.notes}])
        )
        view = EventFile(writer)
        for number, row in enumerate(rows, start=1):
            view.log(row, row=number)
        return view


class EventFile:
    """One run. The step of a number is the data points that the method had spent."""

    def __init__(self, writer: Any) -> None:
        """Write with a `SummaryWriter`."""
        self._writer, self._charts, self._spent = writer, Charts(), 0

    def log(self, metrics: Row, *, row: int) -> None:
        """Log a row."""
        shown = self._charts.of(metrics)
        self._spent = int(shown.pop(AXES[0], self._spent))  # the axis itself needs no chart
        for name, value in shown.items():
            self._writer.add_scalar(name, value, self._spent)

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log a table as text."""
        self._writer.add_text(f"tables/{name}", markdown_table(rows), self._spent)

    def image(self, name: str, png: bytes) -> None:
        """Log a picture."""
        import numpy as np
        from PIL import Image

        pixels_HWC = np.asarray(Image.open(BytesIO(png)).convert("RGB"))
        self._writer.add_image(f"pictures/{name}", pixels_HWC, self._spent, dataformats="HWC")

    def summarise(self, numbers: Mapping[str, float]) -> None:
        """Log the numbers of the summary as a table."""
        rows = [{"number": name, "value": f"{value:g}"} for name, value in numbers.items()]
        self._writer.add_text("summary", markdown_table(rows), self._spent)

    def close(self, status: str) -> None:
        """Write what is left."""
        self._writer.add_text("status", status, self._spent)
        self._writer.close()
