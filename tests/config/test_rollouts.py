"""What ``hardware.rollouts=vllm`` cannot do is one line before anything is loaded, and it is part of what a run is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support import standin_vllm
from support.composing import composed

from emorl_bench.cli import bench
from emorl_bench.config.checks import check
from emorl_bench.config.compose import plain
from emorl_bench.config.rollouts import check_rollouts
from emorl_bench.config.schema import what_decides
from emorl_bench.core.errors import UserError
from emorl_bench.runner.base_model import correction

VLLM = "hardware.rollouts=vllm"


def model_dir(place: Path, kind: str = "llama") -> str:
    place.mkdir(exist_ok=True)
    (place / "config.json").write_text(json.dumps({"model_type": kind}))
    (place / "model.safetensors").write_bytes(b"")
    return str(place)


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        (("hardware.rollouts=vlm",), "hardware.rollouts=vlm: unknown; did you mean 'vllm'"),
        ((), "hardware.rollouts=vllm: decodes no model.family=seq2seq; say hardware.rollouts=own"),
        (("model=causal", "model.path={gpt2}"), "takes no adapters for 'gpt2', only for gemma, llama, "),
        (("model=causal", "model.path={llama}", "hardware.sampler_correction=none"), "say recompute or importance"),
        (("model=causal", "model.path={llama}", "method=trl_grpo"), "TRL samples by itself"),
        (("model=causal", "model.path={llama}", "method=dare"), "merges of baselines.dare.Dare have full rank"),
        (("model=causal", "model.path={llama}", "method=ties"), "merges of baselines.ties.Ties have full rank"),
        (("model=causal", "model.path={llama}", "hardware.vllm_memory=1.5"), "give a share of the GPU's memory"),
        (("model=causal", "model.path={llama}"), "hardware.rollouts=vllm needs vllm: pip install -c"),
    ],
)
def test_what_cannot_be_is_one_line(
    chosen: tuple[str, ...], says: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    places = {kind: model_dir(tmp_path / kind, kind) for kind in ("gpt2", "llama")}
    arguments = [argument.format(**places) for argument in chosen]
    assert says in refused(bench.main, VLLM, *arguments, f"runs_dir={tmp_path / 'runs'}")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("method", ["emorl", "param_merge", "weighted_ppo", "cory", "grpo", "gdpo"])
def test_other_methods_pass(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    standin_vllm.install(monkeypatch)
    check(plain(composed("model=causal", f"model.path={model_dir(tmp_path)}", f"method={method}", VLLM)))


def test_several_processes_and_quantised_bases_are_refused(tmp_path: Path) -> None:
    settings = plain(composed("model=causal", f"model.path={model_dir(tmp_path)}", VLLM))
    check_rollouts(settings, 1)
    with pytest.raises(UserError, match="not for a run of 2 processes"):
        check_rollouts(settings, 2)
    quantised = {**settings, "model": {**settings["model"], "quantisation": "4bit"}}
    with pytest.raises(UserError, match=r"not with model\.quantisation=4bit"):
        check_rollouts(quantised, 1)


def test_who_decodes_is_part_of_a_run_and_our_own_decoder_is_as_if_there_were_no_key() -> None:
    own = plain(composed("hardware=cpu"))
    vllm = plain(composed("hardware=cpu", VLLM))
    assert not {"rollouts", "sampler_correction", "vllm_memory"} & what_decides(own)["hardware"].keys()
    assert what_decides(vllm)["hardware"]["rollouts"] == "vllm"
    assert what_decides(vllm)["hardware"]["sampler_correction"] == "recompute"
    assert correction(own) is None
    found = correction(vllm)  # in float32 as well
    assert found is not None
    assert not found.weigh
