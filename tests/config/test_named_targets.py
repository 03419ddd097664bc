"""A ``_target_`` names a class of ``conf`` or of the user's ``--config-dir``; any other name is refused unimported."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hydra._internal.utils import get_args_parser

from emorl_bench.config import schema
from emorl_bench.config.compose import every_job, precheck
from emorl_bench.config.targets import build, check_targets
from emorl_bench.config.trust import conf_dir, is_named, named_in
from emorl_bench.core.errors import UserError
from emorl_bench.launch import plugins

MINE = "_target_: my_scorers.Brevity\nname: brevity\n"
ADDED = "+scorer@task.scorers.brevity=brevity"


def checked(*arguments: str) -> None:
    schema.register()
    plugins.register()
    precheck(get_args_parser().parse_args([*arguments, "tracker=local"]), verify=lambda settings: None)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A ``--config-dir`` with a scorer in it, and below it a run directory that names a program."""
    file = tmp_path / "my_conf" / "scorer" / "brevity.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(MINE)
    run = tmp_path / "my_conf" / "runs" / "sums" / "tiny_t5" / "base" / "s0-1"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("task: {_target_: evil.program}\n")
    return tmp_path / "my_conf"


@pytest.mark.parametrize(
    "override",
    [
        "task._target_=os.system",
        "method._target_=setuptools._distutils.spawn.spawn",
        "+task.scorers.mine._target_=my_scorers.Brevity",
        "+method.anything={_target_:shutil.rmtree,path:x}",
        "tracker._target_=emorl_bench.offline.fetching.subprocess.run",
        "method._target_=emorl_bench.building.build.ship",
        "method._target_=emorl_bench.emorl",
    ],
)
def test_a_name_that_no_file_has_is_refused_in_a_run_and_in_a_sweep(override: str) -> None:
    for arguments in ([override], ["-m", "seed=0,1", override]):
        with pytest.raises(UserError, match=r"is named neither by conf nor by a file of --config-dir"):
            checked(*arguments)


def test_every_value_of_a_sweep_is_looked_at() -> None:
    with pytest.raises(UserError, match=r"update\._target_=os\.system"):
        checked("-m", "update._target_=emorl_bench.rl.scst.Scst,os.system")


def test_a_refused_module_is_never_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs_when_imported.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError):
        checked("tracker._target_=runs_when_imported.Tracker")
    assert "runs_when_imported" not in sys.modules


def test_a_config_dir_names_its_own_classes_and_the_runs_below_it_name_none(directory: Path) -> None:
    checked("--config-dir", str(directory), ADDED)
    checked("--config-dir", str(directory), "task._target_=my_scorers.Brevity")
    with pytest.raises(UserError, match=r"evil\.program"):
        checked("--config-dir", str(directory), "task._target_=evil.program")
    schema.register()
    arguments = get_args_parser().parse_args(["--config-dir", str(directory), ADDED, "tracker=local"])
    assert [job.settings["task"]["scorers"]["brevity"]["name"] for job in every_job(arguments)] == ["brevity"]


def test_alternatives_in_a_module_that_conf_names_are_allowed() -> None:
    assert "emorl_bench.ensemble.blending.Logits" not in named_in(conf_dir())
    checked("method.aggregator._target_=emorl_bench.ensemble.blending.Logits")
    checked("method.aggregator.merge._target_=baselines.ties.Ties", "method=aim")
    assert not is_named("os.path.join", ())


@pytest.mark.parametrize(
    "name",
    ["emorl_bench.ensemble.blending.torch", "emorl_bench.ensemble.blending.dataclass", "baselines.base.Bench"],
)
def test_what_a_module_of_ours_only_imports_is_no_class_of_it(name: str) -> None:
    """The name passes the first check, because it looks like a class beside one that is named."""
    assert is_named(name, ())
    with pytest.raises(UserError, match=r"is no class of that module|is not a class or function|cannot be imported"):
        check_targets({"method": {"_target_": name}})


def test_building_is_as_plain_as_the_configuration() -> None:
    node = {"_target_": "builtins.dict", "a": [{"_target_": "fractions.Fraction", "numerator": 3}], "b": {"c": "${x}"}}
    assert build(node) == {"a": [3], "b": {"c": "${x}"}}
    assert build({"_target_": "builtins.dict", "_partial_": True, "a": 1})(b=2) == {"a": 1, "b": 2}
