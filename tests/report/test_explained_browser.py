"""Explained answers in report.html, in a real browser: words, shares, totals, keyboard, hostile texts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.explained_answers import ASKED, HOSTILE, WEIGHTS, write_explained
from support.synthetic_runs import write_run

from emorl_bench.report.comparison import comparisons
from emorl_bench.report.html.browser import INSTALL, chromium, headless
from emorl_bench.report.html.explained_file import Told, read_explained
from emorl_bench.report.html.screenshot import DESKTOP, PHONE
from emorl_bench.report.html.write import write_html
from emorl_bench.report.read import read_runs

pytest.importorskip("playwright", reason=INSTALL)
pytestmark = pytest.mark.skipif(chromium() is None, reason=INSTALL)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with headless() as found:
        yield found


@pytest.fixture(scope="module")
def contents() -> dict[str, Any]:
    return {}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, contents: dict[str, Any]) -> list[Told]:
    dir = tmp_path_factory.mktemp("explained")
    contents["first"] = write_explained(dir / "first.json")["runs"][0]["explanation"]
    contents["second"] = write_explained(dir / "second.json", "mod/s0-1", 2, 3)["runs"][0]["explanation"]
    return [one for name in ("first", "second") for one in read_explained(dir / f"{name}.json")]


def opened(browser: Any, tmp_path: Path, told: list[Told], said: list[str]) -> Any:
    for method in ("emorl", "base"):
        write_run(tmp_path / "runs", method, 0, level=0.5)
    runs, unfinished = read_runs(tmp_path / "runs")
    path = write_html(comparisons(runs), unfinished, [tmp_path / "runs"], tmp_path, "emorl", told)
    page = browser.new_page(viewport=DESKTOP)
    page.set_default_timeout(10_000)
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(path.resolve().as_uri())
    return page


@pytest.fixture
def page(browser: Any, tmp_path: Path, told: list[Told]) -> Iterator[Any]:
    said: list[str] = []
    found = opened(browser, tmp_path, told, said)
    yield found
    assert said == []
    assert found.evaluate("window.broken") is None
    found.close()


def check_words(page: Any, answer: dict[str, Any]) -> None:
    """Each word has the letter of the expert with the largest share, and shows its shares when it is pointed at."""
    shown = page.locator("#words").evaluate("element => element.textContent")
    assert shown == "".join(token["text"] for token in answer["tokens"])
    for i, token in enumerate(answer["tokens"]):
        word = page.locator("#words .word").nth(i)
        largest = max(range(3), key=token["shares"].__getitem__)
        wanted = None if token["decided"] is None else "ABC"[largest]
        assert word.get_attribute("data-letter") == wanted
        look = word.get_attribute("class").split()
        assert (f"pattern-{largest}" in look) == (wanted is not None)
        assert ("pivotal" in look) == (wanted is not None and token["pivotal"][largest])
        assert ("shared" in look) == (wanted is not None and token["decided"][largest] < 0.5)
        word.hover()
        assert page.locator("#words .pointed").count() == 1
        table = page.locator("#word table")
        assert f"margin {token['margin']:.2f} nats" in table.locator("caption").inner_text().replace("−", "-")
        assert "“instead”, the runner-up" in table.locator("caption").inner_text()
        for m in range(3):
            weight, share, part, alone = table.locator("tbody tr").nth(m).locator("td").all_inner_texts()
            assert float(weight) == WEIGHTS[m]
            assert float(share.replace("−", "-")) == pytest.approx(token["shares"][m], abs=0.0051)
            if wanted is None:
                assert part == "–"
            else:
                assert float(part.removesuffix(" %")) == pytest.approx(100 * token["decided"][m], abs=0.51)
            assert alone == ("the same" if token["agrees"][m] else f"“own{m}”")


def test_words_are_shown_with_those_who_said_them(page: Any, contents: dict[str, Any]) -> None:
    first, second = contents["first"], contents["second"]
    check_words(page, first["answers"][0])
    assert page.locator("#spoken .legend li").all_inner_texts() == [
        f"{name} weight {weight:.2f}" for name, weight in zip(ASKED, WEIGHTS, strict=True)
    ]
    page.click("#explained-next")
    assert page.locator("#spoken blockquote").evaluate("e => e.textContent") == HOSTILE
    check_words(page, first["answers"][1])
    assert page.locator("#explained img, #explained script").count() == 0
    page.select_option("#explained-prompt", "3")
    check_words(page, first["answers"][3])
    assert page.locator("#explained-next").is_disabled()
    page.select_option("#explained-run", "1")
    check_words(page, second["answers"][0])
    assert "not among the runs of this report" in page.inner_text("#explained-totals")


def test_totals_stand_beside_the_weights_that_were_asked_for(page: Any, contents: dict[str, Any]) -> None:
    totals = contents["first"]["totals"]
    assert "All 4 answers in first.json: 28 tokens." in page.inner_text("#explained-totals caption")
    for m, (name, asked) in enumerate(ASKED.items()):
        row = page.locator("#explained-totals tbody tr").nth(m)
        assert row.locator("th").inner_text() == f"{'ABC'[m]} {name}"
        wanted, weight, *parts = row.locator("td").all_inner_texts()
        assert (wanted, weight) == (f"{asked:.2f}", f"{WEIGHTS[m]:.2f}")
        whole = [100 * totals[key][m] for key in ("decided", "margin", "pivotal", "agrees")]
        assert [float(part.removesuffix(" %")) for part in parts] == pytest.approx(whole, abs=0.51)


def test_the_keyboard_goes_from_word_to_word(page: Any) -> None:
    words = page.locator("#words .word")
    words.first.focus()
    said = []
    for key in ("ArrowRight", "ArrowRight", "End", "ArrowRight", "Home", "ArrowLeft"):
        page.keyboard.press(key)
        said.append(page.locator("#word caption").inner_text().split(" against")[0])
    assert said == ["“word1”", "“word2”", "“[end]”", "“[end]”", "“word0”", "“word0”"]
    assert page.locator("#words [tabindex='0']").count() == 1


def test_experts_are_told_apart_without_colour(page: Any) -> None:
    lines = page.locator("#spoken .legend .said-by").evaluate_all(
        "all => all.map(e => [getComputedStyle(e).textDecorationStyle, getComputedStyle(e, '::after').content])"
    )
    assert lines == [["solid", '"A"'], ["double", '"B"'], ["dotted", '"C"']]


def test_no_serious_barrier_and_no_sideways_scrolling_on_a_phone(page: Any) -> None:
    page.set_viewport_size(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python")
    violations = axe.Axe().run(page).response["violations"]
    told = [(one["id"], [node["html"][:120] for node in one["nodes"]][:3], one["impact"]) for one in violations]
    assert [one for one in told if one[2] in ("serious", "critical")] == []


def test_without_explained_answers_the_part_is_absent(browser: Any, tmp_path: Path) -> None:
    said: list[str] = []
    page = opened(browser, tmp_path, [], said)
    assert page.locator("#explained").count() == 0
    assert "Which expert" not in page.inner_text("nav")
    assert said == []
    page.close()
