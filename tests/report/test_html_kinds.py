"""report.html of unusual reports: one to four objectives, no gold, one seed, methods that choose, hostile names."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.html_runs import write_answers, write_everything
from support.synthetic_runs import METHODS, add_gold, write_run

from emorl_bench.report.comparison import comparisons
from emorl_bench.report.html.browser import INSTALL, chromium, headless
from emorl_bench.report.html.payload import DRAWN
from emorl_bench.report.html.screenshot import DESKTOP, PHONE
from emorl_bench.report.html.write import write_html
from emorl_bench.report.read import read_runs

pytest.importorskip("playwright", reason=INSTALL)
pytestmark = pytest.mark.skipif(chromium() is None, reason=INSTALL)
HOSTILE = ("<img src=x onerror='window.broken=1'>", "a & b <i>c</i>", "{{data}}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with headless() as found:
        yield found


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Callable[[Path], Any]]:
    """Opens the report of a directory of runs. At the end the browser had nothing to complain of."""
    said: list[str] = []

    def open_report(root: Path) -> Any:
        runs, unfinished = read_runs(root)
        (out := tmp_path / "out").mkdir()
        path = write_html(comparisons(runs), unfinished, [root], out, "emorl")
        page = browser.new_page(viewport=DESKTOP)
        page.set_default_timeout(10_000)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(path.resolve().as_uri())
        return page

    yield open_report
    assert said == []


def names(page: Any, table: str) -> list[str]:
    return [row.get_attribute("data-method") for row in page.query_selector_all(f"{table} tbody tr")]


@pytest.mark.parametrize("objectives", [("one",), ("one", "two"), ("one", "two", "three", "four"), HOSTILE])
def test_any_number_of_objectives_without_gold(opened: Any, tmp_path: Path, objectives: tuple[str, ...]) -> None:
    for method in ("emorl", "base", "cory"):
        dir = write_run(tmp_path / "runs", method, 0, objectives=objectives)
        write_answers(dir, json.loads((dir / "summary.json").read_text()), method, 0, objectives)
    page = opened(tmp_path / "runs")
    assert set(names(page, "#ranking")) == {"emorl", "base", "cory"}
    assert page.locator("#preference input[type=range]:visible").count() == (len(objectives) if objectives[1:] else 0)
    assert page.locator("#fronts").is_visible() == bool(objectives[1:])
    assert "±" not in page.inner_text("#methods tbody")  # one seed has no interval
    assert page.locator("#judge option").all_inner_texts() == ["scorers", "held-out scorers"]
    assert "Largest scorer–held-out gap first" in page.inner_text("#answers-controls")
    shown = page.locator("#answer .card").first.locator("tbody th").evaluate_all("all => all.map(e => e.textContent)")
    assert shown == [*objectives, "utility"]
    assert page.locator("main img").count() == 0
    assert page.evaluate("window.broken") is None
    page.select_option("#decoding", "sampled")


def test_a_method_that_chooses_with_the_scorers_is_ranked_by_gold_alone(opened: Any, tmp_path: Path) -> None:
    for method in ("base", "cory"):
        for seed in range(3):
            add_gold(write_run(tmp_path / "runs", method, seed), gap=0.05)
    for seed in range(3):
        add_gold(write_run(tmp_path / "runs", "best_of_n", seed, level=0.9), gap=0.2, chooses_with_scorers=True)
    page = opened(tmp_path / "runs")
    assert names(page, "#ranking")[0] == "best_of_n"
    page.select_option("#judge", "objectives")
    assert names(page, "#ranking")[-1] == "best_of_n"
    last = page.locator("#ranking tbody tr").last.locator("td").all_inner_texts()
    assert last[0] == "–"
    assert last[1].startswith("(")
    assert "best_of_n" not in [
        one[0] for one in page.evaluate("document.getElementById('ladder').data.map(o => [o.name])")
    ]


def test_runs_that_differ_in_the_kl_coefficient_are_joined_by_a_line(opened: Any, tmp_path: Path) -> None:
    for coefficient in (0.0, 0.1, 0.2):
        for seed in range(2):
            level = 0.8 - coefficient
            dir = write_run(tmp_path / f"{coefficient}", "cory", seed, level=level, kl_coefficient=coefficient)
            summary = json.loads((dir / "summary.json").read_text())
            for graded in summary["decoding"].values():
                for point in [*graded["points"], graded["uniform"]]:
                    point["kl"] = 10 * level
            (dir / "summary.json").write_text(json.dumps(summary))
    page = opened(tmp_path)
    lines = page.evaluate(
        "document.getElementById('reward-kl').data.filter(o => o.mode === 'lines').map(o => [o.name, o.x])"
    )
    assert lines == [["cory, by KL coefficient", [6, 7, 8]]]


def test_many_methods_are_grey_but_for_the_best_the_reference_and_the_base(opened: Any, tmp_path: Path) -> None:
    levels = {f"method_{i:02}": 0.5 + 0.01 * i for i in range(20)} | {"emorl": 0.31, "base": 0.3}
    for method, level in levels.items():
        write_run(tmp_path / "runs", method, 0, level=level)
    page = opened(tmp_path / "runs")
    assert page.inner_text("#drawn summary") == f"Methods in colour: {DRAWN} of 22"
    best = [f"method_{i:02}" for i in range(19, 9, -1)]
    assert page.locator("#kl .legend li").all_inner_texts()[:DRAWN] == [
        *(f"{name} †" for name in best),
        "emorl",
        "base †",
    ]
    assert len(names(page, "#ranking")) == 22


def test_another_task_changes_the_whole_page(opened: Any, tmp_path: Path) -> None:
    write_everything(tmp_path / "runs", {name: METHODS[name] for name in ("emorl", "base")}, (0,))
    other = {"names": {"task": "sums", "model": "causal", "method": "cory"}, "objectives": ("right", "short")}
    write_run(tmp_path / "runs" / "other", "cory", 0, fingerprint="9", **other)
    page = opened(tmp_path / "runs")
    assert page.locator("#conclusions h3").all_inner_texts() == ["reflections · seq2seq", "sums · causal"]
    assert set(names(page, "#ranking")) == {"emorl", "base"}
    page.select_option("#task", label="sums · causal")
    assert names(page, "#ranking") == ["cory"]
    assert page.locator("#preference .slider label").all_inner_texts() == ["right", "short"]
    assert "recorded no answers" in page.inner_text("#answers")
    assert page.locator("#answers-controls").is_hidden()
    assert "did not record their settings" in page.inner_text("#settings")


def test_a_long_name_leaves_room_for_numbers_on_a_phone(opened: Any, tmp_path: Path) -> None:
    name = "weighted_scst_with_a_name_that_is_longer_than_a_phone_is_wide"
    for method in (name, "base"):
        write_run(tmp_path / "runs", method, 0, level=0.5)
    page = opened(tmp_path / "runs")
    page.set_viewport_size(PHONE)
    box = page.locator(f'#methods tr[data-method="{name}"] th').bounding_box()
    assert box["x"] + box["width"] < PHONE["width"] / 2 + 10
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
