"""What a sweep imports once for all jobs: everything that a job would import, and nothing that makes a fork unsafe."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from emorl_bench.runner.sweep import modules
from emorl_bench.tracking.wandb import Wandb

OPENED = """
import sys, threading
from importlib import import_module
for name in ["emorl_bench.runner.job", *{modules!r}]:
    import_module(name)
assert threading.active_count() == 1, threading.enumerate()
before = set(sys.modules)
import wandb
wandb.init(mode="offline", dir={dir!r}).finish()
late = [name for name in set(sys.modules) - before if name.count(".") < 2 and not name.startswith("_")]
print(" ".join(sorted(late)))
"""


def config(target: str) -> DictConfig:
    return OmegaConf.create({"tracker": {"_target_": target}})


def test_the_modules_of_a_tracker_are_imported_for_all_jobs() -> None:
    wandb, local = config("emorl_bench.tracking.wandb.Wandb"), config("emorl_bench.tracking.view.Local")
    assert modules([local, local]) == []
    assert modules([local, wandb, wandb]) == sorted(Wandb.modules)


@pytest.mark.parametrize("modules", [Wandb.modules])
def test_a_process_that_has_imported_them_has_one_thread_and_opens_a_run_without_more(
    tmp_path: Any, modules: Any
) -> None:
    """A process with several threads must not be forked; and a module that was forgotten would cost every job."""
    program = OPENED.format(modules=list(modules), dir=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not [name for name in done.stdout.splitlines()[-1].split() if name.startswith("wandb.apis")], done.stdout
