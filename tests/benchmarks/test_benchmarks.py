"""The benchmarks measure what they say: the naive side is the same computation, the accounts are right, each runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from benchmarks import decode, naive, scaling, search, train
from benchmarks.bounds import Peaks, Work, distinct_rows, reading_bound, steps_bound
from benchmarks.memory import weight_bytes
from benchmarks.models import SHAPES, Setting, micro, random_setting
from benchmarks.ours import Decode, blended, one_policy, scattered_weights
from benchmarks.record import options
from benchmarks.timing import interleaved
from emorl_bench.core.errors import UserError

CPU = torch.device("cpu")
MICRO = micro(SHAPES["tiny"])


def setting(shape: str = "tiny", dtype: torch.dtype = torch.float64, strength: float = 0.5) -> Setting:
    made = random_setting(micro(SHAPES[shape]), dtype=dtype, device=CPU, strength=strength)
    examples = made.prompts()
    return replace(made, draw=lambda _, times: examples * times)  # both sides are asked the same


@pytest.mark.parametrize("shape", ["tiny", "tiny_llama"])
def test_the_naive_loop_says_the_tokens_of_our_decode(shape: str) -> None:
    made = setting(shape)
    weights_WM = scattered_weights(4, len(made.experts))
    ours = blended(made, weights_WM)
    ours.side()
    plain = naive.naive(made)
    theirs_WBT = torch.stack([plain.decode(weights_M) for weights_M in weights_WM.tolist()])
    assert torch.equal(ours.ids_WBT, theirs_WBT)
    assert len(theirs_WBT.flatten(0, 1).unique(dim=0)) > MICRO.prompts  # weights matter, or the test would be empty


def test_the_naive_time_is_the_sum_over_steps_of_an_interpolation(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = replace(naive.naive(setting()), new_tokens=64)
    seen: list[int] = []

    def linear_in_length(act: Callable[[], object], device: torch.device) -> float:
        seen.append(plain.lengths[len(seen)])
        return float(seen[-1])

    monkeypatch.setattr(naive, "seconds_of", linear_in_length)
    assert plain.seconds([1.0, 0.0, 0.0]) == pytest.approx(64 * 65 / 2)
    assert (seen[0], seen[-1], len(seen)) == (1, 64, naive.NODES)


def test_a_decode_that_ends_early_is_no_measurement() -> None:
    ours = blended(setting(), scattered_weights(1, 3))
    ours.side()
    same = setting()
    same.backbone.eos = int(ours.ids_WBT[0, 0, 2])
    with pytest.raises(AssertionError, match="ended early"):
        blended(same, scattered_weights(1, 3)).side()


def test_prompts_are_new_at_every_call_and_of_the_same_lengths() -> None:
    made = random_setting(MICRO, dtype=torch.float32, device=CPU)
    first, second = made.prompts(), made.prompts()
    assert {e.prompt for e in first}.isdisjoint(e.prompt for e in second)
    assert [len(e.prompt.split()) for e in first] == [len(e.prompt.split()) for e in second] == made.prompt_lengths()
    assert max(made.prompt_lengths()) == MICRO.prompt_tokens[1]


def test_adapters_have_the_stated_size() -> None:
    made = setting(strength=0.15)
    copy, base = naive.merged_copy(made, made.experts[0].adapter()), made.new_model()
    for name in made.backbone.layers:
        weight = base.get_submodule(name).weight
        moved = (copy.get_submodule(name).weight - weight).norm().item()
        assert moved == pytest.approx(0.15 * weight.norm().item(), rel=1e-4)


def test_rows_that_share_a_prefix_are_counted_once() -> None:
    ids_WBT = torch.tensor([[[5, 6, 7], [1, 1, 1]], [[5, 6, 8], [1, 2, 1]], [[5, 9, 7], [1, 1, 1]]])
    rows, outputs = distinct_rows(ids_WBT)
    assert rows == [2, 2, 4]  # prompts; the same first words; (5 6), (5 9), (1 1), (1 2)
    assert outputs == (3 + 2) / 2


def test_work_counts_the_models_weights_by_how_often_they_are_needed() -> None:
    made = setting()
    sizes = {n: p.numel() for n, p in made.new_model().named_parameters() if p.dim() == 2 and "bias" not in n}
    work = Work.of(made)
    assert work.head == sizes["lm_head.weight"]
    assert work.prompt + work.step == sum(sizes.values()) - work.head - sizes["shared.weight"]
    cross = [sizes[f"decoder.block.{i}.layer.1.EncDecAttention.{side}.weight"] for i in range(2) for side in "kv"]
    assert work.prompt == sum(cross) + sum(n for name, n in sizes.items() if name.startswith("encoder."))


def test_the_bound_is_the_larger_of_reading_and_multiplying() -> None:
    work = Work(prompt=10, step=20, head=5, attention=0, cross=0, adapter_prompt=0, adapter_step=0, bytes_each=4)
    slow_memory, slow_product = Peaks(1.0, {1: 1e12, 2: 1e12}), Peaks(1e12, {1: 1.0, 2: 1.0})
    ids_WBT = torch.tensor([[[3, 4]]])
    assert reading_bound(slow_memory, work, 3, [7]) == 10 * 4
    assert reading_bound(slow_product, work, 3, [7]) == 2 * 3 * 7 * 10
    assert steps_bound(slow_memory, work, 3, [7], ids_WBT) == 2 * (20 + 5) * 4
    assert steps_bound(slow_product, work, 3, [7], ids_WBT) == 2 * 2 * (3 * 20 + 5)


def test_sides_take_turns_and_the_median_counts() -> None:
    order: list[str] = []
    times = {"a": iter([1.0, 9.0, 2.0]), "b": iter([3.0, 3.0, 3.0])}

    def side(name: str) -> Callable[[], float]:
        return lambda: (order.append(name), next(times[name]))[1]

    timings = interleaved("turns", {name: side(name) for name in times}, 3)
    assert "".join(order) == "abbaab"
    assert (timings["a"].median, timings["a"].spread, timings["b"].spread) == (2.0, 4.0, 0.0)


def test_weights_alive_in_a_decode_are_counted_from_the_interpreter() -> None:
    shape = replace(SHAPES["tiny"], dims={**SHAPES["tiny"].dims, "vocab_size": 4000})
    found = weight_bytes(shape, torch.float32, CPU)
    model = replace(shape, tied=True).model()
    base = sum(p.nbytes for p in {id(p): p for p in model.parameters()}.values())
    assert base < found.bare < 1.2 * base  # and one adapter
    assert found.three >= found.bare + 2 * (found.bare - base) * 0.99  # and the two others


def test_one_policy_is_decoded_on_as_many_rows() -> None:
    ours: Decode = one_policy(random_setting(MICRO, dtype=torch.float32, device=CPU), 3)
    ours.side()
    assert ours.ids_WBT.shape == (1, 3 * MICRO.prompts, MICRO.new_tokens)


DECODE_KEYS = {f"decode_{what}_{shape}" for what in ("one", "27") for shape in ("tiny", "small")}
KEYS: dict[ModuleType, set[str]] = {
    decode: DECODE_KEYS | {"decode_tree", "blend_over_single", "weights_memory"},
    search: {"search", "search_strong"},
    train: {"joint_training", "joint_training_16_rows", "joint_training_64_rows", "trl_over_ours"},
    scaling: {"experts_2_over_1", "weights_4_over_1", "batch_4_over_1", "objectives_3_over_2"},
}


@pytest.mark.parametrize("benchmark", KEYS, ids=lambda module: module.__name__)
def test_every_benchmark_runs_and_leaves_its_record(
    benchmark: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if benchmark is train:
        pytest.importorskip("trl")
    out = tmp_path / "record.json"
    benchmark.main(["--quick", "--repeats", "1", "--out", str(out)])
    ratios = json.loads(capsys.readouterr().out.splitlines()[-1])["ratios"]
    assert set(ratios) == KEYS[benchmark]
    assert all(value > 0 for value in ratios.values())
    record = json.loads(out.read_text())
    assert record["ratios"].keys() == ratios.keys()
    assert {"machine", "versions", "threads", "commit", "command", "peaks_by_threads"} <= record.keys()
    assert all(len(row["seconds"]["raw"]) == row["seconds"]["repeats"] for row in record["rows"])
    assert out.with_suffix(".png").exists() == (benchmark is scaling)


@pytest.mark.parametrize(("line", "named"), [(["--repeats", "0"], "--repeats=0"), (["--shapes", "tinny"], "tiny")])
def test_bad_input_is_named(line: list[str], named: str) -> None:
    with pytest.raises(UserError, match=named):
        decode.main(line)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_gpu_that_is_not_there_is_an_error() -> None:
    with pytest.raises(UserError, match="--device=cuda"):
        options("decode", "Decoding", ["--device", "cuda"], {})
