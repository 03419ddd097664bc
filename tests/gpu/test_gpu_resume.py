"""A training that was killed on the device goes on from its checkpoint, and ends as it would have without the kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from on_device import ARCHITECTURES, QUICK, needs_device
from safetensors import safe_open
from safetensors.torch import load_file

pytestmark = [pytest.mark.gpu, needs_device]

PROGRAM = Path(__file__).with_name("killed_program.py")
DIES_AT = 11  # of some 16 scorings: after two checkpoints
# Relative difference of a parameter. On one thread of a CPU it is 0; a device may add in another order, and in bfloat16
# a token that is sampled otherwise then changes all that follows.
CLOSE = {"float32": 1e-3, "bfloat16": 1.0}


def trained(directory: Path, architecture: str, dtype: str, dies_at: int, out: Path) -> int:
    directory.mkdir(exist_ok=True)
    command = [sys.executable, str(PROGRAM), str(directory), architecture, dtype, str(dies_at), str(out)]
    paths = [*map(str, (PROGRAM.parent, PROGRAM.parents[1], PROGRAM.parents[2])), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


def scorings(out: Path) -> int:
    with safe_open(str(out), "pt") as file:
        return int(file.metadata()["scorings"])


@pytest.mark.skipif(QUICK, reason="three processes take longer than a quick run may")
@pytest.mark.parametrize("dtype", CLOSE)
def test_a_killed_training_ends_as_one_that_was_left_alone(
    dtype: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    architecture = ARCHITECTURES[-1]
    whole, resumed = tmp_path / "whole.safetensors", tmp_path / "resumed.safetensors"
    assert trained(tmp_path / "whole", architecture, dtype, 0, whole) == 0
    assert trained(tmp_path / "killed", architecture, dtype, DIES_AT, resumed) == -signal.SIGKILL
    assert not resumed.exists()
    assert trained(tmp_path / "killed", architecture, dtype, 0, resumed) == 0
    assert scorings(resumed) < scorings(whole)  # taken up, not begun again
    expected, found = load_file(whole), load_file(resumed)
    assert found.keys() == expected.keys()
    gaps = [float((found[k] - v).norm() / v.norm()) for k, v in expected.items()]
    record_property("resumed_relative_difference", max(gaps))
    assert max(gaps) < CLOSE[dtype]
    assert all(torch.isfinite(v).all() for v in found.values())
