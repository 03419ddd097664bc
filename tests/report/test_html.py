"""report.html without a browser: what it holds, that nothing in it can leave its place, and how much fits."""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.html_runs import FAILURE, HOSTILE, HOSTILE_METHOD, HOSTILE_PROMPT, PROMPTS, SEEDS, write_everything
from support.synthetic_runs import METHODS, OBJECTIVES, write_run

from emorl_bench.cli.report import report
from emorl_bench.report.comparison import Comparison, comparisons
from emorl_bench.report.conclusion import conclude
from emorl_bench.report.html import page as pages
from emorl_bench.report.html.payload import page
from emorl_bench.report.html.samples import samples, spread
from emorl_bench.report.html.write import write_html
from emorl_bench.report.read import read_runs


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_everything(tmp_path_factory.mktemp("runs"))


def compared(root: Path) -> Comparison:
    (found,) = comparisons(read_runs(root)[0])
    return found


@pytest.fixture(scope="module")
def written(runs_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    runs, unfinished = read_runs(runs_dir)
    path = write_html(comparisons(runs), unfinished, [runs_dir], tmp_path_factory.mktemp("out"), "emorl")
    return path.read_text(encoding="utf-8")


def data_of(text: str) -> Any:
    """The embedded JSON, found as a browser finds it: up to the first end of a script element."""
    begun = text.index('<script type="application/json" id="data">') + len('<script type="application/json" id="data">')
    return json.loads(text[begun : re.search(r"</script", text[begun:], re.IGNORECASE).start() + begun])  # type: ignore[union-attr]


def test_the_report_has_both_forms(runs_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report(runs_dir, tmp_path, "emorl")
    assert (tmp_path / "report.html").is_file()
    assert f"to explore, in a browser: {(tmp_path / 'report.html').resolve()}" in capsys.readouterr().out


def test_no_text_ends_its_element_and_all_of_it_arrives(written: str) -> None:
    assert len(re.findall(r"<script", written.partition("<body>")[0] + written[-200:])) == 0
    data = data_of(written)
    (section,) = data["sections"]
    found = section["samples"]
    assert found["prompts"][1] == HOSTILE_PROMPT
    assert [text for text in found["pool"] if text.startswith(HOSTILE[0])]
    assert {text.rsplit(" ", 3)[0] for text in found["pool"] if "says" not in text} == set(HOSTILE)
    assert data["failed"] == [["reflections/seq2seq/emorl/s9-00000000", "failed", FAILURE]]
    embedded = written[written.index('id="data">') + 10 : written.rindex("</script>\n<script>")]
    assert not set("<>&\u2028\u2029") & set(embedded)


def test_the_page_allows_its_own_two_scripts_and_nothing_from_outside(written: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', written)[1]  # type: ignore[index]
    bodies = re.findall(r"<script>(.*?)</script>", written, re.DOTALL)
    assert len(bodies) == 2
    for body in bodies:
        digest = hashlib.sha256(body.encode()).digest()
        assert f"'sha256-{base64.b64encode(digest).decode()}'" in policy
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy.partition("style-src")[0]
    outside = written.replace(pages.PLOTLY.read_text(encoding="utf-8"), "")
    assert not re.findall(r"(?:src|href)=[\"']?[^#\"']", outside.partition('id="data"')[0])


def test_the_bundle_is_the_published_one() -> None:
    content = pages.PLOTLY.read_bytes()
    assert hashlib.sha256(content).hexdigest() == pages.PLOTLY_SHA256
    assert pages.PLOTLY_SHA256 in (pages.PLOTLY.parent / "SOURCE.md").read_text()
    assert "MIT" in (pages.PLOTLY.parent / "LICENSE").read_text()


def test_every_part_of_the_script_is_in_the_page_once() -> None:
    assert sorted(pages.SCRIPTS) == sorted(path.stem for path in (pages.HERE / "page").glob("*.js"))


@pytest.mark.skipif(shutil.which("node") is None, reason="apt-get install nodejs")
def test_the_script_parses(tmp_path: Path) -> None:
    (tmp_path / "page.js").write_text(pages.joined())
    subprocess.run(["node", "--check", str(tmp_path / "page.js")], check=True, timeout=60)


@pytest.mark.skipif(shutil.which("node") is None, reason="apt-get install nodejs")
def test_words_that_differ_are_those_outside_a_longest_common_subsequence(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def mixed(count: int) -> str:
        return " ".join(rng.choice(list("abcd"), count))

    pairs = [(mixed(n), mixed(m)) for n in (1, 5, 9) for m in (1, 6)]
    pairs += [("a b", ""), ("", "a"), ("same words", "same words")]
    script = (pages.HERE / "page" / "words.js").read_text()
    script += f"const pairs = {json.dumps(pairs)}; console.log(JSON.stringify(pairs.map(([a, b]) => differing(a, b))));"
    (tmp_path / "words.js").write_text(script)
    done = subprocess.run(["node", str(tmp_path / "words.js")], check=True, capture_output=True, text=True, timeout=60)
    for (text, other), apart in zip(pairs, json.loads(done.stdout), strict=True):
        kept = [word for word, differs in zip(text.split(), apart, strict=True) if not differs]
        rest = iter(other.split())
        assert all(word in rest for word in kept)  # a subsequence of the other text
        assert len(kept) == longest(tuple(text.split()), tuple(other.split()))


@functools.cache
def longest(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    """The length of a longest common subsequence, by its recursive definition."""
    if not a or not b:
        return 0
    if a[-1] == b[-1]:
        return 1 + longest(a[:-1], b[:-1])
    return max(longest(a[:-1], b), longest(a, b[:-1]))


def test_numbers_are_those_of_the_runs(written: str, runs_dir: Path) -> None:
    (section,) = data_of(written)["sections"]
    assert {method["name"] for method in section["methods"]} == set(METHODS)
    place = [head["key"] for head in section["table"]["heads"]].index("gold_deployed_utility")
    for method in METHODS:
        golds = []
        for seed in SEEDS:
            found = json.loads((runs_dir / f"reflections/seq2seq/{method}/s{seed}-00000000/summary.json").read_text())
            golds.append(found["decoding"]["greedy"]["gold_deployed_utility"])
        mean, half, n, comparable = section["table"]["cells"]["greedy"][method][place]
        assert (mean, n, comparable) == (pytest.approx(np.mean(golds)), 3, True)
        assert half == pytest.approx(4.302653 * np.std(golds, ddof=1) / 3**0.5, rel=1e-5)
    assert section["table"]["ceiling"]["gold_deployed_utility"] == 0.9
    assert section["origin"]["commands"][0] == ["emorl-bench -m method=base seed=0,1,2", 3]
    assert section["settings"]["shared"] == {"update.learning_rate": "0.001"}
    assert section["settings"]["by_method"]["cory"] == {"method._target_": "baselines.cory"}


def test_two_seeds_have_no_interval(tmp_path: Path) -> None:
    for seed in range(2):
        write_run(tmp_path, "base", seed)
    comparison = compared(tmp_path)
    found = page([comparison], [conclude(comparison, "base")], [], [tmp_path], "base")
    cells = found.sections[0].table.cells["greedy"]["base"]
    assert all(cell[1] is None for cell in cells if cell is not None)
    assert found.sections[0].samples is None
    assert found.sections[0].settings.by_method == {}


def test_quantiles_are_student_s(tmp_path: Path) -> None:
    write_run(tmp_path, "base", 0)
    comparison = compared(tmp_path)
    found = page([comparison], [conclude(comparison, "base")], [], [tmp_path], "base").quantiles
    assert found[2:6] == pytest.approx([12.7062, 4.30265, 3.18245, 2.77645], rel=1e-5)  # a printed table


@pytest.mark.parametrize("count", [1, 2, 3, 12, 64, 100])
def test_every_beginning_of_the_order_is_spread_evenly(count: int) -> None:
    order = spread(count)
    assert sorted(order) == list(range(count))
    for size in range(1, count + 1):
        gaps = np.diff([-1, *sorted(order[:size]), count])
        assert max(gaps) <= 4 * (count + 1) / (size + 1)


def test_all_answers_are_kept_where_they_fit(runs_dir: Path) -> None:
    found = samples(compared(runs_dir), 10**7)
    assert found is not None
    assert len(found.prompts) == found.of_prompts == PROMPTS
    rows = [json.loads(line) for line in (runs_dir / "reflections/seq2seq/emorl/s0-00000000/samples.jsonl").open()]
    assert found.preferences[0] == found.preferences[0]
    for row in rows:
        if row["sample"] == 0:
            place = int(row["example_id"][1:])
            of_policy = found.answers[row["decoding"]]["emorl"][str(row["preference"])]
            assert found.pool[of_policy.texts[place]] == row["response"]
            scores = of_policy.scores["gold"][place]
            assert scores == [round(1000 * row[f"gold/{name}"]) for name in OBJECTIVES]
    assert set(found.policies["cory"].values()) == {0}  # one policy for all preferences


def test_where_not_all_fits_prompts_go_first_then_preferences_and_all_methods_keep_the_same(runs_dir: Path) -> None:
    comparison = compared(runs_dir)
    whole = samples(comparison, 10**7)
    assert whole is not None
    size = len(json.dumps(dataclasses.asdict(whole)))
    for allowed in (size // 3, size // 20):
        found = samples(comparison, allowed)
        assert found is not None
        assert len(found.preferences) < len(whole.preferences)
        assert len(json.dumps(dataclasses.asdict(found)["answers"])) < 1.5 * allowed
        for of_method in found.answers["greedy"].values():
            assert all(min(answers.texts) >= 0 for answers in of_method.values())
    assert HOSTILE_METHOD in found.seeds


def test_methods_that_write_more_than_the_first_one_do_not_swell_the_page(tmp_path: Path) -> None:
    for method, length in (("base", 40), ("cory", 900)):
        dir = write_run(tmp_path, method, 0)
        rows = [
            {
                "split": "report",
                "example_id": f"e{i}",
                "sample": 0,
                "prompt": f"p{i}",
                "response": f"{i} " + "x" * length,
            }
            | {"decoding": decoding, "preference": 0}
            for i in range(60)
            for decoding in ("greedy", "sampled")
        ]
        (dir / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"cut')
    found = samples(compared(tmp_path), 20_000)
    assert found is not None
    assert 10 < len(found.prompts) < 30
    assert sum(map(len, found.pool)) < 22_000
    gaps = np.diff([int(prompt[1:]) for prompt in found.prompts])
    assert max(gaps) <= 4 * min(gaps)
    assert samples(compared(tmp_path), 10**6) is not None
