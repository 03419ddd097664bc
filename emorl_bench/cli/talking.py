"""The part of ``emorl-generate`` that needs torch: load runs, let them answer side by side, and show it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from emorl_bench.cli import answers
from emorl_bench.cli.answering import Talker
from emorl_bench.core.terminal import reader_left
from emorl_bench.core.types import Sampling

SHOWN = 3  # number of report prompts that are answered when no text is given


def talk(arguments: argparse.Namespace, configs: Mapping[Path, dict[str, Any]], preference: Sequence[float]) -> None:
    """Answer the texts that the command line gives, as they come.

    Args:
        arguments: the command line.
        configs: run directory -> the resolved configuration of the run.
        preference: one weight for each objective.

    Raises:
        UserError: a run lacks something that was never trained, or cannot be explained.
    """
    talkers = list(_loaded(arguments, configs, preference))
    console, asked_for = Console(highlight=False), dict(zip(talkers[0].objectives, preference, strict=True))
    for text in given_texts(arguments.text) or talkers[0].prompts(SHOWN):
        if reader_left() and arguments.json is None:  # as in `emorl-generate RUN --text - | head`
            break
        print(f"> {text}", flush=True)
        for talker in talkers:
            answers.show(console, talker.answer(text), talker.name if len(talkers) > 1 else "")
    records = [_record(talker, arguments, asked_for, console) for talker in talkers]
    if arguments.json is not None:
        content = json.dumps({"preference": asked_for, "runs": records}, ensure_ascii=False, indent=1)
        arguments.json.write_text(f"{content}\n", encoding="utf-8")


def _loaded(
    arguments: argparse.Namespace, configs: Mapping[Path, dict[str, Any]], preference: Sequence[float]
) -> Iterator[Talker]:
    asked = Sampling(1, arguments.temperature, arguments.samples)
    for run, config in configs.items():
        print(f"loading {run}", file=sys.stderr, flush=True)
        yield Talker.load(run, config, preference, asked, arguments.seed, arguments.explain)


def _record(
    talker: Talker, arguments: argparse.Namespace, asked_for: Mapping[str, float], console: Console
) -> dict[str, Any]:
    """What a run has answered, ready for JSON. What its experts have decided is printed."""
    record: dict[str, Any] = {"run": talker.name, "answers": [answer.as_dict() for answer in talker.told]}
    if arguments.explain and talker.told:
        if arguments.text is None:
            print("explaining the answers to the whole report split", file=sys.stderr, flush=True)
        whole = talker.explained_report() if arguments.text is None else talker.explained()
        console.print()
        console.print(answers.legend(whole.experts), soft_wrap=True)
        print("\n".join([talker.name, *answers.totals(whole, asked_for)]), flush=True)
        record["explanation"] = whole.as_dict()
    return record


def given_texts(text: str | None) -> Iterator[str] | None:
    """The texts to answer: the given one, or lines of standard input for ``-``; None: report prompts."""
    if text == "-":
        return (line.strip() for line in _lines() if line.strip())
    return None if text is None else iter([_readable(text.encode("utf-8", "surrogateescape"), "--text")])


def _lines() -> Iterator[str]:
    """The lines of standard input."""
    binary = getattr(sys.stdin, "buffer", None)
    if binary is None:  # something has replaced it
        yield from sys.stdin
        return
    for number, line in enumerate(binary, 1):
        yield _readable(line, f"line {number} of standard input")


def _readable(data: bytes, where: str) -> str:
    """UTF-8 as text. Bytes that are none are replaced, and it is said where: no model has seen such text."""
    text = data.decode("utf-8", "replace")
    if "\N{REPLACEMENT CHARACTER}" in text and text.encode("utf-8") != data:
        print(f"{where} is not UTF-8; unknown bytes are read as \N{REPLACEMENT CHARACTER}", file=sys.stderr, flush=True)
    return text
