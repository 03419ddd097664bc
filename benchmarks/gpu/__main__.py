"""Test and measure the suite on the GPU that is at hand, within a number of minutes.

Parts run in the order of `PARTS`, the most important ones first, each with a share of the time. A later visit with the
same ``--out`` goes on where the commit and the card are the same. ``gpu.json``, ``gpu.md`` and ``log.txt`` in ``--out``
are up to date after every number, and the table is printed last. Exit status: 0 if nothing failed, 1 if something did,
2 on bad input. A goal that is not met is no failure.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch

from benchmarks.gpu.attention import measure_attention
from benchmarks.gpu.checks import run_tests
from benchmarks.gpu.choices import measure_choices
from benchmarks.gpu.decoding import measure_decoding
from benchmarks.gpu.earlier import take_up
from benchmarks.gpu.kit import Kit, Part, Settings
from benchmarks.gpu.memory import measure_memory
from benchmarks.gpu.quantised import measure_quantised
from benchmarks.gpu.several import measure_several
from benchmarks.gpu.study import go_on
from benchmarks.gpu.training import measure_training
from benchmarks.gpu.vllm_side import measure_vllm
from emorl_bench.core.errors import UserError
from emorl_bench.runner.provenance import code_diff, installed_version, provenance

PARTS = (
    Part("tests", 3.5, 10.0, run_tests),
    Part("decoding", 2.5, 10.0, measure_decoding),
    Part("training", 2.0, 10.0, measure_training),
    Part("memory", 2.0, 10.0, measure_memory),
    Part("choices", 1.0, 5.0, measure_choices),
    Part("attention", 0.5, 5.0, measure_attention),
    Part("quantised", 1.0, 1.0, measure_quantised),
    Part("vllm", 1.5, 1.0, measure_vllm),
    Part("several", 1.5, 1.0, measure_several),
    Part("study", 1.5, 20.0, go_on, goes_on=True),
)
ALSO = ("accelerate", "trl", "vllm", "triton", "huggingface_hub", "bitsandbytes", "flash_attn")
THREADS = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run all parts, or those that were asked for.

    Returns:
        the exit status.

    Raises:
        UserError: what `options` raises.
    """
    settings, parts = options(argv)
    settings.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(THREADS)
    kit = Kit(settings, about(settings.device))
    take_up(kit)
    kit.run(parts)
    print(kit.save(), flush=True)
    return 1 if kit.failures else 0


def options(argv: Sequence[str] | None) -> tuple[Settings, list[Part]]:
    """Parse the command line.

    Returns:
        the settings, and the parts that are asked for.

    Raises:
        UserError: there is no such GPU, no such part, or no time.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8.0, help="all in all (default 8)")
    parser.add_argument("--out", type=Path, default=Path("report/gpu"), help="where gpu.json, gpu.md and log.txt go")
    parser.add_argument("--runs", type=Path, help="runs_dir of the study, taken up where it stopped (default OUT/runs)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="micro sizes: does it run? its numbers mean nothing")
    names = [part.name for part in PARTS]
    parser.add_argument("--parts", help=f"some of {','.join(names)} (default: all, in this order)")
    parser.add_argument("--again", action="store_true", help="measure again what an earlier visit has measured")
    given = parser.parse_args(argv)
    asked = names if given.parts is None else given.parts.split(",")
    if unknown := [name for name in asked if name not in names]:
        raise UserError(f"--parts={given.parts}: no part '{unknown[0]}'; parts are {', '.join(names)}")
    if not given.minutes > 0:
        raise UserError(f"--minutes={given.minutes:g}: give a number above 0")
    if given.device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "--device=cuda: no GPU that torch can use was found; --device=cpu --quick rehearses without one"
        )
    runs = given.runs or given.out / "runs"
    device = torch.device(given.device)
    settings = Settings(given.minutes, given.out.resolve(), runs.resolve(), device, given.quick, given.again)
    return settings, [part for part in PARTS if part.name in asked]


def about(device: torch.device) -> dict[str, Any]:
    """Where the numbers come from: card, versions, commit and command."""
    here = provenance(THREADS, device.type)
    here["versions"] |= {name: version for name in ALSO if (version := installed_version(name))}
    here["command"] = ["python", "-m", "benchmarks.gpu", *sys.argv[1:]]
    machine = here["machine"]
    card = machine["accelerator"] or f"no GPU ({machine['processor']})"
    if device.type == "cuda":
        card += f", {torch.cuda.get_device_properties(device).total_memory / 1e9:.0f} GB, CUDA {torch.version.cuda}"
    return {"card": card, **here, "uncommitted_changes": bool(code_diff())}


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"benchmarks.gpu: {error}", file=sys.stderr)
        sys.exit(2)
