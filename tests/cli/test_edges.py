"""Places where a program is started and what it is given: one line, or it works."""

from __future__ import annotations

import io
import sys
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from hydra._internal.utils import get_args_parser

from emorl_bench.cli import assets, bench, dashboard, generate, report, sft, train_scorer
from emorl_bench.cli.talking import given_texts
from emorl_bench.config import schema
from emorl_bench.config.compose import conf_dir, every_job

PROGRAMS: dict[str, Callable[[], object]] = {
    "emorl-bench": bench.main,
    "emorl-report": report.main,
    "emorl-generate": generate.main,
    "emorl-assets": assets.main,
    "emorl-train-scorer": train_scorer.main,
    "emorl-dashboard": dashboard.main,
    "emorl-sft": sft.main,
}


def test_the_list_of_programs_is_whole() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert set(project["scripts"]) == set(PROGRAMS)


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_tells_its_own_version(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--version"])
    with pytest.raises(SystemExit) as end:
        PROGRAMS[name]()
    assert end.value.code == 0
    assert capsys.readouterr().out == f"{name} {metadata.version('emorl-bench')}\n"


def test_a_working_directory_that_is_gone_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setattr(sys, "argv", ["emorl-bench", f"runs_dir={tmp_path}"])
    with pytest.raises(SystemExit) as end:
        bench.main()
    said = capsys.readouterr().err
    assert end.value.code == 2
    assert said.startswith("emorl-bench: the working directory is gone")
    assert said.count("\n") == 1


def test_a_name_that_is_not_utf8_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["emorl-bench", 'runs_dir="\udcffx"'])
    with pytest.raises(SystemExit) as end:
        bench.main()
    said = capsys.readouterr().err
    assert end.value.code == 2
    assert "is not UTF-8" in said
    assert said.count("\n") == 1


def test_a_working_directory_whose_name_is_not_utf8_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "\udcffx"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", ["emorl-bench", "tracker=local"])
    with pytest.raises(SystemExit) as end:
        bench.main()
    said = capsys.readouterr().err
    assert end.value.code == 2
    assert "is not UTF-8; choose another directory" in said
    assert said.count("\n") == 1


def test_a_glob_sweeps_the_options_that_match() -> None:
    schema.register()
    args = get_args_parser().parse_args(["-m", "method=glob(cory_no*)", "seed=0,1", "tracker=local"])
    methods = [line for job in every_job(args) for line in job.overrides if line.startswith("method=")]
    options = sorted(path.stem for path in (conf_dir() / "method").glob("cory_no*.yaml"))
    assert len(options) > 1
    assert sorted(set(methods)) == [f"method={option}" for option in options]
    assert len(methods) == 2 * len(options)


def test_equal_values_are_checked_and_shown_once() -> None:
    schema.register()
    args = get_args_parser().parse_args(["-m", "seed=0,0,1", "method=emorl,emorl"])
    assert [job.settings["seed"] for job in every_job(args)] == [0, 1]


@pytest.mark.parametrize(
    ("given", "texts", "said"),
    [
        (b"i am tired\nf\xfcr \xff\xfe\n\nend\n", ["i am tired", "f\ufffdr \ufffd\ufffd", "end"], ["line 2"]),
        ("für 你好\n".encode(), ["für 你好"], []),
        ("a real \ufffd\n".encode(), ["a real \ufffd"], []),  # the character itself is text like any other
    ],
)
def test_bytes_that_are_not_utf8_are_replaced_and_it_is_said_where(
    given: bytes, texts: list[str], said: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given), "utf-8"))
    assert list(given_texts("-") or ()) == texts
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" of ")[0] for line in lines] == said
    assert all("is not UTF-8" in line for line in lines)


def test_a_text_on_the_command_line_is_replaced_alike(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(given_texts("f\udcfcr") or ()) == ["f\ufffdr"]  # how Python passes on a byte that it cannot decode
    assert "--text is not UTF-8" in capsys.readouterr().err
    assert list(given_texts("für") or ()) == ["für"]
