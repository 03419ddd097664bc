"""report.html in a real browser: performance profiles, and a paper's figures beside runs of its task and of another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.html_runs import write_everything
from support.synthetic_runs import write_run

from emorl_bench.report.comparison import comparisons
from emorl_bench.report.html.browser import INSTALL, chromium, headless
from emorl_bench.report.html.write import write_html
from emorl_bench.report.published import published
from emorl_bench.report.read import read_runs

pytest.importorskip("playwright", reason=INSTALL)
pytestmark = pytest.mark.skipif(chromium() is None, reason=INSTALL)

LEVELS = {"emorl": 0.5, "cory": 0.45, "base": 0.3}
SEEDS = (0, 1, 2, 3, 4)
PAPER = "emorl_2505_02579"


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of the embedded task, and two of the paper's task with another model."""
    root = write_everything(tmp_path_factory.mktemp("runs"), LEVELS, SEEDS)
    for seed in (0, 1):
        write_run(root / "pair", "emorl", seed, names={"task": "pair", "model": "causal", "method": "emorl"})
    return root


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with headless() as found:
        yield found


@pytest.fixture
def page(browser: Any, runs_dir: Path, tmp_path: Path) -> Iterator[Any]:
    runs, unfinished = read_runs(runs_dir)
    file = write_html(comparisons(runs), unfinished, [runs_dir], tmp_path, "emorl", paper=published(PAPER))
    said: list[str] = []
    found = browser.new_page()
    found.set_default_timeout(10_000)
    found.on("console", lambda message: said.append(message.text))
    found.on("pageerror", lambda error: said.append(str(error)))
    found.goto(file.resolve().as_uri())
    yield found
    assert said == []
    found.close()


def choose(page: Any, task: str) -> None:
    titles = page.locator("#task option").all_inner_texts()
    page.select_option("#task", str(next(n for n, title in enumerate(titles) if task in title)))


def test_a_profile_is_the_share_of_runs_above_each_threshold(page: Any, runs_dir: Path) -> None:
    choose(page, "reflections")
    page.select_option("#judge", "gold")  # the page keeps the judge of the task before, which has no gold
    lines = page.evaluate(
        "document.getElementById('profile-plot').data.map(one => [one.name, one.x, one.y, one.line.shape])"
    )
    assert {name for name, *_ in lines} == set(LEVELS)
    runs, _ = read_runs(runs_dir)
    for name, x, y, shape in lines:
        graded = [run.decoding["greedy"] for run in runs if run.method == name and run.task == "reflections"]
        worth = np.array([round(record["gold_deployed_utility"], 4) for record in graded])
        assert shape == "hv"  # from each point to the right
        assert len(worth) == len(SEEDS)
        for threshold, share in zip(x, y, strict=True):
            assert share == pytest.approx((worth > threshold).mean(), abs=1e-9)


def test_a_profile_of_few_runs_is_not_drawn(page: Any) -> None:
    choose(page, "pair")
    assert page.locator("#profile .plot").count() == 0
    assert "needs 5 runs of a method" in page.inner_text("#profile")


def test_figures_of_another_model_have_a_warning_and_of_another_task_are_refused(page: Any) -> None:
    choose(page, "pair")
    shown = page.inner_text("#published")
    assert "Warning: these runs are of model=causal, which is not the paper's model." in shown
    row = page.locator("#published tbody tr", has_text="Uniform weighted").first.inner_text()
    assert "0.835 ± 0.020" in row
    choose(page, "reflections")
    shown = page.inner_text("#published")
    assert "Not shown: the figures are of task=pair, and these runs of task=reflections." in shown
    assert page.locator("#published table").count() == 0


def test_there_is_no_part_for_published_figures_without_a_paper(browser: Any, runs_dir: Path, tmp_path: Path) -> None:
    runs, unfinished = read_runs(runs_dir)
    found = browser.new_page()
    found.goto(write_html(comparisons(runs), unfinished, [runs_dir], tmp_path, "emorl").resolve().as_uri())
    assert found.locator("#published").count() == 0
    assert found.locator("#profile").count() == 1
    found.close()
