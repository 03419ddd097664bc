"""Builds every missing asset, two at a time, in processes of one thread each."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console

from emorl_bench.assets.base_models import build_base_model
from emorl_bench.assets.scorer_training import build_scorers

# name -> what writes it into a directory; the slowest first, so that two processes end about together
BUILDERS = {
    "reflections/tiny_t5": partial(build_base_model, "tiny_t5"),
    "reflections/tiny_gpt2": partial(build_base_model, "tiny_gpt2"),
    "scorers/train": partial(build_scorers, "train"),
    "scorers/held_out": partial(build_scorers, "held_out"),
}
PROCESSES = 2


def build_assets(drafts: Mapping[str, Path]) -> None:
    started, console = time.perf_counter(), Console(stderr=True)
    console.print(f"Building {', '.join(drafts)}: once, in about a minute and a half", highlight=False)
    # spawned, not forked: the parent may hold threads of torch or of a tracker
    with ProcessPoolExecutor(min(PROCESSES, len(drafts)), mp_context=get_context("spawn")) as pool:
        pending = {pool.submit(build_one, name, str(drafts[name])): name for name in BUILDERS if name in drafts}
        for future in as_completed(pending):
            future.result()
            console.print(f"  {pending[future]} built, {time.perf_counter() - started:.0f} s", highlight=False)


def build_one(name: str, directory: str) -> None:
    """One asset in this process; one thread, so that the result does not depend on the number of cores."""
    import torch
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    started = time.perf_counter()

    def progress(line: str) -> None:
        print(f"  [{time.perf_counter() - started:4.0f} s] {line}", file=sys.stderr, flush=True)

    BUILDERS[name](Path(directory), progress)
