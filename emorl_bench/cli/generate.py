"""``emorl-generate RUN --preference 0.6,0.3,0.1 [--text …]``: answer texts with what a run has produced.

The method is fitted again in its own run directory with a frozen bench: everything trained is loaded and nothing is
trained. A preference that the run never asked for is searched now. So this works for every method, without code of its
own.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from emorl_bench.cli.harness import one_line
from emorl_bench.core.errors import UserError

if TYPE_CHECKING:
    from emorl_bench.runner.bench import Workbench

SHOWN = 3  # number of report prompts that are answered when no text is given


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(prog="emorl-generate", description="Answer a text with what a run produced.")
    parser.add_argument("run", type=Path, help="a finished run directory")
    parser.add_argument("--preference", help="one weight for each objective, such as 0.6,0.3,0.1; uniform by default")
    parser.add_argument("--text", help="what to answer; '-' reads lines from standard input; report prompts by default")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 is greedy")
    parser.add_argument("--samples", type=int, default=1, help="answers to each text")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    arguments = parser.parse_args(argv)
    with one_line("emorl-generate", traceback=arguments.traceback):
        generate(arguments)


def generate(arguments: argparse.Namespace) -> None:
    """Answer the texts, and score each answer with the run's own scorers.

    Raises:
        UserError: there is no finished run, or the preference does not fit its objectives.
    """
    config = read_config(arguments.run)
    if arguments.samples < 1 or arguments.temperature < 0:
        raise UserError(f"--samples {arguments.samples} --temperature {arguments.temperature}: need at least 1 and 0")
    os.environ.setdefault("OMP_NUM_THREADS", str(config["hardware"]["threads"]))
    import torch  # imported after all checks that need no model

    from emorl_bench.core.masked import or_none
    from emorl_bench.core.seeds import stream
    from emorl_bench.core.types import Example, Sampling
    from emorl_bench.runner.bench import Workbench
    from emorl_bench.tracking.silent import Silent

    torch.set_num_threads(config["hardware"]["threads"])
    names = json.loads((arguments.run / "summary.json").read_text())["objectives"]
    preference = parse_preference(arguments.preference, names)
    workbench = Workbench.build(config, arguments.run, Silent(), frozen=True)
    policy = workbench.method.fit(workbench.bench).policy_for(torch.tensor(preference, dtype=torch.float64))
    sampling = Sampling(config["sampling"]["max_new_tokens"], arguments.temperature, arguments.samples)
    for text in texts(arguments.text, workbench):
        rollout = policy.generate([Example("text", text)], sampling, stream(arguments.seed, "generate", text))
        print(f"> {text}")
        for response, scores in zip(rollout.responses, workbench.bench.score(rollout).tolist(), strict=True):
            pairs = zip(names, or_none(scores), strict=True)
            shown = "  ".join(f"{name} {'n/a' if score is None else f'{score:.2f}'}" for name, score in pairs)
            print(f"{response}\n  [{shown}]", flush=True)


def texts(text: str | None, workbench: Workbench) -> Iterator[str]:
    """The texts to answer: the given one, lines of standard input for ``-``, or the first report prompts."""
    if text == "-":
        yield from (line.strip() for line in sys.stdin if line.strip())
    elif text is not None:
        yield text
    else:
        yield from (example.prompt for example in workbench.grader.report[:SHOWN])


def read_config(run: Path) -> dict[str, Any]:
    """The resolved configuration of a finished run.

    Raises:
        UserError: there is no finished run in the directory.
    """
    if not (run / "config.yaml").is_file() or not (run / "summary.json").is_file():
        raise UserError(f"RUN='{run}': no finished run there; give a directory with a config.yaml and a summary.json")
    config = OmegaConf.to_container(OmegaConf.load(run / "config.yaml"), resolve=True)
    assert isinstance(config, dict)
    # Runs may have been moved, so the experts are looked for beside this run.
    return {str(k): v for k, v in config.items()} | {"runs_dir": str(run.resolve().parents[3])}


def parse_preference(text: str | None, objectives: Sequence[str]) -> list[float]:
    """Weights from text such as ``0.6,0.3,0.1``; uniform weights for ``None``.

    Raises:
        UserError: the text is not one number of 0 or more for each objective, or the sum is not 1.
    """
    if text is None:
        return [1 / len(objectives)] * len(objectives)
    try:
        weights = [float(part) for part in text.split(",")]
    except ValueError:
        weights = []
    if len(weights) != len(objectives) or min(weights) < 0 or abs(sum(weights) - 1) > 1e-6:
        raise UserError(
            f"--preference {text}: needs {len(objectives)} non-negative numbers that sum to 1, separated by commas, "
            f"one each for {', '.join(objectives)}"
        )
    return weights
