"""A tracker is named by its class; what is wrong with it is said in one line before anything starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emorl_bench.cli import bench
from emorl_bench.config import trackers
from emorl_bench.config.trackers import check_tracker
from emorl_bench.core.errors import UserError
from emorl_bench.tracking.charts import Charts
from emorl_bench.tracking.method_rows import MethodRows


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["tracker=trackio"], "needs the package trackio; pip install 'emorl-bench[trackio]', or say tracker=local"),
        (["tracker=tensorboard"], "needs the package tensorboard; pip install 'emorl-bench[tensorboard]'"),
        (["-m", "method=base", "tracker=local,trackio"], "needs the package trackio"),
        (["tracker=wandbb"], "did you mean 'wandb'?"),
        (["tracker.mode=onlin"], "tracker.mode=onlin: wrong type; give auto or online or offline or null"),
        (["+tracker.projct=x"], "tracker.projct=x: Wandb has no such key; did you mean 'project'?"),
        (["tracker._target_=emorl_bench.tracking.view.Nothing"], "cannot be imported"),
        (["tracker._target_=logging.FileHandler"], "is named neither by conf nor by a file of --config-dir"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refused: Callable[..., str],
    arguments: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trackers, "find_spec", lambda package: None)
    assert says in refused(bench.main, *arguments)
    assert not list(tmp_path.rglob("status.json")), "nothing has started"


def test_a_tracker_without_a_class_is_refused() -> None:
    with pytest.raises(UserError, match="names no class"):
        check_tracker({"name": "local"})


def many(learners: int, numbers: int, objectives: int) -> list[dict[str, Any]]:
    """The rows of a method with many learners, as it logs them."""
    made, rows = MethodRows(), []
    names = [f"o{i}" for i in range(objectives)]
    for step in range(3):
        for learner in (f"l{i}" for i in range(learners)):
            scores = dict.fromkeys(names, 0.5)
            judged = {f"eval/{learner}/{k}": v for k, v in (scores | {"mean_reward": 0.5, "utility": 0.5}).items()}
            own = {f"n{i}": 0.1 for i in range(numbers)} | {"reward": 0.5, "kl": 0.1, "length": 3.0, "loss": 0.2}
            trained = {f"train/{learner}/{k}": v for k, v in (scores | own).items()}
            rows += [made.row(judged | {f"spent/{learner}/data_points": float(step)}, step), made.row(trained, step)]
    found = {"search/utility": 0.5, "search/evaluations": 1.0, "spent/search/data_points": 1.0}
    rows.append(made.row(found, 1))
    return [row for row in rows if row is not None]


@pytest.mark.parametrize(("learners", "numbers", "objectives"), [(1, 60, 3), (10, 20, 3), (3, 8, 12), (40, 1, 2)])
def test_a_view_draws_a_few_charts_those_of_the_method_first(learners: int, numbers: int, objectives: int) -> None:
    charts = Charts()
    rows = many(learners, numbers, objectives)
    shown = [charts.of(row) for row in rows]
    keys = {key for row in shown for key in row}
    assert len(keys) + 5 <= 40, "with two tables and three pictures"
    wanted = {"train/reward", "train/kl", "eval/mean_reward", "eval/utility", "search/utility", "search/evaluations"}
    assert wanted <= keys
    assert len(keys) > 25, "room is used"
    again = Charts()
    assert [again.of(row) for row in rows] == shown, "a session that goes on draws the same"
