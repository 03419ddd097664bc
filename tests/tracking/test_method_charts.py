"""Every method shows the same numbers under the same names, over axes that never fall, in at most 40 charts."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import word_prompts
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from emorl_bench.config import schema
from emorl_bench.config.compose import conf_dir, plain
from emorl_bench.core.protocols import Bench
from emorl_bench.core.types import Budget
from emorl_bench.runner.bench import spent_by
from emorl_bench.tracking.charts import Charts
from emorl_bench.tracking.method_rows import AXES, MethodRows

METHODS = sorted(path.stem for path in (conf_dir() / "method").glob("*.yaml"))
UNTRAINED = ("base",)
SEARCH = {"search/evaluations", "search/utility"}
TRAIN = {"train/reward", "train/even", "train/odd", "train/kl"}
EVAL = {"eval/mean_reward", "eval/even", "eval/odd", "eval/utility"}
NOTHING_TOGETHER = ("mod", "param_merge_uniform", "single_objective")
"""Experts that are blended without a search, or not at all: nothing has told what they are worth together."""
MEDIA = 5  # two tables and three pictures


class Recorded:
    """A tracker that makes rows of the method."""

    def __init__(self) -> None:
        self.made, self.rows = MethodRows(), []

    def log(self, metrics: Any, *, step: int) -> None:
        row = self.made.row(metrics, step)
        self.rows += [] if row is None else [row]

    def table(self, name: str, rows: Any) -> None: ...
    def close(self, status: str) -> None: ...


def settings(method: str) -> dict[str, Any]:
    schema.register()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return plain(compose("config", overrides=[f"method={method}"]))


def fitted(bench: Callable[..., Bench], name: str) -> Recorded:
    config, tracker = settings(name), Recorded()
    own = config["method"]
    own |= {"objective": "even"} if "objective" in own else {}
    if name == "ric":  # the words in which it is told scores must be words of the tiny models
        own["tags"] = {"even": [f"w{i}" for i in range(4, 14, 2)], "odd": [f"w{i}" for i in range(5, 15, 2)]}
    made = bench(
        "gpt2",
        update=instantiate(config["update"], _convert_="object"),
        tracker=tracker,
        budget=Budget(prompts=96),
        select=word_prompts(2),
        preferences=((1.0, 0.0), (0.5, 0.5), (0.0, 1.0)),
    )
    solution = instantiate(own, _convert_="object").fit(made)
    solution.policy_for(torch.tensor([0.5, 0.5], dtype=torch.float64))
    tracker.log({"train/kl": 0.5, **spent_by(made.ledger)}, step=int(made.ledger.totals()["optimiser_steps"]))
    assert tracker.rows[-1]["data_points"] == made.ledger.spent, "the last row has all that was spent"
    return tracker


@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_the_numbers_of_all_methods(bench: Callable[..., Bench], tmp_path: Path, name: str) -> None:
    rows = fitted(bench, name).rows
    keys = {key for row in rows for key in row}
    wanted = SEARCH | TRAIN | EVAL | set(AXES)
    if name in UNTRAINED:
        wanted = {"search/evaluations", *AXES}
    elif name in NOTHING_TOGETHER:
        wanted -= {"search/utility"}
    if name == "single_objective":
        wanted -= {"train/odd", "eval/odd"}
    assert wanted <= keys
    for axis in AXES:
        assert all(before[axis] <= after[axis] for before, after in pairwise(rows)), axis
    charts = Charts()
    shown = {key for row in rows for key in charts.of(row)}
    assert wanted <= shown, "what is a learner's own never displaces what is the method's"
    assert len(shown) + MEDIA <= 40
    assert not {key for key in keys if key.startswith(("cost/", "final/", "ledger/"))}, "the history holds curves only"
