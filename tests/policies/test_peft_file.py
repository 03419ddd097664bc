"""The written configuration of an adapter is the one that PEFT itself reads and would write."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import make_bank, shaken
from peft import LoraConfig, PeftConfig

from emorl_bench.policies.peft_io import peft_config


@pytest.mark.parametrize("architecture", ["t5", "gpt2", "llama"])
def test_peft_reads_what_its_own_class_would_hold(architecture: str, tmp_path: Path) -> None:
    bank = make_bank(architecture)
    shaken(bank, 1).save(tmp_path)
    read = PeftConfig.from_pretrained(str(tmp_path))
    assert isinstance(read, LoraConfig)
    own = peft_config(bank.backbone)
    own.inference_mode = True
    assert read.to_dict() == own.to_dict()


def test_a_job_does_not_import_peft() -> None:
    code = "import sys, emorl_bench.runner.job; print('peft' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.strip() == "False"
