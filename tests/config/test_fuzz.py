"""Values drawn for every key of the configuration: one line, or a configuration that can run; never a traceback.

Most draws are composed and checked, as the command line and then the job check them. Some that are accepted are run.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.utils import get_args_parser
from support.composing import composed

from emorl_bench.config import schema
from emorl_bench.config.compose import every_job, plain, runnable
from emorl_bench.config.targets import check_targets
from emorl_bench.core.errors import UserError
from emorl_bench.launch import plugins
from emorl_bench.runner.job import run

DRAWS = 360
SECONDS = 30.0  # a draw may take, on a machine that does nothing else a fraction of one
SMOKE = ("budget=smoke", "tracker=local")
METHODS = ("emorl", "cory", "weighted_ppo", "grpo", "agro_replay", "ric", "best_of_n", "mod", "pareto_set", "base")
GROUPS = ("task", "model", "method", "update", "budget", "tracker", "hardware", "experiment", "hydra/launcher")
VALUES = (
    "null", "true", "false", "", "''", "0", "1", "2", "-1", "3.5", "1e-30", "1e30", "1e400", "-0.0", "nan", "inf",
    "99999999999999999999", "x", "[]", "{}", "[1]", "[a,b]", "[[1]]", "{a:1}", "[null]", "${seed}", "${nosuch}",
    "${.x}", "${oc.env:NOPE}", "???", "é", "/dev/null", "../..", "cpu", "embedded:x", "offline:x", "\"a b\"", "a=b",
    "0,1", "range(0,2)", "range(0,1000000000)", "glob(*)", "choice(1,2)", "interval(0,1)", "shuffle(1,2)",
)  # fmt: skip
FORMS = ("{}={}", "+{}={}", "++{}={}", "~{}", "{}", "+{}.x={}", "{}@task={}")
ACCEPTED = (  # ranges from which a short run may take its values
    ("sampling.temperature", ("1e-6", "0.5", "1000")),
    ("sampling.max_new_tokens", ("32", "64")),
    ("kl_coefficient", ("0", "1000000")),
    ("update.learning_rate", ("1e-8", "1")),
    ("model.adapter.alpha", ("1e-9", "100000")),
    ("update.clip_norm", ("1e-9", "1e9")),
    ("reward", ("linear", "log")),
)


def leaves(node: Any, where: str = "") -> Iterator[str]:
    if not isinstance(node, dict):
        yield where
        return
    for key, value in node.items():
        yield from leaves(value, f"{where}.{key}" if where else str(key))
    if where:
        yield where


def drawn(rng: random.Random, keys: dict[str, list[str]]) -> list[str]:
    """A command line: a method, and one or two overrides of any key, in any of Hydra's forms."""
    method = rng.choice(METHODS)
    lines = [f"method={method}"]
    for _ in range(rng.choice((1, 1, 2))):
        key = rng.choice(GROUPS) if rng.random() < 0.15 else rng.choice(keys[method])
        (form,) = rng.choices(FORMS, (70, 8, 8, 6, 2, 4, 2))
        lines.append(form.format(key, rng.choice(VALUES)))
    return ["-m", *lines] if rng.random() < 0.15 else lines


def verdict(lines: list[str], runs: Path) -> str | None:
    """None for what can run, else the one line."""
    args = get_args_parser().parse_args([*lines, f"runs_dir={runs}", *SMOKE])
    try:
        for job in every_job(args):
            runnable(job.settings)
            check_targets(job.settings)
            break  # the others of a sweep are drawn by themselves
    except UserError as error:
        return str(error)
    return None


def test_any_value_is_refused_in_one_line_or_can_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    schema.register()
    plugins.register()
    keys = {method: list(leaves(plain(composed(f"method={method}", *SMOKE)))) for method in METHODS}
    rng, refused = random.Random(0), 0
    for _ in range(DRAWS):
        lines = drawn(rng, keys)
        start = time.monotonic()
        try:
            line = verdict(lines, tmp_path / "runs")
        except Exception as error:  # the message must show which draw it was
            raise AssertionError(f"{' '.join(lines)}: {type(error).__name__}: {error}") from error
        assert time.monotonic() - start < SECONDS, lines
        if line is not None:
            refused += 1
            assert line.strip(), lines
            assert len(" ".join(line.split())) < 2000, lines
    assert 0.4 * DRAWS < refused < 0.98 * DRAWS  # neither all, nor nothing


@pytest.mark.parametrize("seed", range(3))
def test_what_is_accepted_runs_or_ends_in_one_line(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = random.Random(seed)
    chosen = [f"{key}={rng.choice(values)}" for key, values in rng.sample(ACCEPTED, 3)]
    given = [f"runs_dir={tmp_path / 'runs'}", *SMOKE, "method=weighted_scst", "hardware.device=cpu", *chosen]
    try:
        value = run(composed(*given), given, {"task": "reflections", "model": "tiny_t5", "method": "weighted_scst"})
    except UserError:
        return
    assert value is not None
    assert 0 <= value <= 1
