"""Shipped assets: whole, small, the files whose hashes the code holds; damage is one line."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from emorl_bench.assets import shipped
from emorl_bench.assets.hashes import SHA256
from emorl_bench.assets.ngrams import features
from emorl_bench.assets.reader import Reader, reversed_rows, taken
from emorl_bench.assets.shipped import SHIPPED, asset_dir, asset_names, content_key
from emorl_bench.assets.tokenizer import SEP
from emorl_bench.building.build import differences
from emorl_bench.cli import assets
from emorl_bench.core.errors import UserError
from emorl_bench.core.types import Example
from emorl_bench.scorers.embedded import Embedded

SCORERS = tuple(Embedded(name) for name in ("reflection", "empathy", "fluency"))
MEGABYTES = 6
CLIENT = "since i lost my job, i drink every night. i feel guilty. i want to have some peace, but it calms me down."


def test_what_is_shipped_is_what_the_code_names_and_is_small() -> None:
    files = {file.relative_to(SHIPPED).as_posix() for file in SHIPPED.rglob("*") if file.is_file()}
    assert files == set(SHA256)
    assert sum((SHIPPED / file).stat().st_size for file in files) <= MEGABYTES * 1e6
    assert not [file for file in files if not file.endswith((".json", ".safetensors"))]
    for name in asset_names():
        assert asset_dir(name) == SHIPPED / name


def test_base_models_load_by_the_usual_means() -> None:
    t5 = AutoModelForSeq2SeqLM.from_pretrained(asset_dir("reflections/tiny_t5"))
    gpt2 = AutoModelForCausalLM.from_pretrained(asset_dir("reflections/tiny_gpt2"))
    for model in (t5, gpt2):
        assert 0.2e6 < model.num_parameters() < 0.4e6
    assert AutoTokenizer.from_pretrained(asset_dir("reflections/tiny_gpt2")).sep_token == SEP


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_damage_is_named_with_the_way_to_restore_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    shutil.copytree(SHIPPED, tmp_path / "shipped")
    file = tmp_path / "shipped" / "reflections" / "tiny_t5" / "model.safetensors"
    if damage == "changed":
        file.write_bytes(file.read_bytes()[:-1] + b"x")
    else:
        file.unlink()
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path / "shipped")
    asset_dir.cache_clear()
    try:
        with pytest.raises(UserError, match=r"tiny_t5/model\.safetensors.*restore it with `git checkout"):
            asset_dir("reflections/tiny_t5")
        assert asset_dir("reflections/tiny_gpt2").is_dir()
    finally:
        asset_dir.cache_clear()


def test_an_unknown_asset_has_a_hint() -> None:
    with pytest.raises(UserError, match="did you mean 'reflections/tiny_t5'"):
        asset_dir("reflections/tiny_t")


def test_the_key_follows_from_every_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    before = content_key()
    monkeypatch.setitem(SHA256, next(iter(SHA256)), "0" * 64)
    assert content_key() != before


def test_a_fresh_build_is_compared_file_by_file(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(SHIPPED / "reflections" / "scorers", tmp_path / "reflections" / "scorers")
    path = tmp_path / "reflections" / "scorers" / "reader.safetensors"
    weights = load_file(path)
    weights["embed.weight"][0, 0] += 0.5
    save_file(weights, path)
    lines = differences(tmp_path)
    assert "reflections/scorers/reader.safetensors: differs by 0.5 at most in a weight" in lines
    assert "reflections/scorers/ngrams.safetensors: equal, byte for byte" in lines


def test_build_without_training_verifies_what_is_shipped(capsys: pytest.CaptureFixture[str]) -> None:
    assert assets.main(["build"]) == 0
    assert "shipped and sound" in capsys.readouterr().out


def test_scores_are_in_bounds_and_do_not_depend_on_the_batch() -> None:
    prompts = [CLIENT, "", "unseen words entirely"]
    responses = ["you drink every night since you lost your job.", "hello", ""]
    examples = [Example(str(i), prompt) for i, prompt in enumerate(prompts)]
    for scorer in (*SCORERS, *(scorer.held_out() for scorer in SCORERS)):
        together = scorer.score(examples, responses)
        alone = torch.cat([scorer.score([e], [r]) for e, r in zip(examples, responses, strict=True)])
        assert together.dtype == torch.float32
        assert bool(((together >= 0) & (together <= 1)).all())
        assert together[2] == 0  # silence is no answer
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_a_scorer_that_does_not_exist_has_a_hint() -> None:
    with pytest.raises(UserError, match="did you mean 'empathy'"):
        Embedded("empaty")


def test_the_reader_does_not_see_padding() -> None:
    torch.manual_seed(0)
    net = Reader(20, 8).eval()
    prompt_BS, response_BT = torch.randint(1, 20, (2, 5)), torch.randint(1, 20, (2, 4))
    wide = torch.nn.functional.pad(prompt_BS, (0, 3)), torch.nn.functional.pad(response_BT, (0, 6))
    torch.testing.assert_close(net(prompt_BS, response_BT), net(*wide))


def test_rows_are_reversed_in_front_of_their_padding() -> None:
    mask_BT = torch.tensor([[True, True, True, False], [True, False, False, False]])
    values_BTH = torch.tensor([[1.0, 2.0, 3.0, 0.0], [4.0, 0.0, 0.0, 0.0]]).unsqueeze(-1)
    reversed_BTH = taken(values_BTH, reversed_rows(mask_BT)).squeeze(-1)
    assert reversed_BTH.tolist() == [[3.0, 2.0, 1.0, 0.0], [4.0, 0.0, 0.0, 0.0]]


def test_features_of_a_text_are_its_own() -> None:
    """The same in every process (`hash` is salted), and told apart by whether the client said it."""
    one = features(CLIENT, "you feel guilty about drinking.")
    assert one.tolist() == sorted(set(one.tolist()))
    assert set(features("since i lost my job.", "you feel guilty about drinking.").tolist()) != set(one.tolist())
    assert int(one.sum()) == int(features(CLIENT, "you feel guilty about drinking.").sum())


def test_scoring_64_texts_takes_milliseconds() -> None:
    example = Example("0", CLIENT)
    for scorer in SCORERS:
        scorer.score([example] * 64, ["you feel guilty about drinking."] * 64)
        started = time.perf_counter()
        scorer.score([example] * 64, [f"you feel guilty about drinking {i}." for i in range(64)])
        assert time.perf_counter() - started < 0.5  # about 10 ms on an idle core
