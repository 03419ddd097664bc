"""Build the assets of both embedded tasks from code, and say how they differ from the shipped ones.

A training depends on how the processor rounds, so another machine gives other weights of the same quality. The shipped
weights stay the reference. `ship` replaces them, for somebody who changes the task itself.
"""

from __future__ import annotations

import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from safetensors.torch import load_file, save_file

from emorl_bench.assets.scoring import NGRAMS, READER, SCORERS
from emorl_bench.assets.shipped import FAMILIES, SHIPPED, file_hash
from emorl_bench.building.reflections.base_models import build_base_model
from emorl_bench.building.reflections.rounds import build_scorers
from emorl_bench.building.sums.base_models import build as build_sums_model

PROCESSES = 2
BUILDERS = {"reflections": build_base_model, "sums": build_sums_model}  # task -> what trains a base model of it
HASHES = Path(__file__).parents[1] / "assets" / "hashes.py"
HEADER = '"""The sha256 of every shipped file. Written by `emorl-assets build --from-code --ship`."""\n\n'


def build_from_code(out: Path) -> None:
    """Build all base models, two at a time, then the scorers, which are hardened against policies of these models."""
    bases = {(task, name): out / task / name for name in FAMILIES for task in BUILDERS}
    for directory in bases.values():
        directory.mkdir(parents=True, exist_ok=True)
    # spawned, not forked: the parent may hold threads of torch
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        for done in [pool.submit(_base, task, name, directory) for (task, name), directory in bases.items()]:
            done.result()
    started = time.perf_counter()
    attacked = {name: bases["reflections", name] for name in FAMILIES}
    scorers = build_scorers(attacked, lambda line: _say(started, line))
    directory = out / SCORERS
    directory.mkdir(parents=True, exist_ok=True)
    save_file(scorers.reader.state_dict(), directory / READER)
    save_file(scorers.ngrams.state_dict(), directory / NGRAMS)
    scorers.tokenizer.save_pretrained(directory)


def _base(task: str, name: str, directory: Path) -> None:
    """Build one base model in this process, with one thread: so the result does not depend on the number of cores."""
    import torch
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    started = time.perf_counter()
    BUILDERS[task](name, directory, lambda line: _say(started, line))


def differences(out: Path) -> list[str]:
    """One line for each built file: equal to the shipped one, or by how much it differs."""
    lines = []
    for built in sorted(file for file in out.rglob("*") if file.is_file()):
        name, shipped = built.relative_to(out).as_posix(), SHIPPED / built.relative_to(out)
        if not shipped.exists():
            lines.append(f"{name}: is not shipped")
        elif file_hash(built) == file_hash(shipped):
            lines.append(f"{name}: equal, byte for byte")
        else:
            lines.append(f"{name}: differs{_by(built, shipped)}")
    return lines


def _by(built: Path, shipped: Path) -> str:
    if built.suffix != ".safetensors":
        return ""
    ours, theirs = load_file(built), load_file(shipped)
    if {k: v.shape for k, v in ours.items()} != {k: v.shape for k, v in theirs.items()}:
        return " in shape"
    return f" by {max(float((ours[name] - theirs[name]).abs().max()) for name in ours):.2g} at most in a weight"


def ship(out: Path) -> None:
    """Replace the shipped files by the built ones, and write their hashes into the code."""
    for built in (file for file in out.rglob("*") if file.is_file()):
        target = SHIPPED / built.relative_to(out)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(built, target)
    write_hashes()


def write_hashes() -> None:
    """Write the hashes of the shipped files into the code."""
    files = sorted(file for file in SHIPPED.rglob("*") if file.is_file())
    rows = [f'    "{file.relative_to(SHIPPED).as_posix()}": "{file_hash(file)}",\n' for file in files]
    HASHES.write_text(HEADER + "SHA256: dict[str, str] = {\n" + "".join(rows) + "}\n")


def _say(started: float, line: str) -> None:
    print(f"  [{time.perf_counter() - started:4.0f} s] {line}", file=sys.stderr, flush=True)
