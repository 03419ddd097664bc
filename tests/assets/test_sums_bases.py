"""The base models of sums: fit for an experiment, and two methods on each from the command to the summary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import MemoryTracker, make_bank
from support.composing import composed

from emorl_bench.assets.shipped import FAMILIES, asset_dir
from emorl_bench.assets.sums.tokenizer import build_tokenizer
from emorl_bench.audit.bases import of_sums
from emorl_bench.building.sums.base_models import MODELS, POSITIONS, STEPS, batches, build
from emorl_bench.building.sums.probe import Probe, probe
from emorl_bench.config.checks import check
from emorl_bench.config.compose import plain
from emorl_bench.config.targets import check_targets
from emorl_bench.core.errors import UserError
from emorl_bench.runner.base_model import check_answer_room
from emorl_bench.runner.bench import execute
from emorl_bench.runner.directory import RunDirectory
from emorl_bench.tasks.reflections import Reflections
from emorl_bench.tasks.sums import Sums

LARGEST_BYTES = 1_500_000  # both base models, in the package


@pytest.fixture(scope="module", params=list(FAMILIES))
def measured(request: pytest.FixtureRequest) -> tuple[str, Probe]:
    return request.param, probe(request.param, asset_dir(f"sums/{request.param}"))


def test_a_base_leaves_room_and_samples_what_every_preference_needs(measured: tuple[str, Probe]) -> None:
    checks = list(of_sums(*measured))
    assert len(checks) == 3 + 12 + 2
    assert [f"{c.name}: {c.value:.3f}, wanted {c.wanted}" for c in checks if not c.met] == []


def test_a_probe_that_finds_one_answer_for_all_fails_its_requirements() -> None:
    same = [((4, 7, 8), "so 19"), ((4, 7, 9), "so 19"), ((1, 1, 2), "so so 4")]
    failed = {c.name for c in of_sums("tiny_t5", Probe(same, same)) if not c.met}
    assert {"greedy brief", "greedy worked", "share of samples outside the grammar"} <= failed
    assert "share of samples that are best with 0 steps to 3 terms" not in failed
    assert "share of samples that are best with 1 steps to 3 terms" in failed


def test_the_shipped_models_are_small_and_safe() -> None:
    directories = [asset_dir(f"sums/{model}") for model in FAMILIES]
    files = [file for directory in directories for file in directory.iterdir()]
    assert sum(file.stat().st_size for file in files) < LARGEST_BYTES
    assert {file.suffix for file in files} == {".json", ".safetensors"}


@pytest.mark.parametrize("model", list(MODELS))
def test_a_build_gives_a_model_of_the_shipped_shape(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(STEPS, model, 2)
    build(model, tmp_path, lambda line: None)
    shipped = asset_dir(f"sums/{model}")
    for file in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        assert json.loads((tmp_path / file).read_text()) == json.loads((shipped / file).read_text())


def test_every_tenth_batch_shows_another_answer_and_all_fit_the_positions() -> None:
    tokenizer = build_tokenizer()
    shown = []
    for rows in batches(tokenizer, 20):
        assert max(len(prompt) + 1 + len(answer) for prompt, answer in rows) < POSITIONS
        shown.append(all(tokenizer.decode(prompt).count("so") == 1 for prompt, _ in rows))
    assert shown == ([False] * 9 + [True]) * 2


# answers must fit ------------------------------------------------------------
def test_an_answer_that_does_not_fit_or_cannot_be_said_is_one_line() -> None:
    backbone = make_bank("gpt2").decoder.backbone
    with pytest.raises(UserError, match=r"no word for '15', which answers of this task may need"):
        check_answer_room(Sums(scorers={}), backbone, 28)
    backbone.tokenizer = build_tokenizer()
    check_answer_room(Sums(scorers={}), backbone, 27)
    with pytest.raises(
        UserError, match=r"sampling\.max_new_tokens=26: the longest answer of this task takes 27 tokens"
    ):
        check_answer_room(Sums(scorers={}), backbone, 26)
    with pytest.raises(UserError, match=r"no word for '90'"):
        check_answer_room(Sums(scorers={}, levels=(6,)), backbone, 64)
    check_answer_room(Reflections(scorers={}), backbone, 1)


# from the command to the summary ------------------------------------------------------------
@pytest.mark.parametrize("model", list(FAMILIES))
def test_two_methods_run_from_the_command_to_the_summary(model: str, tmp_path: Path) -> None:
    small = ["budget=smoke", "preferences.divisions=1", "tracker=local", "hardware=cpu", f"runs_dir={tmp_path}"]
    for method in ("weighted_scst", "emorl"):
        summary = executed(method, model, composed_of("task=sums", f"model={model}", f"method={method}", *small))
        uniform = summary["decoding"]["greedy"]["uniform"]
        assert list(uniform["objectives"]) == ["right", "brief", "worked"]
        assert uniform["objectives"] == uniform["held_out"]
        assert summary["cost"]["data_points_sum"] > 0


def composed_of(*overrides: str) -> dict[str, Any]:
    config = plain(composed(*overrides))
    check(config)
    check_targets(config)
    return config


def executed(method: str, model: str, config: dict[str, Any]) -> dict[str, Any]:
    config |= {"names": {"task": "sums", "model": model, "method": method}}
    with RunDirectory(config, "f") as directory:
        return execute(config, directory, MemoryTracker())


def test_a_limit_below_the_longest_answer_ends_a_run_before_it_starts(tmp_path: Path) -> None:
    config = composed_of(
        "task=sums", "sampling.max_new_tokens=20", "tracker=local", "hardware=cpu", f"runs_dir={tmp_path}"
    )
    with pytest.raises(UserError, match=r"sampling\.max_new_tokens=20"):
        executed("emorl", "tiny_t5", config)
