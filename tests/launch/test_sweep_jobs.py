"""The jobs of a sweep as their launcher sees them: Hydra's own configurations, and what tells them apart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.utils import setup_globals
from hydra.types import RunMode
from omegaconf import OmegaConf

from emorl_bench.config import schema
from emorl_bench.config.compose import VERSION_BASE, conf_dir, precheck
from emorl_bench.launch import plugins
from emorl_bench.launch.hooks import hooks
from emorl_bench.launch.sweep_job import announcement, in_common, recorded, sweep_jobs

CONSTANT = ["budget=smoke", "tracker=local", "task.split_seed=3"]


@pytest.fixture
def composing() -> Iterator[tuple[Any, Any]]:
    """Hydra's loader in a context, and the configuration of a sweep."""
    schema.register()
    plugins.register()
    version.setbase(VERSION_BASE)
    setup_globals()
    loader = ConfigLoaderImpl(create_config_search_path(str(conf_dir())))
    master = loader.load_configuration("config", [*CONSTANT, "seed=0,1"], RunMode.MULTIRUN)
    yield SimpleNamespace(config_loader=loader), master
    hooks.seconds = lambda config: None


def test_seeds_share_a_composition_and_have_the_configuration_that_hydra_gives(composing: tuple[Any, Any]) -> None:
    context, master = composing
    overrides = [[*CONSTANT, f"method={method}", f"seed={seed}"] for method in ("emorl", "cory") for seed in (0, 7)]
    jobs = sweep_jobs(context, master, overrides, 4)
    for number, (job, own) in enumerate(zip(jobs, overrides, strict=True), 4):
        alone = context.config_loader.load_sweep_config(master, own)
        alone.hydra.job.id, alone.hydra.job.num = str(number), number
        resolved = [
            OmegaConf.to_container(OmegaConf.masked_copy(c, [k for k in c if k != "hydra"]), resolve=True)
            for c in (job.config, alone)
        ]
        assert resolved[0] == resolved[1]
        assert OmegaConf.to_container(job.config.hydra) == OmegaConf.to_container(alone.hydra)


def test_what_was_checked_is_run_without_being_composed_again(
    composing: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, _ = composing
    checked = [*CONSTANT, "method=emorl,cory", "seed=0,7", "hydra.launcher.workers=1"]
    swept = context.config_loader.load_configuration("config", [*checked, "hydra.mode=MULTIRUN"], RunMode.MULTIRUN)
    place = swept.hydra.sweep.dir  # holds the time: the sweeper asks for it once, and all jobs have that time
    overrides = [[*CONSTANT, f"method={method}", f"seed={seed}"] for method in ("emorl", "cory") for seed in (0, 7)]
    alone = [context.config_loader.load_sweep_config(swept, own) for own in overrides]
    monkeypatch.setattr(hooks, "composed", precheck(get_args_parser().parse_args(["-m", *checked])))
    monkeypatch.setattr(context.config_loader, "load_sweep_config", None)  # a call would be an error
    for number, (job, hydras) in enumerate(zip(sweep_jobs(context, swept, overrides, 0), alone, strict=True)):
        hydras.hydra.job.id, hydras.hydra.job.num = str(number), number
        assert OmegaConf.to_container(job.config) == OmegaConf.to_container(hydras)
        assert job.config.hydra.sweep.dir == place


def test_labels_say_what_differs_and_the_first_line_the_rest(composing: tuple[Any, Any]) -> None:
    hooks.seconds = lambda config: 60.0 if config.seed else None
    overrides = [[*CONSTANT, "method=emorl", f"seed={seed}"] for seed in (0, 1)]
    first, second = sweep_jobs(*composing, overrides, 0)
    assert (first.label, second.label) == ("seed=0", "seed=1")
    assert (first.kind, second.expected, first.expected) == ("", 60.0, None)
    assert in_common(overrides) == [*CONSTANT, "method=emorl"]
    assert f"all with {' '.join(CONSTANT)} method=emorl;" in announcement(overrides, 2, Path("logs"))
    (alone,) = sweep_jobs(*composing, overrides[:1], 0)
    assert alone.label == " ".join(overrides[0])  # a single job differs in nothing, and needs a name


def test_the_record_of_a_job_is_that_of_its_process(tmp_path: Path) -> None:
    def write(name: str, text: str) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "status.json").write_text(text)

    write("s0-1", json.dumps({"pid": 7, "heartbeat": 50.0, "phase": "of an earlier process with this number"}))
    write("s0-2", json.dumps({"pid": 8, "heartbeat": 200.0, "phase": "of another process"}))
    write("s1-3", '{"pid": 7, "heart')
    write("s1-4", "[]")
    assert recorded(tmp_path, 7, since=100.0) == {}
    write("s2-5", json.dumps({"pid": 7, "heartbeat": 101.0, "phase": "search"}))
    assert recorded(tmp_path, 7, since=100.0)["phase"] == "search"
