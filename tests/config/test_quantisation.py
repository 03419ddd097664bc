"""``model.quantisation``: what refuses it, and that a run without it is what it was."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from support.composing import composed

from emorl_bench.cli import sft
from emorl_bench.config import extras
from emorl_bench.config.checks import check
from emorl_bench.config.compose import plain
from emorl_bench.config.quantisation import TRL
from emorl_bench.config.schema import what_decides
from emorl_bench.config.targets import claim_baselines
from emorl_bench.core.errors import UserError
from emorl_bench.report.keys import read_keys
from emorl_bench.runner.fingerprints import comparison_fingerprint

LLAMA = ("model=llama_1b", "model.quantisation=4bit", "hardware=cuda")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: find_spec(name) if name != "bitsandbytes" else object())


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (("model=t5_base",), r"^model\.quantisation=4bit: only decoder-only models"),
        (("hardware.dtype=float64",), r"^model\.quantisation=4bit: .*float64; say hardware\.dtype=float32 or bfloat16"),
        (("method=trl_grpo",), r"^model\.quantisation=4bit: TRL would add its own adapters"),
        (("model.quantisation=3bit",), r"^model\.quantisation=3bit: unknown; did you mean '4bit'|did you mean"),
    ],
)
def test_what_does_not_go_with_packed_weights_is_refused(
    overrides: tuple[str, ...], says: str, installed: None
) -> None:
    with pytest.raises(UserError, match=says):
        check(plain(composed(*LLAMA, *overrides, "model.quantisation=4bit", *overrides[-1:])))


def test_a_divided_base_cannot_be_packed(installed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"packed weights cannot be divided.*; say hardware\.shard_base=false"):
        check(plain(composed(*LLAMA, "hardware.shard_base=true")))


def test_both_kinds_pass_and_the_package_is_asked_for(installed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("4bit", "8bit"):
        check(plain(composed(*LLAMA, f"model.quantisation={kind}")))
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"^model\.quantisation=4bit needs bitsandbytes: pip install .*\[bitsandbytes\]"
    ):
        check(plain(composed(*LLAMA)))


def test_the_name_of_trl_s_policy_is_the_one_in_its_files() -> None:
    assert {composed(f"method=trl_{rule}").method._target_ for rule in ("grpo", "gdpo", "rloo")} == {TRL}
    claim_baselines()


def test_a_model_whose_weights_are_all_trained_cannot_be_packed(refused: Callable[..., str], tmp_path: Path) -> None:
    said = refused(
        sft.main, f"out={tmp_path / 'out'}", f"task.data_dir={tmp_path}", "model.quantisation=8bit", "model.path=a/b"
    )
    assert "model.quantisation=8bit: all weights are trained here, so none can be packed; say null" in said


def test_a_run_with_plain_weights_keeps_its_hash() -> None:
    config = plain(composed("model=tiny_gpt2"))
    assert "quantisation" in config["model"]
    assert "quantisation" not in what_decides(config)["model"]
    packed = plain(composed(*LLAMA))
    assert what_decides(packed)["model"]["quantisation"] == "4bit"


def test_packed_and_plain_bases_are_not_compared_in_one_table() -> None:
    config: dict[str, Any] = {**plain(composed("model=tiny_gpt2")), "names": {}}
    model = {k: v for k, v in config["model"].items() if k != "quantisation"}
    before = comparison_fingerprint({**config, "model": model}, known="data")
    assert comparison_fingerprint(config, known="data") == before
    found = {comparison_fingerprint({**config, "model": {**model, "quantisation": k}}, "d") for k in ("4bit", "8bit")}
    assert len({before, *found}) == 3


def test_records_from_before_the_key_are_no_other_settings(tmp_path: Path) -> None:
    summary = {"names": {"task": "t", "model": "m", "method": "x"}, "seed": 0}
    found = []
    for text in ("model: {quantisation: null}\n", "model: {}\n", "model: {quantisation: 4bit}\n"):
        (tmp_path / "config.yaml").write_text(f"hardware: {{dtype: float32}}\n{text}")
        found.append(read_keys(tmp_path, summary))
    assert found[0] == found[1]
    assert found[2]["model.quantisation"] == "4bit"
