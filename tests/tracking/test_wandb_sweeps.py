"""W&B sweep files: the agent's command lines are ones that emorl-bench takes, for the jobs of the same study."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from emorl_bench.config import schema
from emorl_bench.config.checks import check
from emorl_bench.config.compose import conf_dir, plain
from emorl_bench.config.trackers import check_tracker

SWEEPS = conf_dir().parent / "sweeps"
FILES = sorted(SWEEPS.glob("wandb_*.yaml"))
STUDIES = [path for path in FILES if path.stem != "wandb_tune"]


def read(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text()))


def chosen(parameter: dict[str, Any]) -> list[Any]:
    """The values of a parameter; of a distribution its ends."""
    return parameter.get("values") or [parameter.get(key) for key in ("value", "min", "max") if key in parameter]


def command_lines(sweep: dict[str, Any]) -> list[list[str]]:
    """What the agent would run, made by W&B's own function."""
    names, lines = list(sweep["parameters"]), []
    for values in itertools.product(*(chosen(sweep["parameters"][name]) for name in names)):
        given = {name: {"value": value} for name, value in zip(names, values, strict=True)}
        made = create_sweep_command_args({"args": given})
        line: list[str] = []
        for part in sweep["command"]:
            line += made.get(part[2:-1], ["/usr/bin/env"] if part == "${env}" else [part])
        lines.append(line)
    return lines


def settings(overrides: list[str], name: str = "config") -> dict[str, Any]:
    schema.register()
    path = [f"hydra.searchpath=[file://{conf_dir()}]"]
    with initialize_config_dir(str(SWEEPS if name != "config" else conf_dir()), version_base="1.3"):
        return plain(compose(name, overrides=[*(path if name != "config" else []), *overrides]))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_agent_runs_command_lines_that_hydra_takes(path: Path) -> None:
    lines = command_lines(read(path))
    assert all(line[:2] == ["/usr/bin/env", "emorl-bench"] for line in lines)
    assert not [part for line in lines for part in line[2:] if part.startswith("-") or "=" not in part]
    for line in (lines[0], lines[-1]):
        config = settings(line[2:])
        check(config)
        check_tracker(config["tracker"])
        assert config["tracker"]["_target_"].endswith("Wandb"), "a sweep of W&B must log to W&B"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_nothing_is_tuned_on_the_report(path: Path) -> None:
    assert read(path)["metric"] == {"name": "search/utility", "goal": "maximize"}


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_jobs_are_those_of_the_study(path: Path) -> None:
    study = path.stem.removeprefix("wandb_")
    params = read(SWEEPS / f"{study}.yaml")["hydra"]["sweeper"]["params"]
    mine = read(path)["parameters"]
    theirs = {key: [part.strip() for part in str(value).split(",")] for key, value in params.items()}
    assert {key: sorted(map(str, chosen(value))) for key, value in mine.items()} == {
        key: sorted(values) for key, values in theirs.items()
    }
    line = command_lines(read(path))[0][2:]
    swept = [part for part in line if part.partition("=")[0] in theirs]
    own, other = settings(line), settings(swept, study)
    assert {k: v for k, v in own.items() if k != "tracker"} == {k: v for k, v in other.items() if k != "tracker"}
