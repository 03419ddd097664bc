"""report.html in a real browser: it ranks, sorts and shows what the runs say, and asks for nothing from outside."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.html_runs import FAILURE, HOSTILE_METHOD, HOSTILE_PROMPT, PROMPTS, SEEDS, write_everything
from support.synthetic_runs import METHODS, OBJECTIVES

from emorl_bench.report.comparison import comparisons
from emorl_bench.report.html.browser import INSTALL, chromium, headless
from emorl_bench.report.html.screenshot import DESKTOP, PARTS, PHONE, screenshots
from emorl_bench.report.html.write import write_html
from emorl_bench.report.read import read_runs

pytest.importorskip("playwright", reason=INSTALL)
pytestmark = pytest.mark.skipif(chromium() is None, reason=INSTALL)


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_everything(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def report(runs_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs, unfinished = read_runs(runs_dir)
    return write_html(comparisons(runs), unfinished, [runs_dir], tmp_path_factory.mktemp("out"), "emorl")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with headless() as found:
        yield found


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Any]:
    """The report in a window; at the end, nothing was complained of and nothing was asked for."""
    said: list[str] = []
    asked: list[str] = []
    found = browser.new_page(viewport=DESKTOP)
    found.set_default_timeout(10_000)
    found.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    found.on("pageerror", lambda error: said.append(str(error)))
    found.on("request", lambda request: asked.append(request.url))
    found.goto(report.resolve().as_uri())
    yield found
    assert said == []
    assert asked == [report.resolve().as_uri()]
    assert found.evaluate("window.broken") is None  # what hostile texts would set
    found.close()


def summaries(runs_dir: Path, method: str) -> list[dict[str, Any]]:
    base = runs_dir / "reflections" / "seq2seq" / method
    return [json.loads((base / f"s{seed}-00000000" / "summary.json").read_text()) for seed in SEEDS]


def ranked_by_hand(runs_dir: Path, weights: list[float], scores: str, decoding: str = "greedy") -> list[str]:
    """Methods by the mean over seeds of the weighted scores of their policy for the nearest graded preference."""
    means = {}
    for method in METHODS:
        worth = []
        for summary in summaries(runs_dir, method):
            grid = np.array(summary["preferences"])
            at = int(((grid - weights) ** 2).sum(1).argmin())
            worth.append(np.dot(weights, list(summary["decoding"][decoding]["points"][at][scores].values())))
        means[method] = np.mean(worth)
    return sorted(means, key=lambda method: -means[method])


def ranking(page: Any) -> list[str]:
    return [row.get_attribute("data-method") for row in page.query_selector_all("#ranking tbody tr")]


def slide(page: Any, values: list[int]) -> list[float]:
    """Set the sliders; returns the weights that they mean."""
    for k, value in enumerate(values):
        page.locator(f"#weight-{k}").fill(str(value))
    return [value / sum(values) for value in values]


def test_the_slider_ranks_the_methods_for_the_preference(page: Any, runs_dir: Path) -> None:
    orders = set()
    for values in ([100, 0, 0], [0, 100, 0], [10, 20, 70], [40, 35, 25], [33, 33, 33]):
        weights = slide(page, values)
        assert ranking(page) == ranked_by_hand(runs_dir, weights, "gold"), values
        orders.add(tuple(ranking(page)))
        said = page.inner_text("#ranked")
        assert said.startswith(f"For {', '.join(f'{n} {w:.2f}' for n, w in zip(OBJECTIVES, weights, strict=True))}: ")
        assert said.split(": ")[1].startswith(ranking(page)[0])
    assert len(orders) > 1  # the preference matters to these runs
    page.select_option("#judge", "objectives")
    weights = slide(page, [80, 10, 10])
    assert ranking(page) == ranked_by_hand(runs_dir, weights, "objectives")


def test_the_ranking_has_the_mean_and_student_s_interval(page: Any, runs_dir: Path) -> None:
    slide(page, [0, 0, 100])
    row = page.locator('#ranking tr[data-method="cory"]').inner_text()
    worth = []
    for summary in summaries(runs_dir, "cory"):
        at = summary["preferences"].index([0.0, 0.0, 1.0])
        worth.append(summary["decoding"]["greedy"]["points"][at]["gold"]["fluency"])
    half = 4.302653 * np.std(worth, ddof=1) / 3**0.5
    assert f"{np.mean(worth):.3f} ± {half:.3f}" in row


def test_a_graded_preference_can_be_chosen_and_moves_the_sliders(page: Any, runs_dir: Path) -> None:
    preferences = summaries(runs_dir, "emorl")[0]["preferences"]
    page.select_option("#graded", str(preferences.index([0.0, 1.0, 0.0])))
    assert [page.input_value(f"#weight-{k}") for k in range(3)] == ["0", "100", "0"]
    assert ranking(page) == ranked_by_hand(runs_dir, [0, 1, 0], "gold")
    page.locator("#weight-0").press("ArrowRight")  # the keyboard moves them too
    assert page.input_value("#graded") == ""


def column(page: Any, key: str) -> list[str]:
    place = [th.get_attribute("data-key") for th in page.query_selector_all("#methods thead th")].index(key)
    rows = page.query_selector_all("#methods tbody tr:not(.pinned)")
    return [row.query_selector_all("th, td")[place].inner_text() for row in rows]


@pytest.mark.parametrize(("key", "best_is_high"), [("gold_deployed_utility", True), ("data_points_sum", False)])
def test_a_heading_sorts_by_its_column(page: Any, key: str, best_is_high: bool) -> None:
    heading = page.locator(f'#methods th[data-key="{key}"]')
    for ascending in (not best_is_high, best_is_high):
        heading.locator("button").click()
        values = [float(re.split(" ±", cell)[0].replace(",", "")) for cell in column(page, key)]
        assert values == sorted(values, reverse=not ascending)
        assert heading.get_attribute("aria-sort") == ("ascending" if ascending else "descending")
        assert page.query_selector("#methods tbody tr").inner_text().startswith("ceiling")  # it stays on top
    assert len(set(column(page, key))) > 1


def test_the_table_is_filtered_and_keeps_its_order(page: Any) -> None:
    page.locator('#methods th[data-key="method"] button').press("Enter")
    names = column(page, "method")
    assert names == sorted(names)
    page.fill("#methods-search", "P")
    assert column(page, "method") == [name for name in names if "p" in name.split(" ")[0]]
    page.fill("#methods-search", "")
    assert page.locator('#methods th[data-key="next_objective_prompts"]').count() == 0
    page.get_by_label("change", exact=True).check()
    assert column(page, "next_objective_prompts") == ["1,200"] * len(METHODS)


def answers_of(runs_dir: Path, method: str, decoding: str, preference: int) -> dict[str, dict[str, Any]]:
    path = runs_dir / "reflections" / "seq2seq" / method / "s0-00000000" / "samples.jsonl"
    rows = [json.loads(line) for line in path.read_text().split("\n") if line]
    policy = preference if method in ("emorl", "param_merge") else 0
    wanted = {"decoding": decoding, "preference": policy, "sample": 0}
    return {row["example_id"]: row for row in rows if wanted.items() <= row.items()}


def test_answers_stand_side_by_side_with_all_their_scores(page: Any, runs_dir: Path) -> None:
    preferences = summaries(runs_dir, "emorl")[0]["preferences"]
    chosen = ["cory", HOSTILE_METHOD, "emorl"]
    for place, method in enumerate(chosen, 1):
        page.select_option(f"#method-{place}", method)
    page.select_option("#answers-preference", str(preferences.index([1.0, 0.0, 0.0])))
    page.select_option("#decoding", "sampled")
    page.select_option("#judge", "held_out")  # what charts are judged by does not matter here
    for i in (0, 1, 3):
        page.locator(f'[data-prompt="{i}"]').click()
        for method in chosen:
            row = answers_of(runs_dir, method, "sampled", preferences.index([1.0, 0.0, 0.0]))[f"e{i}"]
            card = page.locator(f'#answer .card[data-method="{method}"]')
            assert card.locator(".text").evaluate("element => element.textContent") == row["response"]
            for k, name in enumerate(OBJECTIVES):
                cells = card.locator("tbody tr").nth(k).locator("td").all_inner_texts()
                scores = [row[name], row[f"held_out/{name}"], row[f"gold/{name}"]]
                assert [float(cell) for cell in cells[:3]] == pytest.approx(scores, abs=0.0056)
                assert ("▲" in cells[3]) == (round(1000 * row[name]) - round(1000 * row[f"gold/{name}"]) >= 200)
    assert page.locator("#answer blockquote").evaluate("e => e.textContent") != HOSTILE_PROMPT
    page.locator('[data-prompt="1"]').click()
    assert page.locator("#answer blockquote").evaluate("e => e.textContent") == HOSTILE_PROMPT
    assert page.locator("#answers script, #answers img, #answers b").count() == 0
    assert page.locator("#failed td").last.evaluate("e => e.textContent") == FAILURE


def test_largest_gap_first_is_one_click(page: Any, runs_dir: Path) -> None:
    page.select_option("#method-1", "cory")
    page.select_option("#method-2", "weighted_ppo")
    page.click("#largest-gap")
    uniform = next(w for w, one in enumerate(summaries(runs_dir, "emorl")[0]["preferences"]) if np.allclose(one, 1 / 3))
    gaps = {}
    for i in range(PROMPTS):
        rows = [answers_of(runs_dir, name, "greedy", uniform)[f"e{i}"] for name in ("cory", "weighted_ppo")]
        gaps[i] = max(np.mean([row[name] - row[f"gold/{name}"] for name in OBJECTIVES]) for row in rows)
    listed = [int(button.get_attribute("data-prompt")) for button in page.query_selector_all("[data-prompt]")]
    assert listed == sorted(gaps, key=lambda i: -gaps[i])
    assert page.locator("[aria-current]").get_attribute("data-prompt") == str(listed[0])
    page.click("#next")
    assert page.locator("[aria-current]").get_attribute("data-prompt") == str(listed[1])
    assert page.evaluate("document.activeElement.id") == "next"  # the keyboard goes on from there


def test_search_and_differences(page: Any, runs_dir: Path) -> None:
    page.select_option("#method-1", "cory")
    page.select_option("#method-2", "weighted_ppo")
    marked = page.locator('#answer .card[data-method="weighted_ppo"] mark').all_inner_texts()
    assert marked == ["weighted_ppo"]
    page.fill("#answers-search", "to PROMPT 4 for")
    assert [one.get_attribute("data-prompt") for one in page.query_selector_all("[data-prompt]")] == ["4"]
    page.fill("#answers-search", "no such word")
    assert "0 of 9 prompts" in page.inner_text("#answers-count")
    page.fill("#answers-search", "")
    page.select_option("#method-2", "cory")
    page.check("#answers-differ")
    assert page.locator("[data-prompt]").count() == 0
    assert page.locator("mark").count() == 0


def test_charts_follow_the_choice_of_methods(page: Any) -> None:
    count = "id => document.getElementById(id).data.filter(one => one.name !== 'other methods').length"
    assert page.evaluate(count, "reward-kl") == len(METHODS)
    page.locator("#drawn summary").click()
    page.locator("#drawn label", has_text="cory").click()
    assert page.evaluate(count, "reward-kl") == len(METHODS) - 1
    grey = "id => document.getElementById(id).data.find(one => one.name === 'other methods').text"
    assert page.evaluate(grey, "reward-kl") == ["cory"]
    page.get_by_role("button", name="none").click()
    assert page.evaluate(count, "reward-kl") == 0
    assert page.locator("#cost .legend li").all_inner_texts() == ["grey: the other methods"]


def test_the_ladder_is_that_of_the_runs(page: Any, runs_dir: Path) -> None:
    found = page.evaluate("document.getElementById('ladder').data.map(one => [one.name, one.x, one.y])")
    (line,) = [one for one in found if one[0] == "weighted_ppo"]
    ladders = [summary["ladder"] for summary in summaries(runs_dir, "weighted_ppo")]
    wanted = np.mean([[r["decoding"]["greedy"]["gold_deployed_utility"] for r in rungs] for rungs in ladders], axis=0)
    assert line[1] == [900, 1800, 3600]
    assert line[2] == pytest.approx(wanted.tolist(), abs=1e-4)
    page.locator("#cost summary").click()
    cells = page.locator("#cost tbody tr", has_text="weighted_ppo").locator("td").all_inner_texts()
    assert cells[0::2] == ["900", "1,800", "3,600"]
    assert [float(cell.split(" ±")[0]) for cell in cells[1::2]] == pytest.approx(wanted.tolist(), abs=6e-4)


def test_no_serious_barrier_for_keyboards_and_screen_readers(page: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python")
    for details in page.query_selector_all("details:not([open]) > summary"):
        details.click()
    violations = axe.Axe().run(page).response["violations"]
    told = [(one["id"], one["impact"], [node["html"][:120] for node in one["nodes"]][:3]) for one in violations]
    assert [one for one in told if one[1] in ("serious", "critical")] == []


def test_a_phone_shows_the_page_without_scrolling_sideways(browser: Any, report: Path) -> None:
    page = browser.new_page(viewport=PHONE)
    page.goto(report.resolve().as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    for plot in page.query_selector_all(".plot"):
        assert plot.bounding_box()["width"] <= PHONE["width"]
    page.close()


def test_paper_has_every_chart_whole(browser: Any, report: Path) -> None:
    page = browser.new_page(viewport=DESKTOP)
    page.goto(report.resolve().as_uri())
    charts = "[...document.querySelectorAll('.plot')].map(one => one.querySelector('.main-svg').clientWidth)"
    page.wait_for_function(f"{charts}.every(width => width > 0)")
    on_screen = page.evaluate(charts)
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(charts) == [680] * 3  # pixels; a sheet of A4 has 794, less its margins
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    page.wait_for_function(f"JSON.stringify({charts}) === {json.dumps(json.dumps(on_screen, separators=(',', ':')))}")
    page.close()


def test_pictures_are_written(browser: Any, report: Path, tmp_path: Path) -> None:
    written = screenshots(browser, report, tmp_path / "pictures")
    assert len(written) == len(PARTS) + 2
    assert all(path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 10_000 for path in written)
