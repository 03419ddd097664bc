"""Every method on both embedded models, through the programs a user runs: learnt, recorded, reported, talked to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from emorl_bench.config.compose import conf_dir

ELSEWHERE = {  # what these files test on small random models: the whole matrix would take half an hour
    "test_dynamic_weighting": ("c_dynaopt", "dorb", "dynaopt", "hv_guided", "round_robin", "saw", "random_weights"),
    "test_group_relative": ("gdpo", "grpo", "mo_grpo", "rloo"),
    "test_jacobian": ("cagrad", "mgda", "upgrad"),
    "test_agro": ("agro", "agro_replay"),
    "test_offline_policy": ("agro_offline",),
    "test_combining": ("aim", "dare", "mod", "ram", "ties"),
    "test_best_of_n": ("best_of_n",),
    "test_conditioned": ("pareto_set", "weight_ensembling_moe"),
    "test_cory": ("cory_individual", "cory_no_swap", "cory_no_transfer", "cory_reference", "ppo_matched"),
    "test_ppo_forms": ("cory_released", "ppo_released"),
    "test_morlhf": ("morlhf",),
    "test_earlier_layer": ("emorl_earlier",),
    "test_trl_methods": ("trl_gdpo", "trl_grpo", "trl_rloo"),
    "test_ric": ("ric",),
    "test_search_strategies": ("emorl_gp", "emorl_sobol", "emorl_tpe", "emorl_ucb"),
}
KNOWN = {path.stem for path in (conf_dir() / "method").glob("*.yaml")}
METHODS = sorted(KNOWN.difference(*ELSEWHERE.values()))
MODELS = ("tiny_t5", "tiny_gpt2")
PROGRAMS = Path(sys.executable).parent
SMALL = [
    "budget=smoke",
    "budget.prompts=800",
    "budget.training.batch_prompts=16",
    "update.learning_rate=4e-3",
    "budget.training.validate_every=5",
    "budget.select_prompts=8",
    "budget.report_prompts=32",
    "preferences.divisions=1",
    "tracker=local",
]


def program(name: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    command = [str(PROGRAMS / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=2400, **options)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smoke matrix: one sweep over conf/method and both models."""
    directory = tmp_path_factory.mktemp("matrix")
    sweep = [f"method={','.join(METHODS)}", f"model={','.join(MODELS)}", f"runs_dir={directory}"]
    done = program("emorl-bench", "-m", *sweep, *SMALL, cwd=directory)
    assert done.returncode == 0, done.stdout + done.stderr
    return directory


def summary(runs: Path, model: str, method: str) -> dict[str, Any]:
    (path,) = (runs / "reflections" / model / method).glob("s0-*/summary.json")
    return dict(json.loads(path.read_text()))


@pytest.mark.parametrize("file", ELSEWHERE)
def test_what_the_matrix_leaves_out_is_tested_elsewhere(file: str) -> None:
    assert list(Path(__file__).parents[1].glob(f"*/{file}.py"))
    assert KNOWN.issuperset(ELSEWHERE[file])


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_improves_on_the_base(runs: Path, model: str, method: str) -> None:
    mine, base = summary(runs, model, method), summary(runs, model, "base")
    points = mine["decoding"]["sampled"]["points"]
    assert len(points) == 4  # three corners and the centre
    assert set(mine["decoding"]["greedy"]["uniform"]["held_out"]) == set(mine["objectives"])
    if method == "base":
        assert mine["cost"]["data_points_sum"] == 0
        assert mine["decoding"]["sampled"]["uniform"]["kl"] == pytest.approx(0, abs=1e-3)
        return
    gain = mine["decoding"]["sampled"]["uniform"]["mean_reward"] - base["decoding"]["sampled"]["uniform"]["mean_reward"]
    assert gain > 0.02
    assert mine["decoding"]["sampled"]["uniform"]["kl"] > 0.1
    assert 800 >= mine["cost"]["data_points_sum"] >= mine["cost"]["data_points_max"] > 0


@pytest.mark.parametrize("model", MODELS)
def test_the_same_experts_are_charged_to_whoever_uses_them(runs: Path, model: str) -> None:
    costs = {m: summary(runs, model, m)["cost"] for m in ("emorl", "param_merge", "single_objective")}
    assert {cost["optimiser_steps"] for cost in costs.values()} == {3 * 10}
    assert {cost["data_points_train_max"] for cost in costs.values()} == {10 * 16}
    assert {cost["data_points_validate"] for cost in costs.values()} == {3 * 3 * 8}
    bank = sorted(path.name for path in runs.glob(".experts/*/*"))
    amounts = ["prompts200", "prompts266"]  # beside a search, and without one: param_merge_uniform
    assert bank == sorted(amounts * (len(bank) // 2))


def test_the_same_command_again_skips_what_is_done(runs: Path) -> None:
    again = program("emorl-bench", "method=emorl", *SMALL, f"runs_dir={runs}", cwd=runs)
    assert again.returncode == 0
    assert "done before" in again.stdout + again.stderr


def test_the_report_reads_them_all(runs: Path, tmp_path: Path) -> None:
    done = program("emorl-report", str(runs), "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "report.md").read_text()
    assert all(method in text for method in METHODS)
    assert len(list(tmp_path.glob("*.png"))) == 8
    assert "report.md" in done.stdout


def test_talking_to_a_run(runs: Path) -> None:
    (run,) = (runs / "reflections" / "tiny_t5" / "emorl").glob("s0-*")
    before = (run / "search.jsonl").read_text()
    asked = ["--preference", "0.6,0.3,0.1", "--text", "since i lost my job, i drink every night."]
    answer = program("emorl-generate", str(run), *asked)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("> since i lost my job")
    assert "reflection 0." in answer.stdout
    assert (run / "search.jsonl").read_text() == before  # talking leaves the record alone
    for bad in ("0.5,0.5", "0.9,0.3,0.1", "a,b,c"):
        refused = program("emorl-generate", str(run), "--preference", bad)
        assert refused.returncode == 2
        assert refused.stderr.startswith(f"emorl-generate: --preference {bad}: needs 3")
        assert refused.stderr.count("\n") == 1


def test_kill_9_and_the_same_command_give_the_uninterrupted_scores(runs: Path, tmp_path: Path) -> None:
    """The process dies in the middle of its second expert; the numbers are those of the run that was left alone."""
    command = [str(PROGRAMS / "emorl-bench"), "method=param_merge", *SMALL, f"runs_dir={tmp_path}"]
    process = subprocess.Popen(command, cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 300
    while process.poll() is None and not list(tmp_path.glob(".experts/empathy-*/*/state.safetensors")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    (status,) = tmp_path.glob("reflections/tiny_t5/param_merge/s0-*/status.json")
    assert json.loads(status.read_text())["state"] == "running"
    again = subprocess.run(command, cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=600, check=False)
    assert again.returncode == 0
    whole, resumed = summary(runs, "tiny_t5", "param_merge"), summary(tmp_path, "tiny_t5", "param_merge")
    assert resumed["decoding"] == whole["decoding"]
    assert resumed["cost"]["data_points_sum"] == whole["cost"]["data_points_sum"]


def test_one_objective_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    one = ["~task.scorers.empathy", "~task.scorers.fluency"]
    done = program("emorl-bench", "method=emorl", *one, *SMALL, f"runs_dir={tmp_path}", cwd=tmp_path)
    assert done.returncode == 2
    assert "needs at least 2 objectives" in done.stderr
    assert "Traceback" not in done.stderr
