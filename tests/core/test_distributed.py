"""One run in two processes is the run of one process: exchanges, scoring, the record, and training end to end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.ranks_program import TEXTS, learning

from emorl_bench.core.ranks import ALONE, Ranks

TESTS = Path(__file__).parents[1]
SECONDS = 300
METHODS = ("weighted_scst", "weighted_ppo", "emorl")
SMALL = [
    "budget=smoke",
    "hardware.dtype=float64",  # in float32 the order of a sum can make a sampled token another, and the rest with it
    "update.learning_rate=1e-4",
    "budget.report_prompts=8",
    "preferences.divisions=1",
    "hardware=cpu",
    "tracker=local",
]


def launch(*arguments: str, processes: int = 2) -> subprocess.CompletedProcess[str]:
    """What ``torchrun --standalone --nproc_per_node 2`` does; with one process, no launcher at all."""
    group = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
    environment |= {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", "PYTHONPATH": str(TESTS)}
    command = [sys.executable, *(group if processes > 1 else []), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=environment, check=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes have left what they saw of `ranks_program`."""
    place = tmp_path_factory.mktemp("ranks")
    done = launch(str(TESTS / "support" / "ranks_program.py"), str(place))
    assert done.returncode == 0, done.stderr
    return place


@pytest.fixture(scope="module")
def seen(place: Path) -> list[dict[str, Any]]:
    return [json.loads((place / f"rank{i}.json").read_text()) for i in range(2)]


def test_alone_everything_is_the_identity() -> None:
    tensors = [torch.tensor([1.0, 2.0])]
    ALONE.sum_(tensors)
    assert tensors[0].tolist() == [1.0, 2.0]
    assert ALONE.gather(tensors[0]) is tensors[0]
    assert ALONE.first
    assert ALONE.share(3) == range(3)
    assert ALONE.once(lambda: 5) == ALONE.together(lambda: 5) == ALONE.most(5) == 5


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("n", [0, 1, 5, 16])
def test_shares_cover_everything_once_and_evenly(count: int, n: int) -> None:
    shares = [Ranks(i, count).share(n) for i in range(count)]
    assert [i for share in shares for i in share] == list(range(n))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_exchanges_between_two_processes(seen: list[dict[str, Any]]) -> None:
    ranks = [rank["exchanges"] for rank in seen]
    assert [r["index"] for r in ranks] == [0, 1]
    assert [r["share"] for r in ranks] == [[0, 1], [2, 3, 4]]
    assert [r["together"] for r in ranks] == ["done by 0", "done by 1"]
    for r in ranks:
        assert r["count"] == 2
        assert r["gathered"] == [[10, 11], [12, 13]]
        assert r["flags"] == [False, True]
        assert r["sums"] == [[[3.0, 3.0], [3.0, 3.0]], [pytest.approx(0.3)]]
        assert r["agreed"] == {"from": 0}
        assert r["collected"] == ["rank 0", "rank 1"]
        assert r["most"] == 10
        assert r["once"] == "done by 0"
        assert r["once_error"] == "only rank 0 knows"
        assert r["together_error"] == "only rank 1 knows"


def test_texts_are_scored_once_and_every_rank_has_all_scores(seen: list[dict[str, Any]]) -> None:
    ranks = [rank["scoring"] for rank in seen]
    assert sum(r["asked"] for r in ranks) == TEXTS
    for r in ranks:
        assert r["scores"] == pytest.approx([i / 100 for i in range(TEXTS)])
        assert (r["scored_texts"], r["scorer_calls"]) == (TEXTS, 1)
        assert "scorer 'lengths': returned nan" in r["bad"]


def test_one_run_directory_that_rank_0_writes(seen: list[dict[str, Any]]) -> None:
    ranks = [rank["directories"] for rank in seen]
    for r in ranks:
        assert (r["first"], r["second"]) == ([False, False], [True, False])
        assert "in use by another run" in r["busy"]
    record = Path(ranks[0]["path"])
    assert json.loads((record / "summary.json").read_text()) == {"written_by": 0}
    assert json.loads((record / "provenance.json").read_text())["sessions"][0]["machine"]["ranks"] == 2


@pytest.mark.parametrize("in_step", [False, True], ids=["whole base", "sharded base"])
@pytest.mark.parametrize("architecture", ["t5", "llama"])
def test_an_update_of_two_processes_is_that_of_one(place: Path, architecture: str, in_step: bool) -> None:
    """Uneven shares; tokens, gradients (as Adam's first moment), metrics, adapters and counts."""
    expected = learning(ALONE, architecture)
    ranks = [load_file(place / f"{architecture}-{in_step}-rank{i}.safetensors") for i in range(2)]
    assert all(rank.keys() == expected.keys() for rank in ranks)
    for key, value in expected.items():
        assert torch.equal(ranks[0][key].nan_to_num(), ranks[1][key].nan_to_num()), key  # to the bit
        torch.testing.assert_close(ranks[0][key], value, rtol=1e-6, atol=1e-8, equal_nan=True, msg=key)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of one process each, by a sweep."""
    runs = tmp_path_factory.mktemp("alone")
    done = launch("-m", "emorl_bench.cli", "-m", f"method={','.join(METHODS)}", f"runs_dir={runs}", *SMALL, processes=1)
    assert done.returncode == 0, done.stdout + done.stderr
    return runs


def record(runs: Path, method: str) -> tuple[list[dict[str, float]], list[dict[str, Any]], dict[str, Any]]:
    """Metrics without what is measured and not computed, the graded samples, and the summary."""
    (directory,) = (runs / "reflections" / "tiny_t5" / method).glob("s0-*")
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    measured = ("seconds", "peak_bytes", "flops")
    rows = [{k: v for k, v in row.items() if not k.endswith(measured)} for row in lines]
    samples = [json.loads(line) for line in (directory / "samples.jsonl").read_text().splitlines()]
    return rows, samples, json.loads((directory / "summary.json").read_text())


@pytest.mark.parametrize(
    ("method", "extra"),
    [*((method, ()) for method in METHODS), ("emorl", ("hardware.shard_base=true",))],
    ids=[*METHODS, "emorl, sharded base"],
)
def test_a_run_of_two_processes_is_that_of_one(
    alone: Path, tmp_path: Path, method: str, extra: tuple[str, ...]
) -> None:
    done = launch("-m", "emorl_bench.cli", f"method={method}", f"runs_dir={tmp_path}", *SMALL, *extra)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("starts: ") == done.stdout.count("done: ") == 1  # one rank speaks
    (rows, samples, summary), (own_rows, own_samples, own_summary) = record(alone, method), record(tmp_path, method)
    assert len(own_rows) == len(rows) > 4
    for own, row in zip(own_rows, rows, strict=True):
        assert own == pytest.approx(row, rel=1e-4, abs=5e-5)  # a KL is a small difference of float32 sums
    assert [s["response"] for s in own_samples] == [s["response"] for s in samples]
    for decoding in ("greedy", "sampled"):
        mine, theirs = (s["decoding"][decoding]["uniform"]["objectives"] for s in (own_summary, summary))
        assert mine == pytest.approx(theirs, abs=1e-5)
    assert own_summary["fingerprint"] == summary["fingerprint"]


def test_two_processes_take_up_what_one_has_left(alone: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(alone, runs)
    (directory,) = (runs / "reflections" / "tiny_t5" / "weighted_ppo").glob("s0-*")
    (directory / "summary.json").unlink()  # as if it had been killed while it was graded
    done = launch("-m", "emorl_bench.cli", "method=weighted_ppo", f"runs_dir={runs}", *SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "goes on: " in done.stdout
    (_, samples, _), (_, own_samples, _) = record(alone, "weighted_ppo"), record(runs, "weighted_ppo")
    assert [s["response"] for s in own_samples] == [s["response"] for s in samples]
    sessions = json.loads((directory / "provenance.json").read_text())["sessions"]
    assert [session["machine"]["ranks"] for session in sessions] == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["seeed=3"], "emorl-bench: seeed=3: unknown key 'seeed'; did you mean 'seed'?"),
        (["-m", "seed=0,1"], "emorl-bench: a sweep inside a launch of 2 processes: launch one run at a time"),
        (
            ["hardware.shard_base=true", "budget.training.batch_prompts=3", "budget.training.samples_per_prompt=5"],
            "emorl-bench: 15 rows of an update among 2 processes: ",
        ),
    ],
    ids=["before joining", "a sweep", "in the middle"],
)
def test_an_error_is_one_line_and_ends_all(tmp_path: Path, arguments: list[str], line: str) -> None:
    done = launch("-m", "emorl_bench.cli", *arguments, "method=weighted_scst", f"runs_dir={tmp_path}", *SMALL)
    assert done.returncode != 0
    assert (done.stdout + done.stderr).count(line) == 1, done.stdout + done.stderr


def test_a_sharded_base_needs_company(tmp_path: Path) -> None:
    done = launch("-m", "emorl_bench.cli", "hardware.shard_base=true", f"runs_dir={tmp_path}", processes=1)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "hardware.shard_base=true: one process has nobody to share with" in done.stderr
