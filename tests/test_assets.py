"""Built assets: fit for the experiment, built once, mended when damaged. Shares the user's cache."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from emorl_bench import embedded
from emorl_bench.assets.cache import Cache, asset_dir
from emorl_bench.assets.diagnostics import Check, accuracy_checks, agreement_checks, base_checks, trivial_checks
from emorl_bench.assets.tokenizer import SEP
from emorl_bench.core.errors import UserError
from emorl_bench.core.types import Example
from emorl_bench.scorers.embedded_empathy import Empathy
from emorl_bench.scorers.embedded_fluency import Fluency
from emorl_bench.scorers.embedded_reflection import Reflection

SCORERS = (Reflection(), Empathy(), Fluency())


def unmet(checks: list[Check]) -> list[str]:
    return [f"{c.name}: {c.value:.3f}, wanted {c.wanted}" for c in checks if not c.met]


def test_scorers_tell_good_from_bad_on_unseen_situations() -> None:
    checks = accuracy_checks()
    assert len(checks) == 6
    assert unmet(checks) == []


def test_base_models_leave_room_on_every_objective() -> None:
    assert unmet(base_checks()) == []


def test_trivial_answers_score_low() -> None:
    assert unmet(trivial_checks()) == []


def test_held_out_scorers_agree_with_the_trained_against_ones() -> None:
    assert unmet(agreement_checks()) == []


def test_base_models_load_by_the_usual_means() -> None:
    t5 = AutoModelForSeq2SeqLM.from_pretrained(asset_dir("reflections/tiny_t5"))
    gpt2 = AutoModelForCausalLM.from_pretrained(asset_dir("reflections/tiny_gpt2"))
    for model in (t5, gpt2):
        assert 0.5e6 < model.num_parameters() < 3e6
    tokenizer = AutoTokenizer.from_pretrained(asset_dir("reflections/tiny_gpt2"))
    assert tokenizer.sep_token == SEP
    assert not list(asset_dir("reflections/tiny_t5").rglob("*.bin"))


def test_scores_are_in_bounds_and_do_not_depend_on_the_batch() -> None:
    prompts = ["since i lost my job, i drink every night.", "", "unseen words entirely"]
    responses = ["you drink every night since you lost your job.", "hello", ""]
    examples = [Example(str(i), prompt) for i, prompt in enumerate(prompts)]
    for scorer in (*SCORERS, *(scorer.held_out() for scorer in SCORERS)):
        together = scorer.score(examples, responses)
        alone = torch.cat([scorer.score([e], [r]) for e, r in zip(examples, responses, strict=True)])
        assert together.dtype == torch.float32
        assert bool(((together >= 0) & (together <= 1)).all())
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_scoring_64_texts_takes_milliseconds() -> None:
    example = Example("0", "since i lost my job, i drink every night. i feel guilty. i want to have some peace.")
    for scorer in SCORERS:
        scorer.score([example] * 64, ["you feel guilty about drinking."] * 64)
        started = time.perf_counter()
        scorer.score([example] * 64, ["you feel guilty about drinking."] * 64)
        assert time.perf_counter() - started < 0.5  # about 10 ms on an idle core


def fake_build(drafts: Mapping[str, Path]) -> None:
    """Slow enough for two processes to meet; every build leaves a trace beside the assets."""
    for name, draft in drafts.items():
        root = draft.parents[len(Path(name).parts) - 1]
        with (root / "builds.log").open("a") as log:
            log.write(f"{name}\n")
        time.sleep(0.5)
        (draft / "weights").write_text(f"weights of {name}")


def fake_cache(root: Path) -> Cache:
    return Cache(root, ("model", "scorers/one"), fake_build)


def ask(root: Path) -> None:
    assert (fake_cache(root).dir("model") / "weights").read_text() == "weights of model"


def test_two_processes_build_once(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=ask, args=(tmp_path,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert sorted((tmp_path / "builds.log").read_text().split()) == ["model", "scorers/one"]


@pytest.mark.parametrize("damage", ["changed", "missing", "manifest"])
def test_damage_is_found_and_mended(tmp_path: Path, damage: str) -> None:
    cache = fake_cache(tmp_path)
    directory = cache.dir("scorers/one")
    if damage == "changed":
        (directory / "weights").write_text("weights of somebody else")
    elif damage == "missing":
        (directory / "weights").unlink()
    else:
        (directory / "manifest.json").write_text("{")
    assert not cache.sound("scorers/one")
    assert (cache.dir("scorers/one") / "weights").read_text() == "weights of scorers/one"
    built = (tmp_path / "builds.log").read_text().split()
    assert (built.count("scorers/one"), built.count("model")) == (2, 1)


def test_an_interrupted_build_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    def stop(drafts: Mapping[str, Path]) -> None:
        next(iter(drafts.values())).joinpath("weights").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Cache(tmp_path, ("model",), stop).dir("model")
    assert not (tmp_path / "model").exists()
    assert json.loads((fake_cache(tmp_path).dir("model") / "manifest.json").read_text())


def test_unknown_names_and_unwritable_places_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'model'"):
        fake_cache(tmp_path).dir("modle")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="EMORL_BENCH_CACHE"):
        fake_cache(tmp_path / "file").dir("model")


def test_check_exits_with_1_when_a_requirement_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    from emorl_bench.assets import diagnostics

    monkeypatch.setattr(diagnostics, "all_checks", lambda: [Check("x", 0.9, high=0.5)])
    assert embedded.main(["check", "--no-experts"]) == 1
    monkeypatch.setattr(diagnostics, "all_checks", lambda: [Check("x", 0.4, high=0.5)])
    assert embedded.main(["check", "--no-experts"]) == 0
