"""Figures: one look for each name, at most twelve in colour, vector files, curves of experts on their own objective."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.synthetic_runs import OBJECTIVES, write_run

from emorl_bench.cli.report import report
from emorl_bench.report.comparison import comparisons
from emorl_bench.report.curves import curves_by_row, learning_curves, shared_sets
from emorl_bench.report.figures import MOST, chosen
from emorl_bench.report.palette import COLOURS, MARKERS, PALE, PLACES, look_at, looks
from emorl_bench.report.read import Run, read_runs

METHODS = Path(__file__).parents[2] / "conf/method"
STRANGE = ("cory [lr=1e-3]", "cory [lr=2e-3]", "mine")


def test_a_name_has_one_look_in_every_figure() -> None:
    every = {**looks(PLACES[:40]), **looks(PLACES[40:])}
    for names in (["cory", "emorl"], ["emorl", "grpo", "cory"], list(PLACES)):
        assert {name: looks(names)[name] for name in names} == {name: every[name] for name in names}
    assert len(set(every.values())) == len(PLACES)
    assert len({look.colour for look in looks(PLACES[:10]).values()}) == 10


def test_the_first_looks_never_change() -> None:
    assert [(name, looks([name])[name].colour) for name in ("emorl", "weighted_scst", "base", "grpo")] == [
        ("emorl", "#0072B2"), ("weighted_scst", "#D55E00"), ("base", "#5B5B5B"), ("grpo", "#999933"),
    ]  # fmt: skip


def test_every_method_of_the_suite_has_a_place() -> None:
    assert {path.stem for path in METHODS.glob("*.yaml")} <= set(PLACES)
    assert len(set(PLACES)) == len(PLACES) <= len(COLOURS) * len(MARKERS)


def test_other_names_have_the_look_of_their_hash_in_every_process() -> None:
    code = f"from emorl_bench.report.palette import looks; print({{n: looks([n])[n] for n in {STRANGE!r}}})"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert there.strip() == str({name: looks([name])[name] for name in STRANGE})
    many = [f"method {i}" for i in range(60)]
    assert len(set(looks(many).values())) == 60, "no two names of one figure look the same"


def test_all_places_differ() -> None:
    assert len({look_at(place) for place in range(110)}) == 110


def test_twelve_are_in_colour_and_the_others_in_grey_with_a_list() -> None:
    best = [f"method {i:02}" for i in range(15)]
    style, sentence = chosen(best, best[13])
    grey = [name for name, look in style.items() if look.colour == PALE]
    assert sorted(grey) == ["method 11", "method 12", "method 14"], "the reference is always in colour"
    assert sentence == " In grey, beyond the 12 best: method 11, method 12, method 14."
    assert chosen(best[:MOST], None)[1] == ""


def with_experts(root: Path, method: str, seed: int, shift: float = 0.0, form: str = "eval/{learner}") -> Run:
    dir = write_run(root, "emorl", seed, names={"task": "t", "model": "m", "method": method})
    new = form.startswith("learner")
    with (dir / "metrics.jsonl").open("w") as file:
        for step in (1, 2):
            for k, learner in enumerate(OBJECTIVES):
                scores = {name: 0.1 * step + 0.2 * (i == k) + shift for i, name in enumerate(OBJECTIVES)}
                row = {f"{form.format(learner=learner)}/{name}": value for name, value in scores.items()}
                row[f"{form.format(learner=learner)}/mean_reward"] = sum(scores.values()) / 3
                spent = {f"learner/{learner}/data_points": 16 * step} if new else {}
                file.write(json.dumps({"step": step, "data_points": 999 if new else 16 * step, **row, **spent}) + "\n")
    return read_runs(dir)[0][0]


@pytest.mark.parametrize("form", ["eval/{learner}", "learner/{learner}/eval"])
def test_an_experts_curve_is_its_own_objective(tmp_path: Path, form: str) -> None:
    curves = learning_curves(with_experts(tmp_path, "emorl", 0, form=form))
    assert set(curves) == set(OBJECTIVES)
    for curve in curves.values():
        assert list(curve) == [16.0, 32.0]
        assert list(curve.values()) == pytest.approx([0.3, 0.4]), "the mean of all objectives is 0.167 and 0.267"


def test_methods_with_the_same_experts_share_their_curves(tmp_path: Path) -> None:
    for method, shift in (("emorl", 0.0), ("ties", 0.0), ("mine", 0.01)):
        for seed in range(2):
            with_experts(tmp_path / method, method, seed, shift)
    (comparison,) = comparisons(read_runs(tmp_path)[0])
    found = curves_by_row(comparison)
    assert shared_sets(found, ["emorl", "mine", "ties"]) == {"emorl": ["emorl", "ties"], "mine": ["mine"]}


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of fourteen methods."""
    root = tmp_path_factory.mktemp("many")
    for i in range(14):
        for seed in range(5):
            names = {"task": "reflections", "model": "seq2seq", "method": f"method_{i:02}"}
            write_run(root / f"runs/{i}", "cory" if i else "emorl", seed, level=0.4 + 0.02 * i, names=names)
    report(root / "runs", root / "out")
    return root / "out"


def test_figures_are_written_for_the_screen_and_for_print(many: Path) -> None:
    images = {path.stem for path in many.glob("*.png")}
    assert images == {path.stem for path in many.glob("*.svg")}
    assert {name.rpartition("_")[2] for name in images} == {"scores", "curves", "pareto", "search", "profile"}
    for path in many.glob("*.svg"):
        text = path.read_text()
        assert "greedy decoding" in text, path.name
        assert "better" in text, path.name


def test_a_figure_names_twelve_methods_and_the_caption_the_others(many: Path) -> None:
    drawn = (many / "reflections_seq2seq_pareto.svg").read_text()
    named = {f"method_{i:02}" for i in range(14) if f"method_{i:02}" in drawn}
    assert named == {"method_00", *(f"method_{i:02}" for i in range(3, 14))}, "the reference and the best ones"
    text = (many / "report.md").read_text()
    assert "In grey, beyond the 12 best: method_02, method_01." in text


def test_the_same_runs_give_the_same_vector_files(many: Path, tmp_path: Path) -> None:
    report(many.parent / "runs", tmp_path)
    for path in tmp_path.glob("*.svg"):
        assert path.read_bytes() == (many / path.name).read_bytes(), path.name
    assert np.array([path.stat().st_size for path in tmp_path.glob("*.svg")]).max() < 2_000_000
