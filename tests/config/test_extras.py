"""What needs an extra is known before a job starts; a class that refuses a value is one line as well."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from emorl_bench.cli import bench
from emorl_bench.config import extras
from emorl_bench.config.extras import BY_VALUE, NEEDS
from emorl_bench.config.targets import build, claim_baselines
from emorl_bench.core.errors import UserError


@pytest.mark.parametrize(
    ("method", "package", "says"),
    [
        ("mgda", "torchjd", "update._target_=emorl_bench.rl.jacobian.Mgda needs torchjd: pip install"),
        ("upgrad", "quadprog", '-e ".[torchjd]"'),
        ("emorl_gp", "optuna", "method.search._target_=emorl_bench.search.optuna_study.OptunaSearch needs optuna"),
        ("trl_grpo", "trl", "method._target_=baselines.trl.trl_policy.TrlPolicy needs trl: pip install -c"),
        ("c_dynaopt", "vowpalwabbit", "method.weighting.bandit=vowpal_wabbit needs vowpalwabbit"),
    ],
)
def test_a_missing_extra_is_one_line_before_anything_starts(
    method: str,
    package: str,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refused: Callable[..., str],
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == package else object())
    more = ["method.weighting.bandit=vowpal_wabbit"] if method == "c_dynaopt" else []
    chosen = [f"method={method}", *more] if more else ["-m", f"method=emorl,{method}"]
    assert says in refused(bench.main, *chosen, f"runs_dir={tmp_path}")
    assert not (tmp_path / ".sweeps").exists()


@pytest.mark.parametrize("target", NEEDS)
def test_the_classes_that_need_an_extra_exist(target: str) -> None:
    claim_baselines()
    module, _, name = target.rpartition(".")
    made = getattr(import_module(module), name)
    if hasattr(made, "packages"):
        assert set(made.packages) == set(NEEDS[target][1])


def test_extras_are_those_of_the_distribution() -> None:
    import tomllib

    project = tomllib.loads((Path(extras.__file__).parents[2] / "pyproject.toml").read_text())["project"]
    for extra, modules in (*NEEDS.values(), *BY_VALUE.values()):
        wanted = project["optional-dependencies"][extra] if extra else project["dependencies"]
        names = {line.split(">")[0].split("=")[0].lower() for line in wanted}
        assert all(module in names for module in modules), extra


@pytest.mark.skipif(find_spec("optuna") is None, reason="pip install optuna")
def test_what_a_class_refuses_is_an_error_of_the_user() -> None:
    node: dict[str, Any] = {"_target_": "emorl_bench.search.optuna_study.OptunaSearch", "evaluations": 0}
    with pytest.raises(UserError, match="evaluations"):
        build(node)
    with pytest.raises(UserError, match="evaluations"):
        build({"_target_": "emorl_bench.emorl.Emorl", "aggregator": None, "search": node})
