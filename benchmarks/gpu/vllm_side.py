"""vLLM beside our decode: one base model, one LoRA adapter, the same prompts, greedy.

Both sides have the same random weights. vLLM's engine takes the card's memory for itself, so the sides cannot take
turns: ours is timed first, in this process, then vLLM's in one of its own. Every batch has new prompts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.checks import PATIENCE, ROOT, ended
from benchmarks.gpu.choices import as_runs_decode
from benchmarks.gpu.kit import Kit, Number
from benchmarks.gpu.vllm_program import RESULT
from benchmarks.models import RANK, SHAPES, Setting, micro, random_setting
from benchmarks.timing import Timing, seconds_of
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Example, Sampling

SHAPE, ROWS, QUICK = "smollm2_135m", (64, 256), (4,)
SECONDS = 90.0  # the start of the engine takes almost as long
MEMORY = 0.5  # share of the card's memory
LEAST_RANK = 8  # the smallest ``max_lora_rank`` of vLLM
STEP = "vllm"


def measure_vllm(kit: Kit) -> None:
    """Time both sides, and compare what they said."""
    if find_spec("vllm") is None:
        kit.skip("vLLM", "it is not installed")
    elif kit.wants("vLLM", STEP, 0.0 if kit.settings.quick else SECONDS):
        with kit.attempt("vLLM", STEP), tempfile.TemporaryDirectory() as directory:
            compare(kit, Path(directory))


def compare(kit: Kit, directory: Path) -> None:
    """Decode with ours, then with vLLM.

    Raises:
        AssertionError: vLLM ended with an error or was stopped, or did not do the same work.
    """
    shape = micro(SHAPES[SHAPE]) if kit.settings.quick else SHAPES[SHAPE]
    setting = random_setting(shape, experts=1, dtype=kit.settings.dtype, device=kit.device)
    as_runs_decode(setting.bank.decoder)
    batches = {rows: drawn(setting, rows, kit.settings.repeats + 1) for rows in (QUICK if kit.settings.quick else ROWS)}
    ours = {rows: decoded(kit, setting, own) for rows, own in batches.items()}
    write_job(kit, setting, batches, directory)
    kit.tidy()
    found = run_engine(kit, directory)
    kit.number("vllm/start", Number("vllm", "start of vLLM's engine", found["start_s"], "s"))
    for rows, (timing, said) in ours.items():
        theirs = Timing(tuple(found["rows"][str(rows)]["seconds"][1:]))
        record(kit, setting, rows, (timing, said), (theirs, found["rows"][str(rows)]["said"]))


def drawn(setting: Setting, rows: int, batches: int) -> list[list[Example]]:
    """Batches of prompts that were never seen."""
    each = len(setting.prompts())
    return [setting.prompts(-(-rows // each))[:rows] for _ in range(batches)]


def decoded(kit: Kit, setting: Setting, batches: Sequence[list[Example]]) -> tuple[Timing, list[list[int]]]:
    """Our times, without that of the first batch, and our answers to the last batch."""
    greedy, said, seconds = Sampling(setting.new_tokens, temperature=0.0), torch.zeros(0), []
    for examples in batches:
        held: list[torch.Tensor] = []

        def act(examples: list[Example] = examples, held: list[torch.Tensor] = held) -> None:
            held.append(setting.experts[0].generate(examples, greedy, stream(0)).response_ids_BT)

        seconds.append(seconds_of(act, kit.device))
        said = held[0]
    return Timing(tuple(seconds[1:])), said.tolist()


def write_job(kit: Kit, setting: Setting, batches: dict[int, list[list[Example]]], directory: Path) -> None:
    """Write base model, adapter and prompts for `benchmarks.gpu.vllm_program`."""
    setting.new_model().save_pretrained(directory / "model")
    setting.experts[0].save(directory / "adapter")
    ids = {rows: [[setting.backbone.prompt_ids(e.context) for e in b] for b in own] for rows, own in batches.items()}
    longest = setting.backbone.max_prompt_tokens + setting.new_tokens
    job = {
        "model": str(directory / "model"), "adapter": str(directory / "adapter"), "rank": max(RANK, LEAST_RANK),
        "dtype": str(kit.settings.dtype).removeprefix("torch."), "longest": longest, "memory": MEMORY,
        "new_tokens": setting.new_tokens, "batches": ids,
    }  # fmt: skip
    (directory / "job.json").write_text(json.dumps(job))


def run_engine(kit: Kit, directory: Path) -> dict[str, Any]:
    """Run vLLM's side, and read what it found."""
    output = kit.settings.out / "vllm.txt"
    command = [sys.executable, "-m", "benchmarks.gpu.vllm_program", str(directory / "job.json")]
    paths = f"{os.environ.get('PYTHONPATH', '')}{os.pathsep}{ROOT}"
    with output.open("w") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT,
            env=os.environ | {"PYTHONPATH": paths, "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"},
        )  # fmt: skip
        in_time = ended(process, kit.left - 2 * PATIENCE)
    if not in_time or process.returncode:
        kit.log(output.read_text()[-4000:])
        raise AssertionError(f"vLLM {f'ended with {process.returncode}' if in_time else 'was stopped'}: {output.name}")
    return dict(json.loads((directory / RESULT).read_text()))


def record(
    kit: Kit, setting: Setting, rows: int, ours: tuple[Timing, list[list[int]]], theirs: tuple[Timing, list[list[int]]]
) -> None:
    """Record one number of rows: tokens a second of both, and how far their greedy answers agree."""
    if any(len(row) != setting.new_tokens for row in theirs[1]) or len(theirs[1]) != rows:
        raise AssertionError(f"vLLM said {sum(map(len, theirs[1]))} tokens, not {rows * setting.new_tokens}")
    first = sum(a[0] == b[0] for a, b in zip(ours[1], theirs[1], strict=True)) / rows
    whole = sum(a == b for a, b in zip(ours[1], theirs[1], strict=True)) / rows
    facts = {
        "ours_tokens_s": rows * setting.new_tokens / ours[0].median, "same_first_token": first, "same_answer": whole,
        "spread": theirs[0].spread,
    }  # fmt: skip
    number = Number(
        "vllm", f"{setting.name}, {rows} rows, vLLM of one policy with its adapter",
        rows * setting.new_tokens / theirs[0].median, "tokens/s", theirs[0].median / ours[0].median,
        "vLLM over ours, time", facts, theirs[0].raw,
    )  # fmt: skip
    kit.number(f"vllm/{setting.name}/{rows}_rows", number)
