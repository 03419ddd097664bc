"""Device and precision of a run where ``auto`` is asked for, on GPUs that are made up."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from emorl_bench.config.checks import check_attention
from emorl_bench.core.errors import UserError
from emorl_bench.runner import placement
from emorl_bench.runner.placement import chosen_device, decided, in_words, torch_dtype

AUTO = {"device": "auto", "dtype": "auto", "threads": 1, "max_corpus_mb": None}


@pytest.fixture(autouse=True)
def exact_again():
    threads = torch.get_num_threads()
    yield
    torch.set_float32_matmul_precision("highest")
    torch.set_num_threads(threads)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch):
    """So many GPUs, with or without bfloat16; returns the list of those that were made the current one."""

    def of(count: int, *, bfloat16: bool, capability: tuple[int, int] = (8, 0)) -> list[int]:
        current: list[int] = []
        made_up = SimpleNamespace(
            is_available=lambda: count > 0,
            device_count=lambda: count,
            set_device=current.append,
            current_device=lambda: current[-1] if current else 0,
            is_bf16_supported=lambda including_emulation: bfloat16,
            get_device_capability=lambda: capability,
            get_device_name=lambda index: "Card",
            mem_get_info=lambda device: (60 << 30, 80 << 30),
        )
        monkeypatch.setattr(placement.torch, "cuda", made_up)
        return current

    return of


@pytest.mark.parametrize(
    ("count", "bfloat16", "capability", "found", "products"),
    [
        (0, False, (0, 0), ("cpu", "float32"), "highest"),
        (1, True, (9, 0), ("cuda", "bfloat16"), "highest"),
        (1, False, (8, 0), ("cuda", "tf32"), "high"),
        (1, False, (7, 5), ("cuda", "float32"), "highest"),
    ],
)
def test_auto_is_the_fastest_precision_that_the_card_has(gpus, count, bfloat16, capability, found, products) -> None:
    gpus(count, bfloat16=bfloat16, capability=capability)
    settings = decided(AUTO)
    assert (settings["device"], settings["dtype"]) == found
    assert torch.get_float32_matmul_precision() == products


def test_tf32_of_one_job_does_not_reach_the_next_one(gpus) -> None:
    gpus(1, bfloat16=True)
    assert decided({**AUTO, "dtype": "tf32"})["dtype"] == "tf32"
    assert torch.get_float32_matmul_precision() == "high"
    assert decided({**AUTO, "dtype": "float32"})["dtype"] == "float32"
    assert torch.get_float32_matmul_precision() == "highest"
    assert torch_dtype("tf32") == torch.float32


def test_a_gpu_by_number_is_the_current_one_and_no_part_of_the_settings(gpus) -> None:
    current = gpus(4, bfloat16=True)
    assert decided({**AUTO, "device": "cuda:3"})["device"] == "cuda"
    assert current == [3]
    line = in_words(torch.device("cuda"), "bfloat16", 4096, 1 << 30)
    assert line == (
        "computes on cuda:3 (Card), in bfloat16, at most 4096 rows at once, logits in blocks of 1024 MiB; "
        "60.0 of 80.0 GiB of its memory are free"
    )


@pytest.mark.parametrize(
    ("count", "device", "says"),
    [(0, "cuda:1", "no GPU that torch can use"), (2, "cuda:2", r"torch sees 2 GPU\(s\); give cuda:0 to cuda:1")],
)
def test_a_gpu_that_is_not_there_is_refused(gpus, count, device, says) -> None:
    gpus(count, bfloat16=True)
    with pytest.raises(UserError, match=says):
        chosen_device({**AUTO, "device": device})


def test_one_gpu_for_several_processes_is_refused(gpus, monkeypatch) -> None:
    gpus(2, bfloat16=True)
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="each of 2 processes takes a GPU of its own"):
        chosen_device({**AUTO, "device": "cuda:0"})


def test_tf32_needs_a_gpu() -> None:
    with pytest.raises(UserError, match=r"hardware\.dtype=tf32: only GPUs"):
        decided({**AUTO, "device": "cpu", "dtype": "tf32"})


@pytest.mark.parametrize(
    ("free", "says"), [(3 << 29, "1.5 GiB of memory are free"), (placement.UNKNOWN, "its free memory is unknown")]
)
def test_the_line_of_a_cpu_says_threads_and_memory(free, says, monkeypatch) -> None:
    monkeypatch.setattr(placement, "free_on_machine", lambda: free)
    line = in_words(torch.device("cpu"), "float32", 7, 1 << 24)
    assert line.endswith(f"in float32, at most 7 rows at once, logits in blocks of 16 MiB; {says}")
    assert line.startswith("computes on cpu (")


@pytest.mark.parametrize(
    ("device", "dtype", "says"),
    [("cpu", "bfloat16", "needs hardware=cuda"), ("cuda", "tf32", "bfloat16"), ("auto", "auto", "package flash-attn")],
)
def test_flash_attention_is_allowed_where_it_can_work(device, dtype, says, monkeypatch) -> None:
    model = {"attention": "flash_attention_2", "dtype": None}
    monkeypatch.setattr("emorl_bench.config.checks.find_spec", lambda name: None)
    with pytest.raises(UserError, match=says):
        check_attention(model, {"device": device, "dtype": dtype})
    monkeypatch.setattr("emorl_bench.config.checks.find_spec", lambda name: object())
    check_attention(model, {"device": "cuda", "dtype": "bfloat16"})


def test_eager_attention_in_float64_would_be_nan() -> None:
    with pytest.raises(UserError, match="say sdpa"):
        check_attention({"attention": "eager", "dtype": None}, {"device": "cpu", "dtype": "float64"})
