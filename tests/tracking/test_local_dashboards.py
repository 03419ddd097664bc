"""Trackio and TensorBoard: what they have written is read back by themselves, also after a killed session."""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from emorl_bench.tracking.fanout import Fanout
from emorl_bench.tracking.jsonl import Jsonl
from emorl_bench.tracking.view import Local, RunIdentity, Viewer

SAMPLE = {"preference": "0.50-0.50", "decoding": "greedy", "prompt": "a|b *c*", "response": "<b>r</b>", "even": 0.5}


def png() -> bytes:
    Image.new("RGB", (8, 6), (255, 0, 0)).save(buffer := BytesIO(), "png")
    return buffer.getvalue()


def identity(directory: Path) -> RunIdentity:
    (run := directory / "run").mkdir(exist_ok=True)
    named = {"method": "emorl", "task": "reflections", "model": "tiny_t5", "seed": 0, "sweep": "5eed5eed"}
    return RunIdentity(id="ab12cd34", **named, directory=run, runs_dir=directory, config={"seed": 0}, tags=("emorl",))


def opened(directory: Path, viewer: Viewer, heard: list[str]) -> Fanout:
    run = identity(directory)
    return Fanout(Jsonl(run.directory), lambda rows: viewer.open(run, rows), heard.append)


def logged(directory: Path, viewer: Viewer) -> None:
    """A session that fails, and one that goes on from an earlier step."""
    heard: list[str] = []
    for first, last in ((0, 4), (2, 6)):
        tracker = opened(directory, viewer, heard)
        for step in range(first, last):
            tracker.log({"train/a/reward": step / 8, "spent/a/data_points": 16.0 * step}, step=step)
        if last == 4:
            tracker.close("failed")
    view: Any = tracker._view
    view.table("samples", [SAMPLE])
    view.image("front", png())
    view.summarise({"final/greedy/mean_reward": 0.625})
    tracker.close("done")
    assert heard == ["ok", "ok"]


def test_tensorboard_reads_back_every_row_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="pip install tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from emorl_bench.tracking.tensorboard import TensorBoard

    logged(tmp_path, TensorBoard())
    (place,) = tmp_path.glob("tensorboard/reflections/tiny_t5/emorl-s0-ab12cd34")
    read = EventAccumulator(str(place)).Reload()
    rewards = [(event.step, event.value) for event in read.Scalars("train/reward")]
    assert rewards == [(16 * step, step / 8) for step in range(6)]
    texts = {tag: read.Tensors(tag)[-1].tensor_proto.string_val[0].decode() for tag in read.Tags()["tensors"]}
    summary = next(text for tag, text in texts.items() if tag.startswith("summary"))
    assert "0.625" in summary
    samples = next(text for tag, text in texts.items() if tag.startswith("tables/samples"))
    assert r"a\|b \*c\*" in samples, "text of data and models is escaped"
    assert "&lt;b&gt;r&lt;/b&gt;" in samples
    (picture,) = read.Images("pictures/front")
    assert (picture.width, picture.height) == (8, 6)


def test_trackio_reads_back_every_row_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    for name in [name for name in sys.modules if name.partition(".")[0] == "trackio"]:
        monkeypatch.delitem(sys.modules, name)  # it reads its directory when it is imported
    pytest.importorskip("trackio", reason="pip install trackio")
    from trackio.sqlite_storage import SQLiteStorage

    from emorl_bench.tracking.trackio import Trackio

    logged(tmp_path, Trackio(project="emorl-bench"))
    (name,) = SQLiteStorage.get_runs("emorl-bench")
    assert name == "emorl-s0-ab12cd34"
    rows = SQLiteStorage.get_logs("emorl-bench", name)
    rewards = [(row["step"], row["train/reward"]) for row in rows if "train/reward" in row]
    assert sorted(rewards) == [(16 * step, step / 8) for step in range(6)]
    tables = {key: row[key] for row in rows for key in row if key.startswith("tables/")}
    assert "a|b *c*" in str(tables["tables/samples"])
    assert "0.625" in str(tables["tables/summary"])
    assert any("pictures/front" in row for row in rows)


def test_the_run_directory_alone_has_no_view(tmp_path: Path) -> None:
    heard: list[str] = []
    tracker = opened(tmp_path, Local(), heard)
    tracker.log({"train/a/reward": 0.5}, step=1)
    tracker.close("done")
    assert heard == ["ok"]
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
