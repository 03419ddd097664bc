"""The notebooks of examples/: their code cells run in order, in a directory that knows nothing of the checkout."""

from __future__ import annotations

import json
import re
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
PROMISED = {
    "add_a_method": [
        "unknown key 'method.oder'; did you mean 'order'?",  # the mistake that the notebook makes on purpose
        "[3/3] done",
        "one_after_another",
        "trained on: {'reflection': ",
    ],
    "compare_methods": [
        "dry run: 3 jobs",
        "  3 absent",
        "[3/3] done",
        "report: ",
        "emorl           gold utility 0.",
        "  3 done",  # the same command again has nothing left to do
        "Time: none, all is done",
    ],
}


def cells(path: Path) -> list[dict[str, Any]]:
    notebook = json.loads(path.read_text())
    assert notebook["nbformat"] == 4
    found: list[dict[str, Any]] = notebook["cells"]
    return found


def test_there_are_the_notebooks_that_are_promised() -> None:
    assert {path.stem for path in NOTEBOOKS} == set(PROMISED)
    listed = (EXAMPLES / "README.md").read_text()
    assert all(f"]({path.name})" in listed for path in NOTEBOOKS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_without_outputs_and_explains_each_step(path: Path) -> None:
    kinds = [cell["cell_type"] for cell in cells(path)]
    assert kinds[0] == "markdown"
    assert all(not (a == b == "code") for a, b in pairwise(kinds))  # prose before each code cell
    for cell in cells(path):
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
    identifiers = [cell["id"] for cell in cells(path)]
    assert len(set(identifiers)) == len(identifiers)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    namespace: dict[str, Any] = {}
    for cell in cells(path):
        if cell["cell_type"] == "code":
            source = "".join(cell["source"])
            assert not re.search(r"^[!%]", source, re.MULTILINE)  # plain Python: any kernel, and this test, can run it
            exec(compile(source, f"{path.name}:{cell['id']}", "exec"), namespace)
    shown = capsys.readouterr().out
    for words in PROMISED[path.stem]:
        assert words in shown, shown
