"""The command line: bad input is one line and exit code 2, in about a second, before anything is started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from emorl_bench.cli import bench
from emorl_bench.cli.harness import one_line
from emorl_bench.config.compose import conf_dir
from emorl_bench.core.errors import UserError

SWEEPS = str(conf_dir().parent / "sweeps")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["method=emrol"], "method=emrol: unknown method; did you mean 'emorl'?"),
        (["method=EMORL"], "did you mean 'emorl'?"),
        (["task=reflection"], "did you mean 'reflections'?"),
        (["model=tiny_t6"], "did you mean 'tiny_t5'?"),
        (["sede=3"], "sede=3: unknown key 'sede'; did you mean 'seed'?"),
        (["+sede=3"], "did you mean 'seed'?"),
        (["model.adaptr.rank=3"], "did you mean 'adapter'?"),
        (["method.serch=null"], "did you mean 'search'?"),
        (["seed=abc"], "seed=abc: wrong type; seed is a whole number"),
        (["force=maybe"], "wrong type; force is true or false"),
        (["decoding=greedy"], "wrong type; decoding is a list [a,b]"),
        (["budget.prompts=-4"], "budget.prompts=-4"),
        (["task=pair"], "task.data_dir is missing"),
        (["task=pair", "task.data_dir=nowhere"], "task.data_dir=nowhere: there is no such directory"),
        (["model=causal"], "model.path is missing"),
        (["seed=0,1"], "several values need -m"),
        (["seed"], "write KEY=VALUE"),
        (["-m", "method=emorl,coory", "seed=0,1"], "method=coory: unknown method; did you mean 'cory'?"),
        (["-m", "seed=0,x"], "wrong type"),
        (["-m", "method=emorl", "seed=0,-1"], "seed=-1"),
        (["-m", "seed=interval(0,1)"], "only lists of values can be swept"),
        (["--config-dir", SWEEPS, "--config-name", "main_tabel"], "did you mean 'main_table'?"),
        (["--config-dir", SWEEPS, "--config-name", "main_table", "sed=1"], "did you mean 'seed'?"),
        (["--config-dir", "nowhere"], "there is no such directory"),
        (["runs_dir=/dev/null/runs"], "runs_dir=/dev/null/runs: cannot write there"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line(
    arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["emorl-bench", *arguments])
    with pytest.raises(SystemExit) as exit:
        bench.main()
    error = capsys.readouterr().err
    assert exit.value.code == 2
    assert error.startswith("emorl-bench: ")
    assert says in error
    assert error.count("\n") == 1


def test_an_unknown_key_in_a_file_is_named_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").write_text("defaults: [config, _self_]\nsede: 3\n")
    monkeypatch.setattr(sys, "argv", ["emorl-bench", "--config-dir", str(tmp_path), "--config-name", "mine"])
    with pytest.raises(SystemExit):
        bench.main()
    error = capsys.readouterr().err
    assert "mine" in error
    assert "did you mean 'seed'" in error


def test_the_traceback_is_there_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(sys, "argv", ["emorl-bench", "sede=3"])
    with pytest.raises(UserError) as caught:
        bench.main()
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (UserError("key=3:\n give 4"), 2, "emorl-x: key=3: give 4\n"),
        (KeyboardInterrupt(), 130, "\ninterrupted; the same command continues\n"),
    ],
)
def test_every_program_ends_alike(
    error: BaseException, code: int, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    with pytest.raises(SystemExit) as exit, one_line("emorl-x", again="continues"):
        raise error
    assert exit.value.code == code
    assert capsys.readouterr().err == says


@pytest.mark.parametrize("traceback", [False, True])
def test_other_errors_and_those_to_be_traced_pass(traceback: bool) -> None:
    error = UserError("wrong") if traceback else ValueError("a fault of the program's own")
    with pytest.raises(type(error)), one_line("emorl-x", traceback=traceback):
        raise error


def test_a_typo_is_answered_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from emorl_bench.cli import bench; sys.argv = ['emorl-bench', 'method=emrol']\n"
        "try: bench.main()\n"
        "finally: print([m for m in ('torch', 'transformers', 'wandb', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=180)
    assert done.returncode == 2
    assert done.stdout.strip() == "[]"
    assert "Traceback" not in done.stderr


def test_configuration_is_found_from_any_directory_and_never_in_the_working_one(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text("seed: 77\n")
    command = [sys.executable, "-m", "emorl_bench.cli", "--cfg", "job"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=180, check=True).stdout
    assert "seed: 0" in shown
    assert "_target_: emorl_bench.emorl.Emorl" in shown
