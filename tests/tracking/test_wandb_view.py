"""Weights & Biases: offline files that wandb's own reader reads, also of runs that were killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from emorl_bench.tracking.fanout import Fanout
from emorl_bench.tracking.jsonl import Jsonl, read_rows
from emorl_bench.tracking.view import RunIdentity
from emorl_bench.tracking.wandb import Wandb

OFFLINE = Wandb(project="emorl-bench", entity=None, mode="offline")
MEDIA = ("tables/", "pictures/")


def records(log: Path) -> list[dict[str, Any]]:
    """The records of an offline run, read by wandb's own reader."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(log)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def history(runs_dir: Path, id: str = "ab12cd34") -> list[dict[str, Any]]:
    """All rows that W&B has of a run, in all its offline files, without media."""
    logs = sorted(runs_dir.glob(f"wandb/offline-run-*-{id}*/*.wandb"))
    rows = [record["history"]["item"] for log in logs for record in records(log) if record["type"] == "history"]
    return [row for row in rows if not any(key.startswith(MEDIA) for key in row)]


def identity(directory: Path, id: str = "ab12cd34", **changes: Any) -> RunIdentity:
    run = directory / "reflections" / "tiny_t5" / "emorl" / f"s3-{id}"
    run.mkdir(parents=True, exist_ok=True)
    names = {"method": "emorl", "task": "reflections", "model": "tiny_t5", "seed": 3, "sweep": "5eed5eed"}
    given = {"id": id, **names, "directory": run, "runs_dir": directory, "config": {"seed": 3}, **changes}
    return RunIdentity(**given)


def opened(run: RunIdentity, viewer: Wandb = OFFLINE) -> Fanout:
    return Fanout(Jsonl(run.directory), lambda rows: viewer.open(run, rows))


def steps(tracker: Fanout, first: int, last: int) -> None:
    for step in range(first, last):
        row = {"train/a/reward": step / 8, "train/a/grad_norm": 1.0, "spent/a/data_points": 16.0 * step}
        tracker.log(row, step=step)


def summary() -> dict[str, Any]:
    """A front of two preferences, and the uniform one."""
    preferences = ([1.0, 0.0], [0.0, 1.0], [0.5, 0.5])
    points = [
        {"preference": w, "objectives": {"a": 0.5 + 0.1 * i, "b": 0.6}, "held_out": {"a": 0.4, "b": 0.5}}
        | {"utility": 0.5 + 0.01 * i, "mean_reward": 0.55, "kl": 1.5}
        for i, w in enumerate(preferences)
    ]
    graded = {"points": points, "uniform": points[2], "hypervolume": 0.25}
    cost = {"data_points_sum": 96.0}
    return {"objectives": ["a", "b"], "single_point": False, "decoding": {"greedy": graded}, "cost": cost, "seed": 3}


def test_wandb_shows_the_rows_of_the_record_and_how_the_run_ended(tmp_path: Path) -> None:
    run = identity(tmp_path, tags=("reflections", "emorl"), notes="emorl-bench seed=3")
    tracker = opened(run)
    steps(tracker, 0, 6)
    tracker.log({"train/b/reward": 0.5, "spent/b/data_points": 8.0}, step=0)
    samples = [
        {"split": "report", "decoding": "greedy", "preference": w, "example_id": str(i), "prompt": "p", "response": "r"}
        for w in range(3)
        for i in range(4 + w)
    ]
    tracker.table("samples", samples)
    (run.directory / "search.jsonl").write_text(
        "".join(json.dumps({"preference": [0.5, 0.5], "weights": [1, w], "utility": 0.5}) + "\n" for w in (0, 1, 2))
    )
    tracker.summarise(summary(), {"search": {"prompts": 24, "samples": 0}})
    tracker.close("done")

    (log,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    found = records(log)
    shown, recorded = history(tmp_path), read_rows(run.directory / "metrics.jsonl")
    assert [row["_step"] for row in shown] == [1, 2, 3, 4, 5, 6, 7]
    for row, expected in zip(shown, recorded, strict=True):
        drawn = {key: value for key, value in row.items() if key[0] != "_"}
        assert drawn.items() <= expected.items()
        assert {"train/reward", "data_points", "tokens", "seconds"} <= drawn.keys()
    assert "learner/a/train/reward" not in shown[0], "the only learner's reward is the method's"
    assert shown[-1]["learner/b/train/reward"] == 0.5
    (stored,) = [r["run"] for r in found if r["type"] == "run"]
    names = [stored[key] for key in ("run_id", "run_group", "job_type", "display_name", "notes")]
    assert names == ["ab12cd34", "reflections/tiny_t5/5eed5eed", "emorl", "emorl-s3", "emorl-bench seed=3"]
    assert stored["tags"] == ["reflections", "emorl"]
    axes = {r["metric"].get("glob_name") or r["metric"]["name"]: r["metric"] for r in found if r["type"] == "metric"}
    assert {"data_points", "tokens", "seconds"} <= axes.keys()
    assert all(axes[name]["step_metric"] == "data_points" for name in ("train/*", "eval/*", "search/*", "learner/*"))
    ended: dict[str, Any] = {}
    for record in found:
        ended |= record["summary"]["update"] if record["type"] == "summary" else {}
    assert ended["final/greedy/hypervolume"] == 0.25
    assert ended["final/greedy/objectives/a"] == 0.7
    assert ended["front/greedy/1.00-0.00/a"] == 0.5
    assert "front/greedy/0.50-0.50/a" not in ended, "the uniform preference has its name already"
    assert (ended["cost/data_points_sum"], ended["ledger/search/prompts"]) == (96, 24)
    assert "ledger/search/samples" not in ended
    assert [r["exit"]["exit_code"] for r in found if r["type"] == "exit"] == [0]
    files = log.parent / "files" / "media"
    tables = {path.name.split("_")[0]: json.loads(path.read_text()) for path in files.rglob("*.table.json")}
    preferences = [row[tables["samples"]["columns"].index("preference")] for row in tables["samples"]["data"]]
    assert preferences == ["0.50-0.50"] * 4 + ["1.00-0.00"] * 4 + ["0.00-1.00"] * 4
    assert tables["front"]["data"][0][:2] == ["0.50-0.50", "greedy"]
    pictures = {path.name.split("_")[0]: path.read_bytes() for path in files.rglob("*.png")}
    assert set(pictures) == {"front", "search", "scores"}
    assert all(min(Image.open(BytesIO(png)).size) > 200 for png in pictures.values())
    keys = {key.split(".")[0] for r in found if r["type"] == "history" for key in r["history"]["item"] if key[0] != "_"}
    assert len(keys) <= 40


def apart(program: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run a program in a process that has its own service of W&B, as a job has."""
    own = {key: value for key, value in os.environ.items() if key != "WANDB_SERVICE"}
    return subprocess.run([sys.executable, "-c", program, *arguments], env=own, timeout=120, check=False)


KILLED = """
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_wandb_view import identity, opened, steps
tracker = opened(identity(Path(sys.argv[2]), "cd56ef78"))
steps(tracker, int(sys.argv[3]), int(sys.argv[4]))
time.sleep(2)  # W&B writes what it has twice a second
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_every_row_of_a_killed_run_is_in_wandb_once(tmp_path: Path) -> None:
    """Two sessions are killed without a warning; each goes on from an earlier checkpoint; a third comes to the end."""
    for first, last in ((0, 12), (8, 20)):
        arguments = [str(Path(__file__).parent), str(tmp_path), str(first), str(last)]
        done = apart(KILLED, *arguments)
        assert done.returncode == -signal.SIGKILL
        assert len(history(tmp_path, "cd56ef78")) == last, "rows are in the file soon after they are logged"
    run = identity(tmp_path, "cd56ef78")
    assert len(read_rows(run.directory / "metrics.jsonl")) == 20
    tracker = opened(run)
    steps(tracker, 16, 25)
    tracker.close("done")
    shown, recorded = history(tmp_path, "cd56ef78"), read_rows(run.directory / "metrics.jsonl")
    assert [row["_step"] for row in shown] == list(range(1, 26))
    assert (
        [row["train/reward"] for row in shown]
        == [row["train/reward"] for row in recorded]
        == [step / 8 for step in range(25)]
    )


def test_a_run_that_starts_afresh_leaves_no_rows_of_the_one_before(tmp_path: Path) -> None:
    import wandb

    run = identity(tmp_path, "12345678")
    first = opened(run)
    steps(first, 0, 5)
    first.close("failed")
    wandb.teardown()  # gives the id back, as the end of a process does
    run.directory.joinpath("metrics.jsonl").unlink()
    second = opened(run)
    steps(second, 0, 3)
    second.close("done")
    assert [row["_step"] for row in history(tmp_path, "12345678")] == [1, 2, 3]


def test_all_runs_of_a_directory_lie_together_and_one_command_sends_them(tmp_path: Path) -> None:
    for id in ("11112222", "33334444"):
        tracker = opened(identity(tmp_path, id))
        steps(tracker, 0, 2)
        tracker.close("done")
    paths = [str(path) for path in sorted(tmp_path.glob("wandb/offline-run-*"))]
    assert len(paths) == 2
    environment = os.environ | {"WANDB_API_KEY": "a" * 40}
    command = [sys.executable, "-m", "wandb", "sync", "--dry-run", *paths]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=True)
    assert all(id in done.stdout + done.stderr for id in ("11112222", "33334444"))


def test_a_logged_in_user_out_of_reach_records_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    tried: list[str] = []
    init = wandb.init

    def out_of_reach(*, mode: str, **options: Any) -> Any:
        tried.append(mode)
        if mode == "online":
            raise wandb.errors.CommError("no such host")
        return init(mode="offline", **options)

    monkeypatch.setattr(wandb, "init", out_of_reach)
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)  # somebody is logged in
    monkeypatch.delenv("WANDB_MODE", raising=False)
    view = Wandb("emorl-bench", None, "auto").open(identity(tmp_path, "55556666"), [])
    view.log({"train/reward": 0.5, "data_points": 1.0}, row=1)
    view.close("failed")
    assert tried == ["online", "offline"]
    (log,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert [r["exit"]["exit_code"] for r in records(log) if r["type"] == "exit"] == [1]
    with pytest.raises(wandb.errors.CommError):  # who says online means online
        Wandb("emorl-bench", None, "online").open(identity(tmp_path, "77778888"), [])


class Server:
    """A run on a server that has the first rows of an earlier session."""

    resumed = True

    def __init__(self, known: int) -> None:
        self.starting_step = known + 1
        self.logged: list[int] = []

    def define_metric(self, name: str, **_: Any) -> None: ...

    def log(self, row: dict[str, float], *, step: int, commit: bool = False) -> None:
        assert commit, "a row that waits for the next one is lost where there is no next one"
        self.logged.append(step)


@pytest.mark.parametrize(("known", "sent"), [(0, [1, 2, 3, 4]), (2, [3, 4]), (4, [])])
def test_a_server_is_sent_the_rows_that_it_has_not_got(known: int, sent: list[int]) -> None:
    from emorl_bench.tracking.wandb import WandbView

    server = Server(known)
    view = WandbView(server, [{"train/reward": 0.5, "data_points": float(i)} for i in range(4)])
    assert server.logged == sent
    view.log({"train/reward": 0.5, "data_points": 5.0}, row=5)
    assert server.logged == [*sent, 5]


TERMINATED = """
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_wandb_view import identity, opened, steps
from emorl_bench.core.signals import Terminated, signals_interrupt
tracker, ended = opened(identity(Path(sys.argv[2]))), "failed"
try:
    with signals_interrupt():
        steps(tracker, 0, 7)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
except Terminated:
    sys.exit(143)
finally:
    tracker.close(ended)
"""


def test_sigterm_ends_the_run_in_wandb_with_all_its_rows(tmp_path: Path) -> None:
    arguments = [str(Path(__file__).parent), str(tmp_path)]
    done = apart(TERMINATED, *arguments)
    assert done.returncode == 143
    assert [row["_step"] for row in history(tmp_path)] == list(range(1, 8))
    (log,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert [r["exit"]["exit_code"] for r in records(log) if r["type"] == "exit"] == [1]


def test_signals_interrupt_inside_the_block_and_nowhere_else() -> None:
    from emorl_bench.core.signals import Terminated, signals_interrupt

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt) as raised, signals_interrupt():
        signal.raise_signal(signal.SIGTERM)
    assert raised.type is Terminated
    assert signal.getsignal(signal.SIGTERM) == before


def test_only_offline_files_of_earlier_sessions_of_the_run_are_removed(tmp_path: Path) -> None:
    from emorl_bench.tracking.wandb import _remove_earlier

    stamp = "offline-run-20260101_000000"
    kept = [f"{stamp}-ab12cd34-1", f"{stamp}-ef56ab78", "run-20260101_000000-ab12cd34"]  # now, another run, online
    for name in (*kept, f"{stamp}-ab12cd34", "offline-run-20251231_235959-ab12cd34-2"):
        (tmp_path / "wandb" / name).mkdir(parents=True)
    _remove_earlier(tmp_path, "ab12cd34", tmp_path / "wandb" / kept[0])
    assert sorted(path.name for path in (tmp_path / "wandb").iterdir()) == sorted(kept)
