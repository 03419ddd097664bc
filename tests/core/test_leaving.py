"""Code of others that calls sys.exit ends nothing, and the error says where it stands."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from conftest import CPU
from wandb.sdk.lib import exit_hooks as wandb_exit_hooks

from emorl_bench.config.targets import check_targets
from emorl_bench.core.errors import UserError
from emorl_bench.core.leaving import staying
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.types import Example, Rollout
from emorl_bench.scorers.panel import ScorerPanel
from emorl_bench.scorers.python import Python

LEAVES = """
import sys
import torch

def leaves(prompts, responses):
    sys.exit(0)

def changes_the_default(prompts, responses):
    torch.set_default_dtype(torch.float64)
    return [0.5] * len(responses)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "their_scorers.py").write_text(LEAVES)
    (tmp_path / "their_script.py").write_text("import sys\nsys.exit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "their_scorers", raising=False)
    monkeypatch.delitem(sys.modules, "their_script", raising=False)
    return "their_scorers"


def leave() -> None:
    sys.exit("enough")


def test_the_error_says_what_where_and_how() -> None:
    line = leave.__code__.co_firstlineno + 1
    said = rf"^a method ended .*sys.exit\('enough'\) in leave \(.*leaving.py:{line}\)"
    with pytest.raises(UserError, match=said), staying("a method"):
        leave()


def test_a_wrapper_of_sys_exit_is_not_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("exit", "excepthook"):
        monkeypatch.setattr(sys, name, getattr(sys, name))  # so that it is put back
    wandb_exit_hooks.ExitHooks().hook()
    with pytest.raises(UserError, match=r"sys.exit\('enough'\) in leave \(.*test_leaving.py"), staying("a method"):
        leave()


def test_everything_else_passes() -> None:
    for error in (KeyboardInterrupt, ValueError):
        with pytest.raises(error), staying("a method"):
            raise error


def test_a_function_that_leaves_is_named_with_its_scorer(module: str) -> None:
    scorer = Python(f"{module}.leaves", name="mine")
    with pytest.raises(UserError, match=r"scorer mine: function=their_scorers.leaves ended .*sys.exit\(0\) in leaves"):
        scorer.score([Example("0", "a")], ["b"])


def test_a_script_that_leaves_while_it_is_imported_is_named(module: str) -> None:
    with pytest.raises(UserError, match=r"scorer mine: importing function=their_script.fn ended .*sys.exit\(3\)"):
        Python("their_script.fn", name="mine").prepare()
    with pytest.raises(UserError, match=r"method._target_=their_script.Own ended .*sys.exit\(3\)"):
        check_targets({"method": {"_target_": "their_script.Own"}})


def test_the_panel_names_any_class_that_leaves_and_keeps_torchs_default(module: str) -> None:
    ids_BT = torch.ones(1, 1, dtype=torch.long)
    rollout = Rollout((Example("0", "a"),), ("b",), ids_BT, ids_BT.bool(), torch.zeros(1, 1), 1)

    class Leaves:
        name, bounds = "own", (0.0, 1.0)

        def score(self, examples: object, responses: object) -> torch.Tensor:
            sys.exit(0)

    with pytest.raises(UserError, match=r"scorer 'own' ended the program with sys.exit\(0\) in score"):
        ScorerPanel([Leaves()], Ledger(CPU)).score(rollout)
    before = torch.get_default_dtype()
    scores_BK = ScorerPanel([Python(f"{module}.changes_the_default", name="mine")], Ledger(CPU)).score(rollout)
    assert torch.get_default_dtype() == before
    assert (scores_BK.dtype, scores_BK.tolist()) == (torch.float32, [[0.5]])


def test_a_class_of_ones_own_that_is_not_found_names_the_path_and_nothing_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(UserError, match=r"module 'my_bench'.*PYTHONPATH") as error:
        check_targets({"task": {"_target_": "my_bench.brevity.Brevity"}})
    assert "\n" not in str(error.value)
    assert caplog.records == []
