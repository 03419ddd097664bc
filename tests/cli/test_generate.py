"""``emorl-generate``: which runs it takes, side by side, and what it shows and writes of their decisions."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import make_bank, make_bench, shaken, word_prompts
from rich.console import Console

from emorl_bench.cli import answers, generate, talking
from emorl_bench.cli.answering import Talker
from emorl_bench.core.types import Sampling
from emorl_bench.ensemble.blending import HiddenState
from emorl_bench.ensemble.explaining.records import END, Explained, Explanation, Token
from emorl_bench.report.html.explained_file import read_explained

OBJECTIVES = ["even", "odd"]


def leave(place: Path, ended: float, objectives: list[str] = OBJECTIVES) -> Path:
    place.mkdir(parents=True)
    (place / "config.yaml").write_text("hardware: {threads: 1}\nsampling: {max_new_tokens: 5}\n")
    (place / "summary.json").write_text(json.dumps({"objectives": objectives}))
    (place / "status.json").write_text(json.dumps({"state": "done", "heartbeat": ended}))
    return place


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two methods, whose runs are loaded as a blend of two small random experts and as one of them."""
    monkeypatch.chdir(tmp_path)
    for index, method in enumerate(("emorl", "single")):
        leave(tmp_path / "runs" / "t" / "m" / method / f"s0-{index}", ended=float(index))

    def load(run: Path, config: Any, preference: Any, asked: Sampling, seed: int, explains: bool) -> Talker:
        bank = make_bank("gpt2")
        experts = [shaken(bank, 1), shaken(bank, 2)]
        (run / "bench").mkdir(exist_ok=True)
        bench = make_bench(run / "bench", "gpt2", bank=bank)
        blend = HiddenState().blend(experts, torch.tensor([preference], dtype=torch.float64))
        policy = blend if run.parent.name == "emorl" else experts[0]
        workbench: Any = SimpleNamespace(bench=bench, grader=SimpleNamespace(report=word_prompts(5)))
        sampling = Sampling(5, asked.temperature, asked.samples_per_prompt)
        return Talker(f"{run.parent.name}/{run.name}", preference, seed, sampling, workbench, policy, explains)

    monkeypatch.setattr(talking.Talker, "load", load)
    return tmp_path / "runs"


def test_a_directory_of_a_method_is_enough_and_report_prompts_are_answered(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generate.main([str(runs / "t" / "m" / "emorl")])
    shown = capsys.readouterr()
    assert shown.out.count("> w") == 3
    assert shown.out.count("  [even ") == 3
    assert "loading" in shown.err


def test_the_last_run_of_runs_is_taken(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate.main(["--last", "--text", "w4 w5"])
    assert "single/s0-1" in capsys.readouterr().err


def test_several_runs_stand_side_by_side(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = [str(runs / "t" / "m" / method) for method in ("emorl", "single")]
    generate.main([*both, "--text", "w4 w5", "--preference", "0.7,0.3", "--json", "answers.json"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "> w4 w5"
    assert [line for line in lines if "/s0-" in line] == ["emorl/s0-0", "single/s0-1"]
    written = json.loads((tmp_path / "answers.json").read_text())
    assert written["preference"] == {"even": 0.7, "odd": 0.3}
    first, second = (run["answers"][0]["responses"][0] for run in written["runs"])
    assert first in lines
    assert second in lines


def test_explained_answers_are_written_token_by_token_and_added_up(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generate.main([str(runs / "t" / "m" / "emorl"), "--explain", "--preference", "0.7,0.3", "--json", "x.json"])
    shown = capsys.readouterr().out
    assert "decided by: expert1  expert2" in shown
    assert "5 answers, " in shown  # the whole report split, of which three were shown
    (run,) = json.loads((tmp_path / "x.json").read_text())["runs"]
    assert len(run["answers"]) == 3
    told = run["explanation"]
    assert told["weights"] == [0.7, 0.3]
    assert sum(told["totals"]["decided"]) == pytest.approx(1)
    for answer in told["answers"]:
        for token in answer["tokens"]:
            assert sum(token["shares"]) == pytest.approx(token["margin"], abs=1e-12)
    (read,) = read_explained(tmp_path / "x.json")  # emorl-report --explained takes the file
    assert [prompt for prompt, _ in read.answers] == [answer["prompt"] for answer in told["answers"]]
    assert read.answers[4][1][0].shares == told["answers"][4]["tokens"][0]["shares"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "RUN is missing"),
        (["runs/t/m/emorl", "runs/other"], "its objectives are right; side by side all need the same"),
        (["runs/t/m/emorl", "--json", "nowhere/x.json"], "--json nowhere/x.json: there is no such directory"),
        (["runs/t/m/emorl", "--samples", "0"], "--samples 0"),
        (["runs/t/m/nothing"], "RUN='runs/t/m/nothing': no finished run there"),
        (["runs/torn"], "its summary.json is damaged"),
        (["runs/t/m/single", "--explain", "--text", "w4"], "answers with one policy"),
    ],
)
def test_what_cannot_be_answered_is_one_line(
    arguments: list[str], says: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leave(runs / "other" / "s0-9", 9.0, ["right"])
    (leave(runs / "torn", 9.0) / "summary.json").write_text("{")
    with pytest.raises(SystemExit) as exit:
        generate.main(arguments)
    error = capsys.readouterr().err.splitlines()[-1]
    assert exit.value.code == 2
    assert error.startswith("emorl-generate: ")
    assert says in error


def token(text: str, decided: list[float] | None, pivotal: bool = False) -> Token:
    return Token(text, 1.0, [0.75, 0.25], decided, "no", [-1.0, -2.0], [text, "no"], [True, False], [pivotal] * 2)


def test_words_have_the_colours_of_those_who_decided_them() -> None:
    tokens = [
        token("one", [0.8, 0.2]),
        token(" two", [0.1, 0.9], pivotal=True),
        token(" three", None),
        token(END, None),
    ]
    text = answers.coloured(tokens)
    assert text.plain == "one two three"
    styles = {text.plain[span.start : span.end].strip(): str(span.style) for span in text.spans}
    assert styles == {"one": answers.COLOURS[0], "two": f"bold {answers.COLOURS[1]}"}
    with Console(force_terminal=True, color_system="standard", width=80) as console, console.capture() as shown:
        console.print(text)
    assert "\x1b[36mone" in shown.get()


def test_totals_stand_beside_the_weights_that_were_asked_for() -> None:
    explanation = Explanation(["even", "odd"], [0.5, 0.5], [Explained("p", "r", [token("one", [0.8, 0.2])])])
    count, title, even, odd = answers.totals(explanation, {"even": 0.9, "odd": 0.1})
    assert count.startswith("1 answer, 1 token, of which the experts dispute 100%")
    assert title.split() == ["expert", "asked", "weight", "decided", "of", "margins", "needed", "agrees"]
    assert even.split() == ["even", "0.90", "0.50", "80%", "75%", "0%", "100%"]
    assert odd.split() == ["odd", "0.10", "0.50", "20%", "25%", "0%", "0%"]
