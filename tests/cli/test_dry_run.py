"""``--dry-run``: what is there, what is left to do and what it costs, without a trace of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser

from emorl_bench.cli import bench
from emorl_bench.config import schema
from emorl_bench.config.compose import conf_dir, every_job
from emorl_bench.core.protocols import Bench
from emorl_bench.core.types import Budget, Training
from emorl_bench.launch import plugins
from emorl_bench.launch.sweeper import Grid
from emorl_bench.rl.loop import train
from emorl_bench.rl.weighting import fixed_weights
from emorl_bench.runner.directory import RunDirectory
from emorl_bench.runner.dry_run import dry_run
from emorl_bench.runner.forecast import Schedule, Timings
from emorl_bench.runner.provenance import embedded_assets

SWEEPS = str(conf_dir().parent / "sweeps")
SMALL = ["budget=smoke", "tracker=local", "hardware=cpu"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    schema.register()
    plugins.register()


def parsed(*arguments: str) -> Any:
    return get_args_parser().parse_args(list(arguments))


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    dry_run(parsed(*arguments))
    return capsys.readouterr().out


def recorded(*arguments: str, seconds: float | None = None, assets: str | None = None) -> Path:
    """A run directory as a job leaves it: finished where ``seconds`` are given, else killed by an error."""
    (job,) = every_job(parsed(*arguments))
    directory = RunDirectory(job.settings | {"names": job.names}, "data and weights")
    try:
        with directory:
            if seconds is None:
                raise KeyboardInterrupt
            phases = {"train/policy": seconds, "search": 0.0, "evaluate": 5.0}
            directory.write_json("cost.json", {name: {"wall_seconds": s} for name, s in phases.items()})
            rung = {"prompts": job.settings["budget"]["prompts"]}
            directory.write_json("summary.json", {"assets": assets or embedded_assets(), "ladder": [rung]})
            directory.finish()
    except KeyboardInterrupt:
        pass
    return directory.path


def test_what_exists_is_told_from_what_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    done = recorded(*SMALL, "seed=0", seconds=20.0)
    interrupted = recorded(*SMALL, "seed=1")
    text = shown(capsys, "-m", *SMALL, "seed=0,1,2")
    assert "dry run: 3 jobs" in text
    assert all(f"  1 {state}\n" in text for state in ("done", "unfinished", "absent"))
    parent = Path("runs/reflections/tiny_t5/emorl")
    assert f"done       {parent / done.name}\n" in text
    assert f"unfinished {parent / interrupted.name} (interrupted in phase 'start'" in text
    assert f"absent     {parent}/s2-????????, about 25 s" in text
    assert "Time: about 25 s, 2 jobs at a time\n  from 1 recorded run of this budget" in text  # 2 x 25 s, two at once


@pytest.mark.parametrize(
    "other",
    ["method=param_merge", "sampling.temperature=0.7", "budget.prompts=200", "hardware.dtype=float64", "seed=1"],
)
def test_a_run_of_another_configuration_is_not_this_one(other: str, capsys: pytest.CaptureFixture[str]) -> None:
    recorded(*SMALL, seconds=20.0)
    assert "1 absent" in shown(capsys, *SMALL, other)


@pytest.mark.parametrize("same", ["hardware.threads=2", "hardware.device=auto", "tracker=wandb", "force=false"])
def test_what_decides_no_number_changes_nothing(same: str, capsys: pytest.CaptureFixture[str]) -> None:
    recorded(*SMALL, seconds=20.0)
    assert "1 done" in shown(capsys, *SMALL, same)


def test_runs_of_other_assets_are_not_counted_and_forced_ones_begin_afresh(capsys: pytest.CaptureFixture[str]) -> None:
    recorded(*SMALL, "seed=0", seconds=20.0, assets="0123")
    assert "1 absent" in shown(capsys, *SMALL, "seed=0")
    recorded(*SMALL, "seed=1", seconds=20.0)
    assert "begins afresh (force=true), about" in shown(capsys, *SMALL, "seed=1", "force=true")
    assert "Time: none, all is done" in shown(capsys, *SMALL, "seed=1")


def test_nothing_is_written_and_torch_is_not_imported(tmp_path: Path) -> None:
    recorded(*SMALL)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    code = (
        "import sys; from emorl_bench.cli import bench; sys.argv = ['emorl-bench', '-m', '--dry-run', "
        "'runs_dir=runs,new/runs', 'seed=0,1']\n"
        "bench.main(); print([m for m in ('torch', 'transformers', 'wandb', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    assert "dry run: 4 jobs" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["method=emrol"], "did you mean 'emorl'?"),
        (["budget.prompts=-4"], "budget.prompts=-4"),
        (["-m", "method=base,cory", "kl_coefficient=0.1,-1"], "kl_coefficient=-1"),
        (["runs_dir=/dev/null/runs"], "runs_dir=/dev/null/runs: cannot write there"),
    ],
)
def test_bad_input_is_refused_as_a_run_refuses_it(
    arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["emorl-bench", "--dry-run", *arguments])
    with pytest.raises(SystemExit) as exit:
        bench.main()
    assert exit.value.code == 2
    assert says in capsys.readouterr().err


def test_the_jobs_are_those_that_the_sweeper_runs() -> None:
    lines = ["budget=smoke", "method=emorl,cory", "seed=0,1", "method=base,emorl"]
    (batch,) = Grid(None, {"seed": "5,6,7", "reward": "log"})._batches(
        OverridesParser.create().parse_overrides(["seed=5,6,7", "reward=log", *lines])
    )
    own = [sorted(job.overrides) for job in every_job(parsed("-m", "reward=log", *lines))]
    assert sorted(own) == sorted(sorted(job) for job in batch)


def test_a_job_that_is_composed_beside_others_equals_one_alone() -> None:
    swept = [job.settings for job in every_job(parsed("-m", "seed=1,2", "method=emorl_gp,cory"))]
    alone = [
        next(iter(every_job(parsed(f"seed={seed}", f"method={method}")))).settings
        for seed in (1, 2)
        for method in ("emorl_gp", "cory")
    ]
    assert swept == alone


def test_the_main_comparison_is_counted_and_timed(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "--config-dir", SWEEPS, "--config-name", "main_table")
    assert "dry run: 100 jobs" in text
    assert "search for all preferences together: 256 prompts" in text
    assert "each of 3 experts: 256 prompts = 12 steps of 16 and 2 validations of 32" in text
    assert "from results/main_table/table.csv, scaled by prompts, without start-up and grading" in text


@pytest.mark.parametrize(
    ("prompts", "batch", "select", "steps", "validations"),
    [(1024, 16, 32, 54, 5), (1024, 32, 64, 26, 3), (256, 16, 32, 12, 2), (102, 16, 32, 2, 2)],
    ids=["one policy", "cory", "expert", "one of ten preferences"],
)
def test_the_schedule_is_that_of_the_docs(prompts: int, batch: int, select: int, steps: int, validations: int) -> None:
    """The rows of the table in docs/budgets.md, which counts what the ledger of real runs has."""
    assert Schedule.of(prompts, batch=batch, select=select, every=16) == Schedule(steps, validations)


@pytest.mark.parametrize(("prompts", "every"), [(22, 4), (45, 2), (50, 3), (58, 3)])
def test_the_schedule_is_what_a_training_does(bench: Callable[..., Bench], prompts: int, every: int) -> None:
    training = Training(batch_prompts=6, samples_per_prompt=2, validate_every=every, window=50, checkpoint_every=100)
    own = bench(training=training, budget=Budget(prompts=prompts))
    train(
        own, own.new_policy("policy"), fixed_weights(None, own.objectives, own.reward), name="policy", budget=own.budget
    )
    plan = Schedule.of(prompts, batch=6, select=8, every=every)
    assert own.ledger.phases["train/policy"].prompts == 6 * plan.steps
    assert own.ledger.phases["validate/policy"].prompts == 8 * plan.validations


def test_a_budget_that_pays_for_no_step_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert Schedule.of(95, batch=32, select=32, every=4) == Schedule(0, 0)
    assert "the job refuses this" in shown(capsys, "budget.prompts=40")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["method=param_merge_uniform"], "each of 3 experts: 64 prompts"),  # nothing is searched: 192 / 3
        (["budget.expert_prompts=20"], "each of 3 experts: 20 prompts"),
        (["~task.scorers.fluency"], "each of 2 experts: 72 prompts"),  # (192 - 48) / 2
        (["method=round_robin"], "192 prompts = 18 steps of 8 and 10 validations of 4"),  # every 2 steps, and first
        (["method=ppo_matched"], "192 prompts = 10 steps of 16 and 6 validations of 4"),  # two batches in each step
        (["budget.prompts=null", "budget.samples=64"], "training also ends at samples=64"),
        (["budget.prompts=null", "budget.samples=64"], "together: no limit of prompts"),
        (["budget.select_prompts=null"], "a validation is the whole select split"),
    ],
)
def test_the_budget_is_divided_as_the_method_divides_it(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in shown(capsys, *SMALL, *arguments)


def test_seconds_scale_with_prompts_and_grading_does_not(tmp_path: Path) -> None:
    recorded(*SMALL, seconds=20.0)
    estimate = Timings(tmp_path / "runs", None).estimate(("reflections", "tiny_t5", "emorl"), 192 * 3)
    assert estimate is not None
    assert estimate.seconds == pytest.approx(20 * 3 + 5)
    assert "another budget" in estimate.source
    assert Timings(tmp_path / "runs", None).estimate(("reflections", "tiny_t5", "cory"), 192) is None


def test_a_torn_record_is_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    path = recorded(*SMALL, seconds=20.0)
    (path / "summary.json").write_text(json.dumps({"assets": embedded_assets()})[:-3])
    assert "1 unfinished" in shown(capsys, *SMALL)
    (path / "config.yaml").write_text("seed: [")
    assert "1 absent" in shown(capsys, *SMALL)
