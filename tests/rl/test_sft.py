"""Supervised warm-up: what is learnt, from which prompts, and what is left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import tiny_model, word_tokenizer
from hydra import compose, initialize_config_dir
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

from emorl_bench.config.compose import VERSION_BASE, conf_dir, plain
from emorl_bench.core.errors import UserError
from emorl_bench.data import pair
from emorl_bench.models.loading import FAMILIES
from emorl_bench.runner.base_model import load_base
from emorl_bench.runner.fingerprints import build_task
from emorl_bench.runner.process_group import ALONE
from emorl_bench.runner.sft import IGNORED, RECORD, demonstrations, fine_tune, lesson

CPU = torch.device("cpu")
WORDS = [f"w{i}" for i in range(4, 40)]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Sixty prompts; what was written in answer repeats a prompt's first word."""
    file = tmp_path / "data" / pair.FILE
    file.parent.mkdir(parents=True)
    rows = []
    for i in range(60):
        words = [WORDS[(7 * i + 5 * j * (1 + i // 36)) % 36] for j in range(4)]
        rows.append([" ".join(words), f"{words[0]} {words[0]}", f"{words[0]}", "w5", *["w6"] * 5])
    file.write_text("\n".join(",".join(row) for row in rows))
    return tmp_path / "data"


def settings(tmp_path: Path, data_dir: Path, architecture: str, *changes: str) -> dict[str, Any]:
    model = tmp_path / architecture
    if not model.exists():
        tiny_model(architecture).save_pretrained(model)
        word_tokenizer().save_pretrained(model)
    family = "seq2seq" if architecture == "t5" else "causal"
    fixed = [f"model={family}", f"model.path={model}", f"task.data_dir={data_dir}", f"out={tmp_path / 'warm'}"]
    fixed += [
        "task.template='{prompt}'",
        "epochs=3",
        "learning_rate=1e-2",
        "hardware=cpu",
        "model.max_prompt_tokens=16",
    ]
    with initialize_config_dir(str(conf_dir()), version_base=VERSION_BASE):
        return plain(compose("sft", overrides=[*fixed, *changes]))


def test_rows_hold_prompt_answer_and_end(tmp_path: Path, data_dir: Path, architecture: str) -> None:
    config = settings(tmp_path, data_dir, architecture)
    task = build_task(config)
    backbone = load_base(config, task, CPU, ALONE)
    rows = lesson(backbone, task, "train", 8).rows
    pairs = demonstrations(task, "train")
    assert len(rows) == len(pairs) > 60
    for row, (example, answer) in zip(rows, pairs, strict=True):
        said = [i for i in row["labels"] if i != IGNORED]
        assert said[-1] == backbone.eos
        assert backbone.tokenizer.decode(said[:-1]) == answer
        prompt = backbone.prompt_ids(example.prompt)
        if architecture == "t5":
            assert row["input_ids"] == prompt
        else:
            assert row["input_ids"] == prompt + said
            assert row["labels"][: len(prompt)] == [IGNORED] * len(prompt)


def test_only_answers_to_the_prompts_of_a_split_are_used(tmp_path: Path, data_dir: Path) -> None:
    task = build_task(settings(tmp_path, data_dir, "gpt2"))
    splits = task.splits()
    for split in ("train", "select"):
        asked = {example.prompt for example, _ in demonstrations(task, split)}
        assert asked == {example.prompt for example in getattr(splits, split)}
        assert not asked & {example.prompt for example in splits.report}


def test_long_answers_are_left_out_and_counted(tmp_path: Path, data_dir: Path) -> None:
    config = settings(tmp_path, data_dir, "gpt2")
    task = build_task(config)
    found = lesson(load_base(config, task, CPU, ALONE), task, "train", 2)
    assert found.left_out > 0
    assert all(len([i for i in row["labels"] if i != IGNORED]) <= 2 for row in found.rows)
    with pytest.raises(UserError, match=r"max_new_tokens=1: every written answer of the train split is longer"):
        lesson(load_base(config, task, CPU, ALONE), task, "train", 1)


def select_loss(config: dict[str, Any], directory: Path) -> float:
    """The mean loss of a token, worked out row by row."""
    task = build_task(config)
    rows = lesson(load_base(config, task, CPU, ALONE), task, "select", 8).rows
    model = FAMILIES[config["model"]["family"]][0].from_pretrained(directory).eval()
    losses = []
    for row in rows:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
        with torch.no_grad():
            if config["model"]["family"] == "seq2seq":
                logits, target = model(input_ids=ids, labels=labels).logits[0], labels[0]
            else:
                logits, target = model(input_ids=ids).logits[0, :-1], labels[0, 1:]
        losses.append(cross_entropy(logits, target, ignore_index=IGNORED, reduction="none")[target != IGNORED])
    return float(torch.cat(losses).mean())


def test_a_model_is_warmed_once_and_is_a_base_model(tmp_path: Path, data_dir: Path, architecture: str) -> None:
    config = settings(tmp_path, data_dir, architecture)
    out = fine_tune(config, CPU)
    before, after = select_loss(config, tmp_path / architecture), select_loss(config, out)
    assert after < before - 0.5
    record = json.loads((out / RECORD).read_text())
    assert min(record["select_loss"]) == pytest.approx(after, rel=0.02)  # the trainer averages over batches
    assert len(record["select_loss"]) == 3
    assert record["settings"]["task"] == pair.FILE
    warm = {**config, "model": {**config["model"], "path": str(out)}}
    assert load_base(warm, build_task(config), CPU, ALONE).fingerprint
    weights = load_file(out / "model.safetensors")
    assert not list(out.glob("*.bin"))
    assert fine_tune(config, CPU) == out  # done before
    assert all(torch.equal(weights[k], v) for k, v in load_file(out / "model.safetensors").items())
    other = settings(tmp_path, data_dir, architecture, "epochs=1")
    with pytest.raises(UserError, match="holds something else"):
        fine_tune(other, CPU)
    assert not list(tmp_path.glob(".warm-*"))


def test_a_task_without_written_answers_is_refused(tmp_path: Path, data_dir: Path) -> None:
    config = settings(tmp_path, data_dir, "gpt2") | {"task": {"_target_": "emorl_bench.tasks.reflections.Reflections"}}
    scorer = {"_target_": "emorl_bench.scorers.length_band.LengthBand", "low": 1, "high": 5}
    config["task"]["scorers"] = {"length_band": scorer}
    with pytest.raises(UserError, match="no written answers"):
        fine_tune(config, CPU)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "out is missing: say out=VALUE"),
        (["out=x", "epochs=0"], "epochs=0: give a number above 0"),
        (["out=x", "epoch=1"], "unknown key 'epoch'; did you mean 'epochs'?"),
        (["out=x"], "task.data_dir"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, arguments: list[str], line: str) -> None:
    command = [sys.executable, "-m", "emorl_bench.cli.sft", "model=tiny_gpt2", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=180, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("emorl-sft: ")
    assert done.stderr.count("\n") == 1
    assert line in done.stderr
