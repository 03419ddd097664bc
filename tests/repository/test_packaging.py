"""sdist -> wheel -> a directory with another ``baselines``: the wheel works where no checkout is, and beside others."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_wheel_from_the_sdist_works_in_an_empty_directory(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=300)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "emorl_bench/conf/method/emorl.yaml" in names
    pages = {f"emorl_bench/{path.relative_to(ROOT)}" for path in (ROOT / "baselines").rglob("*.py")}
    assert {"emorl_bench/baselines/cory.py", "emorl_bench/baselines/ric/prompting.py"} <= pages <= set(names)
    page = "emorl_bench/report/html"
    assert {f"{page}/page/index.html", f"{page}/page/main.js", f"{page}/vendor/plotly-basic.min.js"} <= set(names)
    assert {name.partition("/")[0] for name in names} == {
        "emorl_bench",
        f"{wheel.name.rpartition('-py3')[0]}.dist-info",
    }
    assert {"emorl_bench/py.typed", "emorl_bench/baselines/py.typed"} <= set(names)  # users' type checkers read these

    site, empty = tmp_path / "site", tmp_path / "empty"
    (empty / "baselines").mkdir(parents=True)
    (empty / "baselines" / "__init__.py").write_text("raise ImportError('the baselines of somebody else')")
    zipfile.ZipFile(wheel).extractall(site)
    script = (
        "import sys; from pathlib import Path; import emorl_bench; from emorl_bench.cli.bench import main; "
        f"assert Path(emorl_bench.__file__).is_relative_to({str(site)!r}), emorl_bench.__file__; main()"
    )
    common = ["budget=smoke", "preferences.divisions=1", "tracker=local"]
    environment = os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}

    def program(*arguments: str) -> None:
        command = [sys.executable, "-c", script, *arguments, *common]
        done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr

    program("method=base")
    assert list(empty.glob("runs/reflections/tiny_t5/base/s0-*/summary.json"))
    program("--dry-run", "-m", "method=ties,ric,agro_offline,pareto_set,trl_grpo")  # imports pages and folders
