"""The tests marked ``gpu``, in a process of their own that is stopped when its share of the time is over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.gpu import recorder
from benchmarks.gpu.kit import Kit, Number

ROOT = Path(__file__).parents[2]
PATIENCE = 10.0  # seconds that a stopped process has to end
WORKERS = 4


def run_tests(kit: Kit) -> None:
    """Run the tests, and record how they ended and what they measured."""
    lines, output = kit.settings.out / "tests.jsonl", kit.settings.out / "tests.txt"
    lines.unlink(missing_ok=True)
    seconds = kit.left - PATIENCE
    with output.open("w") as file:
        process = subprocess.Popen(
            command(kit), stdout=file, stderr=subprocess.STDOUT, cwd=ROOT, env=environment(kit, lines)
        )
        in_time = ended(process, seconds)
    if not in_time:
        kit.fail("the tests that had not ended", f"stopped after {seconds:.0f} s; see {output.name}")
    reports = read(lines)
    if not reports:
        kit.fail(
            "all tests", f"pytest ended with {process.returncode} and reported nothing", output.read_text()[-4000:]
        )
    count(kit, reports)


def command(kit: Kit) -> list[str]:
    """The command line of pytest; tests run side by side on a GPU if pytest-xdist is installed."""
    plugins = ["-p", recorder.__name__, "-p", "no:cacheprovider"]
    in_parallel = ["-n", str(WORKERS), "--dist", "loadfile"]
    beside = in_parallel if find_spec("xdist") and kit.device.type == "cuda" else []
    return [sys.executable, "-m", "pytest", "-m", "gpu", "tests/gpu", "--durations", "10", *plugins, *beside]


def environment(kit: Kit, lines: Path) -> dict[str, str]:
    """The environment of pytest: device, size, and the file of the recorder."""
    paths = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    return os.environ | {
        "PYTHONPATH": paths,
        "EMORL_BENCH_GPU_TESTS_DEVICE": kit.device.type,
        "EMORL_BENCH_GPU_TESTS_QUICK": "1" if kit.settings.quick else "0",
        recorder.FILE: str(lines),
        "OMP_NUM_THREADS": "1",
    }


def ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait for a process, and stop it when its time is over: first with an interrupt, then with a kill.

    Returns:
        whether it ended by itself.
    """
    try:
        process.wait(max(seconds, 0.0))
        return True
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return False


def read(lines: Path) -> list[dict[str, Any]]:
    """The reports of the tests that have ended."""
    return [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []


def count(kit: Kit, reports: list[dict[str, Any]]) -> None:
    """Record how many tests passed, which failed, and what the tests measured."""
    counts = Counter(report["outcome"] for report in reports)
    for outcome in ("passed", "failed", "skipped"):
        kit.number(f"tests/{outcome}", Number("tests", f"tests {outcome}", counts[outcome], "tests"))
    for report in reports:
        if report["outcome"] == "failed":
            kit.fail(report["test"], report["why"].splitlines()[-1] if report["why"] else "", report["why"])
        elif report["outcome"] == "skipped":
            kit.skip(report["test"], report["why"])
    measured: dict[str, dict[str, float]] = {}
    for report in reports:
        for name, value in report["measured"].items():
            measured.setdefault(name, {})[report["test"]] = value
    for name, by_test in measured.items():
        for kind in ("float32", "bfloat16", ""):
            values = [value for test, value in by_test.items() if kind_of(test) == kind]
            if values:
                what = f"{name.replace('_', ' ')}{f', {kind}' if kind else ''}: the largest of {len(values)} tests"
                kit.number(f"tests/{name}{f'/{kind}' if kind else ''}", Number("tests", what, max(values), ""))


def kind_of(test: str) -> str:
    """The dtype in a test's name, "" if there is none."""
    return next((kind for kind in ("float32", "bfloat16") if f"[{kind}" in test or f"-{kind}" in test), "")
