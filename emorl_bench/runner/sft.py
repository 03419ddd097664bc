"""Supervised fine-tuning: all weights of a base model learn from the written answers of a task.

Only prompts of the train split are used. The epoch with the lowest loss on the select split's answers is kept. The
report split is not read. Prompts have the same format as later in runs. The cost is in no method's ledger: every method
starts from the same fine-tuned model.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.utils import logging as transformers_logging

from emorl_bench.config.schema import Config
from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Task
from emorl_bench.core.ranks import ALONE
from emorl_bench.core.types import Example
from emorl_bench.models.backbone import Backbone
from emorl_bench.models.loading import FAMILIES
from emorl_bench.progress import ProgressBar
from emorl_bench.runner.base_model import load_base, locate_model, prompt_format, weights_hash
from emorl_bench.runner.fingerprints import build_task
from emorl_bench.runner.provenance import provenance

IGNORED = -100  # label of a token that the loss ignores
RECORD = "sft.json"
SETTINGS = ("epochs", "batch", "learning_rate", "max_new_tokens", "seed")

Row = dict[str, list[int]]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lesson:
    """Tokenized demonstrations, and how many were too long to be used."""

    rows: list[Row]
    left_out: int


def fine_tune(config: Config, device: torch.device) -> Path:
    """The directory of the fine-tuned model, which is trained unless it is there already.

    Raises:
        UserError: the task has no written answers, or ``out`` holds something else.
    """
    out, task = Path(config["out"]).expanduser(), build_task(config)
    key = fine_tuned_hash(config, task)
    if not config["force"] and out.exists():
        if recorded(out).get("key") == key:
            log.info("done before: %s", out)
            return out
        raise UserError(f"out={out}: holds something else; give another directory, or force=true to write over it")
    backbone = load_base(config, task, torch.device("cpu"), ALONE)
    lessons = {split: lesson(backbone, task, split, config["max_new_tokens"]) for split in ("train", "select")}
    del backbone
    sizes = {split: len(found.rows) for split, found in lessons.items()}
    for split, found in lessons.items():
        log.info("warm-up: %d answers of the %s split, %d too long", sizes[split], split, found.left_out)
    losses = train(config, device, lessons, out)
    write_record(config, out, {"key": key, "select_loss": losses, **sizes})
    return out


def fine_tuned_hash(config: Config, task: Task) -> str:
    """Hash of all that decides the fine-tuned model."""
    settings, model = {k: config[k] for k in SETTINGS}, config["model"]
    form = asdict(prompt_format(config, task))
    said = [settings, task.splits().fingerprint, weights_hash(locate_model(config)), model["max_prompt_tokens"], form]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def recorded(out: Path) -> dict[str, Any]:
    """The record in ``out``; empty where there is none."""
    file = out / RECORD
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def demonstrations(task: Task, split: str) -> Sequence[tuple[Example, str]]:
    """(prompt, written answer) pairs of one split.

    Raises:
        UserError: the task has no written answers.
    """
    known = getattr(task, "demonstrations", None)
    pairs = list(known(split)) if known is not None else []
    if not pairs:
        raise UserError(f"task: no written answers for the {split} split; warm up on pair, annomi or counsel_chat")
    return pairs


def lesson(backbone: Backbone, task: Task, split: str, longest: int) -> Lesson:
    """Rows for the trainer. A decoder-only model reads prompt and answer as one sequence; the prompt has no labels."""
    rows, left_out = [], 0
    for example, answer in demonstrations(task, split):
        prompt, said = backbone.prompt_ids(example.context), [*answer_ids(backbone, answer), backbone.eos]
        if len(said) > longest:
            left_out += 1
        elif backbone.family == "seq2seq":
            rows.append({"input_ids": prompt, "labels": said})
        else:
            rows.append({"input_ids": [*prompt, *said], "labels": [IGNORED] * len(prompt) + said})
    if not rows:
        raise UserError(f"max_new_tokens={longest}: every written answer of the {split} split is longer; give more")
    return Lesson(rows, left_out)


def answer_ids(backbone: Backbone, answer: str) -> list[int]:
    """Token ids of an answer as the model would continue it.

    A space comes first where the prompt's template ends in a word.
    """
    form, tokenizer = backbone.reader.form, backbone.tokenizer
    space = backbone.family == "causal" and not backbone.reader.chat and not form.template[-1].isspace()
    ids = list(tokenizer((" " if space else "") + answer, add_special_tokens=False)["input_ids"])
    alone = space and len(ids) > 1 and not tokenizer.decode(ids[:1]).strip()  # some tokenizers add a space themselves
    return ids[1:] if alone else ids


def train(config: Config, device: torch.device, lessons: Mapping[str, Lesson], out: Path) -> list[float]:
    """Fine-tune, and write the model of the best epoch to ``out``. A partly written model is never left there.

    Returns:
        The select loss after each epoch, in nats for each token.
    """
    located, model_config = locate_model(config), config["model"]
    auto, options = FAMILIES[model_config["family"]][0], {"trust_remote_code": model_config["trust_remote_code"]}
    transformers_logging.set_verbosity_error()  # transformers would warn that a tied head is missing
    model = auto.from_pretrained(str(located.directory), use_safetensors=True, dtype=torch.float32, **options)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        trainer = Trainer(
            model,
            arguments(config, device, Path(scratch, "epochs")),
            train_dataset=lessons["train"].rows,
            eval_dataset=lessons["select"].rows,
            data_collator=DataCollatorForSeq2Seq(tokenizer_of(config), model, label_pad_token_id=IGNORED),
        )
        steps = -(-len(lessons["train"].rows) // config["batch"]) * config["epochs"]
        with ProgressBar("warm-up", steps, "steps") as shown:
            trainer.remove_callback(PrinterCallback)
            trainer.add_callback(_Shown(shown))
            trainer.train()
        model.save_pretrained(Path(scratch, "model"))
        tokenizer_of(config).save_pretrained(Path(scratch, "model"))
        if out.exists():
            shutil.rmtree(out)
        os.replace(Path(scratch, "model"), out)
    return [row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row]


def arguments(config: Config, device: torch.device, scratch: Path) -> TrainingArguments:
    """The settings of transformers' trainer."""
    return TrainingArguments(
        output_dir=str(scratch),
        num_train_epochs=config["epochs"],
        per_device_train_batch_size=config["batch"],
        per_device_eval_batch_size=config["batch"],
        learning_rate=config["learning_rate"],
        lr_scheduler_type="cosine",
        warmup_steps=0.1,
        seed=config["seed"],
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        save_only_model=True,  # an optimiser's state would be a pickle
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        logging_strategy="epoch",
        report_to=[],
        disable_tqdm=True,
        use_cpu=device.type == "cpu",
        bf16=device.type == "cuda",
        dataloader_pin_memory=device.type == "cuda",
    )


def tokenizer_of(config: Config) -> Any:
    """The base model's tokenizer, with a padding token."""
    place, code = str(locate_model(config).directory), config["model"]["trust_remote_code"]
    tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=code)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


class _Shown(TrainerCallback):  # type: ignore[misc]
    """Shows the trainer's progress: rate, time left, and the loss once it is known."""

    def __init__(self, steps: ProgressBar) -> None:
        self.steps, self.note = steps, ""

    def on_evaluate(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self.note = f"select loss {rest['metrics']['eval_loss']:.3f}"
        log.info("warm-up: epoch %.0f, %s", state.epoch, self.note)

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self.steps.to(state.global_step, self.note)


def write_record(config: Config, out: Path, found: Mapping[str, Any]) -> None:
    """Write settings, losses and provenance beside the model."""
    settings = {k: config[k] for k in SETTINGS} | {"task": config["task"].get("file"), "model": config["model"]["path"]}
    record = {**found, "settings": settings, **provenance(torch.get_num_threads(), config["hardware"]["device"])}
    (out / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
