"""How a run is shown among others: named by method and seed, grouped with what it may be compared with."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from emorl_bench.config import schema
from emorl_bench.config.compose import conf_dir, plain
from emorl_bench.runner.directory import RunDirectory
from emorl_bench.runner.shown import identity_of, open_tracker
from emorl_bench.tracking.view import RunIdentity


def settings(tmp_path: Path, *overrides: str) -> dict[str, Any]:
    schema.register()
    fixed = [f"runs_dir={tmp_path / 'runs'}", "tracker=local", "hardware=cpu"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("config", overrides=[*fixed, *overrides], return_hydra_config=True)
    chosen = {
        str(k): v for k, v in config.hydra.runtime.choices.items() if v is not None and not str(k).startswith("hydra")
    }
    return plain(config) | {"names": chosen}


def shown(tmp_path: Path, *overrides: str) -> RunIdentity:
    config = settings(tmp_path, *overrides)
    with RunDirectory(config, "f", overrides) as directory:
        return identity_of(config, directory, "f")


def test_a_run_is_named_by_method_and_seed_and_grouped_with_its_rivals(tmp_path: Path) -> None:
    mine = shown(tmp_path, "method=emorl", "seed=3", "budget=smoke")
    assert (mine.name, mine.method, mine.group.rpartition("/")[0]) == ("emorl-s3", "emorl", "reflections/tiny_t5")
    assert {"reflections", "tiny_t5", "emorl", "smoke"} < set(mine.tags)
    assert len(mine.tags) == 6, "and commit and hardware"
    assert all(0 < len(tag) <= 64 for tag in mine.tags)
    assert shlex.split(mine.notes) == ["emorl-bench", "method=emorl", "seed=3", "budget=smoke"]
    assert mine.runs_dir == tmp_path / "runs"
    rival = shown(tmp_path, "method=weighted_ppo", "seed=4", "budget=smoke")
    assert (rival.group, rival.id != mine.id) == (mine.group, True)
    for other in (("budget=short",), ("budget=smoke", "sampling.temperature=0.7"), ("budget=smoke", "task=sums")):
        assert shown(tmp_path, "method=emorl", "seed=3", *other).group != mine.group, other


class Named:
    """A tracker of somebody else, as a configuration names it."""

    seen: list[Any]

    def __init__(self, project: str) -> None:
        self.project = project

    def open(self, run: RunIdentity, rows: Any) -> None:
        type(self).seen = [self.project, run.name, [*rows]]


def test_a_job_opens_the_class_that_the_configuration_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    config = settings(tmp_path) | {"tracker": {"_target_": f"{Path(__file__).stem}.Named", "project": "mine"}}
    with RunDirectory(config, "f") as directory:
        first = open_tracker(config, directory, "f")
        first.log({"train/a/loss": 0.5}, step=1)
        open_tracker(config, directory, "f")
        assert directory.read_json("status.json")["tracker"] == "ok"  # type: ignore[index]
    from test_run_identity import Named as Seen  # the class that was built, whatever module the test itself is

    project, name, rows = Seen.seen
    assert (project, name) == ("mine", "emorl-s0")
    assert [row["train/loss"] for row in rows] == [0.5]
