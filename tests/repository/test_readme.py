"""The examples of README and docs/extending.md (method, scorer, task, update rule) are run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "docs" / "extending.md")
SMALL = ["budget=smoke", "preferences.divisions=1", "tracker=local", "decoding=[greedy]"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An outsider's directory: both pages' files where they say; the checkout's places become the outsider's own."""
    directory = tmp_path_factory.mktemp("outsider")
    printed = "".join(page.read_text() for page in PAGES)
    blocks = re.findall(r"```(?:python|yaml)\n# file: (\S+)\n(.*?)```", printed, re.DOTALL)
    assert len(blocks) == 8
    for name, content in blocks:
        path = directory / name.replace("baselines/", "my_bench/").replace("conf/method/", "my_conf/method/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content.replace("baselines.", "my_bench."))
    (directory / "prompts.txt").write_text("".join(f"i feel guilty about drink number {i}.\n" for i in range(40)))
    return directory


@pytest.mark.parametrize(
    "arguments",
    [
        ["method=best_of_two"],
        ["method=base", "+scorer@task.scorers.brevity=brevity"],
        ["method=base", "task=lines", "task.path=prompts.txt"],
        ["method=weighted_scst", "update=reinforce"],
    ],
    ids=["method", "scorer", "task", "update rule"],
)
def test_the_example_runs(workspace: Path, arguments: list[str]) -> None:
    command = [str(Path(sys.executable).parent / "emorl-bench"), "--config-dir", "my_conf", *arguments, *SMALL]
    environment = os.environ | {"PYTHONPATH": str(workspace), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=workspace, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "done: " in done.stdout + done.stderr
