"""The headline of finished runs: means and intervals over seeds, a row for each setting, best first."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import mean, stdev

import pytest
from hydra.core.utils import JobReturn, JobStatus

from emorl_bench.core.errors import UserError
from emorl_bench.launch.run_value import RunValue
from emorl_bench.runner import sweep
from emorl_bench.runner.finding import find_run
from emorl_bench.runner.headline import Finished, headline, scores

T_OF_THREE = 4.3027  # the 97.5 % quantile of Student's t with two degrees of freedom, from a table


def leave(
    root: Path, method: str, seed: int, reward: float, *overrides: str, ended: float = 1.0, **more: object
) -> Path:
    place = root / "sums" / "tiny_t5" / method / f"s{seed}-{abs(hash(overrides)) % 10**8:08d}"
    place.mkdir(parents=True)
    uniform = {
        "mean_reward": reward,
        "gold_mean_reward": reward - 0.1,
        "held_out_mean_reward": reward - 0.2,
        "objectives": {"right": reward, "brief": None},
    }
    summary = {
        "names": {"task": "sums", "model": "tiny_t5", "method": method},
        "objectives": ["right", "brief"],
        "fingerprint": "f",
        "settings": str(overrides),
        "mean_reward": reward,
        "decoding": {"greedy": {"uniform": uniform}},
    }
    (place / "summary.json").write_text(json.dumps(summary | more))
    (place / "status.json").write_text(json.dumps({"state": "done", "heartbeat": ended}))
    (place / "overrides.yaml").write_text("".join(f"- {line}\n" for line in (*overrides, f"seed={seed}")))
    (place / "config.yaml").write_text("seed: 0\n")
    return place


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_seeds_are_one_row_with_their_interval_and_the_best_is_first(tmp_path: Path) -> None:
    rewards = [0.5, 0.54, 0.52]
    paths = [leave(tmp_path, "emorl", seed, reward, "tracker=local") for seed, reward in enumerate(rewards)]
    paths.append(leave(tmp_path, "cory", 0, 0.7, "tracker=local"))
    paths += [leave(tmp_path, "grpo", seed, reward, "tracker=local") for seed, reward in enumerate((0.3, 0.4))]
    lines = headline([Finished.read(path) or pytest.fail("no run") for path in paths])
    half = T_OF_THREE * stdev(rewards) / math.sqrt(3)
    assert cells(lines[0]) == ["task", "model", "decoding", "method", "seeds", "reward", "gold"]
    assert cells(lines[1]) == ["sums", "tiny_t5", "greedy", "cory", "1", "0.700", "0.600"]
    both = [f"{mean(rewards):.3f} ± {half:.3f}", f"0.420 ± {half:.3f}"]
    assert cells(lines[2]) == ["sums", "tiny_t5", "greedy", "emorl", "3", *both]
    assert cells(lines[3])[4:] == ["2", "0.350 (0.300, 0.400)", "0.250 (0.200, 0.300)"], "both values, and no interval"


def test_settings_have_rows_of_their_own_named_by_what_differs(tmp_path: Path) -> None:
    paths = [
        leave(tmp_path, "emorl", 0, reward, "budget=smoke", *own)
        for reward, own in ((0.1, ("update=scst",)), (0.2, ("update=grpo", "reward=log")))
    ]
    lines = headline([Finished.read(path) or pytest.fail("no run") for path in paths])
    assert [cells(line)[3] for line in lines[1:]] == ["emorl [update=grpo, reward=log]", "emorl [update=scst]"]


def test_runs_that_differ_in_what_no_override_says_are_not_averaged(tmp_path: Path) -> None:
    paths = [leave(tmp_path, "emorl", seed, 0.1 * seed, fingerprint=f"data {seed}") for seed in (1, 2)]
    lines = headline([Finished.read(path) or pytest.fail("no run") for path in paths])
    assert sorted(cells(line)[3] for line in lines[1:]) == ["emorl", "emorl #2"]


def test_one_run_ends_with_the_scores_of_its_objectives(tmp_path: Path) -> None:
    run = Finished.read(leave(tmp_path, "emorl", 0, 0.5))
    assert run is not None
    title, row = scores(run)
    assert title.split() == ["decoding", "reward", "right", "brief", "held-out", "gold"]
    assert row.split() == ["greedy", "0.500", "0.500", "0.300", "0.400"]  # brief applied to no answer


def test_a_sweep_ends_with_its_table_and_the_next_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = [leave(tmp_path / "runs", method, 0, 0.5) for method in ("emorl", "cory")]
    (paths[0] / "wandb" / "offline-run-1").mkdir(parents=True)
    status = json.loads((paths[0] / "status.json").read_text())
    (paths[0] / "status.json").write_text(json.dumps(status | {"tracker": "ok"}))
    jobs = [JobReturn(status=JobStatus.COMPLETED, _return_value=RunValue.of(0.5, str(path))) for path in paths]
    sweep.ended([*jobs, JobReturn(status=JobStatus.FAILED, _return_value=ValueError("no"))])
    shown = capsys.readouterr().out
    assert shown.index("cory") < shown.index("next:")
    assert "  emorl-report runs --out report\n" in shown
    run = paths[0].relative_to(tmp_path)
    assert f"  wandb sync {run}/wandb/offline-run-*\n" in shown
    sweep.ended([JobReturn(status=JobStatus.FAILED, _return_value=ValueError("no"))])
    assert "no run is done" in capsys.readouterr().out


def test_the_run_that_ended_last_is_found_below_a_method_or_a_whole_directory(tmp_path: Path) -> None:
    first = leave(tmp_path / "runs", "emorl", 0, 0.5, ended=1.0)
    last = leave(tmp_path / "runs", "cory", 0, 0.5, ended=3.0)
    torn = leave(tmp_path / "runs", "cory", 1, 0.5, ended=9.0)
    (torn / "summary.json").write_text("{")
    assert find_run(first) == first
    assert find_run(first.parent) == first
    assert find_run(tmp_path / "runs") == last
    with pytest.raises(UserError, match="no finished run there"):
        find_run(tmp_path / "elsewhere")


def test_an_override_that_all_runs_of_a_task_have_is_in_no_label(tmp_path: Path) -> None:
    there = {"task": "reflections", "model": "tiny_t5", "method": "emorl"}
    paths = [leave(tmp_path / "sums", "emorl", seed, 0.5, "experiment=embedded_sums") for seed in (0, 1)]
    paths.append(leave(tmp_path / "other", "emorl", 0, 0.5, "experiment=embedded_reflections", names=there))
    lines = headline([Finished.read(path) or pytest.fail("no run") for path in paths])
    assert [cells(line)[3] for line in lines[1:]] == ["emorl", "emorl"]
