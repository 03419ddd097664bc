"""The index of finished runs: it answers like the job itself, and leaves to the job whatever it cannot know."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.utils import get_args_parser

from emorl_bench.config import hardware, schema
from emorl_bench.config.compose import every_job
from emorl_bench.launch import plugins
from emorl_bench.runner import finished
from emorl_bench.runner.directory import RunDirectory
from emorl_bench.runner.fingerprints import fingerprint

Settings = dict[str, Any]


def settings(tmp_path: Path, *overrides: str) -> Settings:
    schema.register()
    plugins.register()
    fixed = ["budget=smoke", "tracker=local", "hardware=cpu", f"runs_dir={tmp_path / 'runs'}"]
    (job,) = every_job(get_args_parser().parse_args([*fixed, *overrides]))
    return {**job.settings, "names": job.names}


@pytest.fixture
def done(tmp_path: Path) -> Callable[..., Path]:
    """A run that is done and has its entry, as a job leaves it."""

    def leave(*overrides: str, reward: float = 0.5) -> Path:
        config = settings(tmp_path, *overrides)
        found = fingerprint(config)
        with RunDirectory(config, found) as directory:
            directory.write_json("summary.json", {"mean_reward": reward})
            directory.finish()
        finished.remember(config, found, finished.code())
        return directory.path

    return leave


def test_a_finished_run_is_found_with_its_value_and_its_place(done: Callable[..., Path], tmp_path: Path) -> None:
    path = done(reward=0.625)
    value = finished.recall(settings(tmp_path))
    assert value == 0.625
    assert value is not None
    assert (value.path, value.skipped) == (str(path), True)
    same = ("hardware.threads=2", "tracker=wandb", "hardware.max_rows=7")
    assert all(finished.recall(settings(tmp_path, change)) == 0.625 for change in same)


@pytest.mark.parametrize(
    "other",
    [
        "seed=1",
        "method=mod",
        "budget.prompts=100",
        "task.split_seed=1",
        "task=sums",
        "model=tiny_gpt2",
        "force=true",
        "sampling.temperature=0.7",
        "~task.scorers.fluency",
        "hardware.dtype=float64",
    ],
)
def test_any_other_run_is_left_to_the_job(other: str, done: Callable[..., Path], tmp_path: Path) -> None:
    done()
    assert finished.recall(settings(tmp_path, other)) is None


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("status.json", '{"state": "running"}'),
        ("status.json", '{"state": "do'),
        ("summary.json", '{"mean_reward": 0.5'),
        ("summary.json", "{}"),
        ("summary.json", None),
    ],
)
def test_a_run_that_is_not_whole_is_left_to_the_job(
    file: str, text: str | None, done: Callable[..., Path], tmp_path: Path
) -> None:
    path = done() / file
    path.unlink() if text is None else path.write_text(text)
    assert finished.recall(settings(tmp_path)) is None


@pytest.mark.parametrize("entry", ["", "{", "[]", '{"code": 1}', '{"fingerprint": "0123"}', "\x00\xff"])
def test_a_damaged_entry_is_none(entry: str, done: Callable[..., Path], tmp_path: Path) -> None:
    done()
    (file,) = (tmp_path / "runs" / finished.PLACE).iterdir()
    file.write_text(entry, encoding="latin-1")
    assert finished.recall(settings(tmp_path)) is None


def test_an_entry_with_a_fingerprint_of_its_own_finds_no_run(done: Callable[..., Path], tmp_path: Path) -> None:
    done()
    (file,) = (tmp_path / "runs" / finished.PLACE).iterdir()
    file.write_text(json.dumps(json.loads(file.read_text()) | {"fingerprint": "0123"}))
    assert finished.recall(settings(tmp_path)) is None


def test_other_code_or_packages_leave_the_answer_to_the_job(
    done: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = finished.code()
    assert finished.code() == before
    done()
    (tmp_path / "site" / "numpy-9.dist-info").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert finished.code() != before
    assert finished.recall(settings(tmp_path)) is None
    monkeypatch.undo()
    assert finished.recall(settings(tmp_path)) == 0.5
    source = tmp_path / "judge.py"
    source.write_text("TRUTH = 1")
    monkeypatch.setattr(finished, "_files", lambda: [source])
    one = finished.code()
    source.write_text("TRUTH = 2")
    assert finished.code() != one


def test_every_file_that_judges_is_covered() -> None:
    names = {str(path) for path in finished._files()}
    for part in ("tasks/sums.py", "assets/world/judge.py", "assets/shipped/sums/tiny_t5/model.safetensors"):
        assert any(name.endswith(part) for name in names)


def test_code_that_has_changed_while_the_run_went_on_leaves_no_entry(tmp_path: Path) -> None:
    finished.remember(settings(tmp_path), "0123", "another hash of the code")
    assert not (tmp_path / "runs" / finished.PLACE).exists()


@pytest.mark.parametrize(
    "other",
    [
        "model.path=somewhere",
        "+scorer@task.scorers.specificity=specificity",
        "+task.scorers.mine._target_=my.Scorer",
        "hardware.device=cuda",
    ],
)
def test_what_reads_other_files_or_devices_is_never_indexed(
    other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, _, value = other.partition("=")
    config = settings(tmp_path)
    node = config
    if key.startswith("+"):
        config["task"]["scorers"]["more"] = {"_target_": value}
    else:
        *above, last = key.split(".")
        for part in above:
            node = node[part]
        node[last] = value
    finished.remember(config, "0123", finished.code())
    assert not (tmp_path / "runs" / finished.PLACE).exists()


def test_an_undecided_device_is_the_cpu_only_where_there_can_be_no_gpu(
    done: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done()
    for gpu, value in ((False, 0.5), (True, None)):
        monkeypatch.setattr(finished, "may_have_gpu", lambda gpu=gpu: gpu)
        assert finished.recall(settings(tmp_path, "hardware=auto")) == value
    monkeypatch.undo()
    monkeypatch.setattr(hardware.metadata, "version", lambda _: "2.13.0")
    monkeypatch.setattr(hardware, "GPU_FILES", ("null",))  # /dev/null: there is such a device
    assert hardware.may_have_gpu()
    monkeypatch.setattr(hardware.metadata, "version", lambda _: "2.13.0+cpu")
    assert not hardware.may_have_gpu()


def test_a_moved_directory_is_found_where_it_is_now(done: Callable[..., Path], tmp_path: Path) -> None:
    done()
    (tmp_path / "runs").rename(tmp_path / "moved")
    assert finished.recall(settings(tmp_path)) is None
    value = finished.recall(settings(tmp_path) | {"runs_dir": str(tmp_path / "moved")})
    assert value is not None
    assert value.path.startswith(str(tmp_path / "moved"))


def test_a_finished_sweep_is_skipped_without_torch(done: Callable[..., Path], tmp_path: Path) -> None:
    for seed in (0, 1):
        done(f"seed={seed}", reward=0.25 + seed)
    program = (
        "import sys; from emorl_bench.cli import bench\n"
        f"sys.argv = ['emorl-bench', '-m', 'budget=smoke', 'tracker=local', 'hardware=cpu', 'seed=0,1', "
        f"'runs_dir={tmp_path / 'runs'}']\n"
        "bench.main(); print([m for m in ('torch', 'transformers', 'wandb', 'pyarrow') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=180)
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert lines[1:3] == ["[1/2] skipped seed=0: reward 0.250", "[2/2] skipped seed=1: reward 1.250"]
    assert "  emorl-report runs --out report" in lines
    assert lines[-1] == "[]"
