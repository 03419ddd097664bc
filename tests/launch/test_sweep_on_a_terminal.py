"""A sweep on a terminal, as a user sees it: a table while jobs run, and a line for each job that stays."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path

PROGRAM = """
import json, os, time
from pathlib import Path
import hydra
from emorl_bench.launch import job_process, plugins
from emorl_bench.config import schema
from emorl_bench.config.compose import conf_dir

job_process.PRELOAD.clear()  # nothing heavy: these jobs do not learn
schema.register()
plugins.register()


def task(config):
    place = Path(config.runs_dir) / "reflections" / "tiny_t5" / "emorl" / f"s{config.seed}-0"
    place.mkdir(parents=True)
    status = {"pid": os.getpid(), "heartbeat": time.time(), "doing": "train [a]", "share": 0.5, "reward": 0.25}
    (place / "status.json").write_text(json.dumps(status))
    time.sleep(4)
    return float(config.seed)


if __name__ == "__main__":
    hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(task)()
"""
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def test_the_table_shows_running_jobs_and_lines_stay(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, str(tmp_path / "program.py"), "-m", f"runs_dir={tmp_path}", "seed=0,1"]
    environment = os.environ | {"COLUMNS": "150", "LINES": "40", "TERM": "xterm"}
    controller, terminal = pty.openpty()
    shown = bytearray()

    def read() -> None:
        while True:
            try:
                shown.extend(os.read(controller, 4096))
            except OSError:  # the other end is closed
                return

    reader = threading.Thread(target=read)
    reader.start()
    ended = subprocess.run(
        [*command, "hydra.launcher.workers=1"],
        cwd=tmp_path,
        env=environment,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        timeout=180,
    )
    os.close(terminal)
    reader.join(10)
    os.close(controller)
    text = ESCAPES.sub("", shown.decode(errors="replace"))
    assert ended.returncode == 0, text
    for word in ("tokens/s", "train [a]", "50%", "0.250", "1 running, 1 waiting", "2 jobs, 1 at a time"):
        assert word in text, text
    lines = [line.strip() for line in text.splitlines()]
    assert any(line.startswith("[1/2] done seed=0 (") for line in lines), text
    assert any(line.startswith("[2/2] done seed=1 (") for line in lines), text
