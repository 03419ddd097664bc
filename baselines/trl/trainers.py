"""TRL's trainers (TRL 1.16) on the base model of a bench. This is the only module of the method that imports TRL.

What is changed in them: prompts are read as our policies read them (template, length limit, end tokens). Positions
count real tokens. The base model's own dropout is off. The ledger is told what a pass costs. Nothing is sent anywhere.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from baselines.trl.base_model import count_positions, unadapted
from baselines.trl.settings import TrainerName
from emorl_bench.core.ledger import Ledger
from emorl_bench.models.backbone import Backbone
from emorl_bench.policies.peft_io import peft_config

Base: Any = object


class Benched(Base):  # type: ignore[misc]
    """What stands before one of TRL's trainers in the order of inheritance.

    Attributes:
        backbone: the base model, which reads prompts.
        ledger: where passes are metered.
    """

    backbone: Backbone
    ledger: Ledger
    _pass: ExitStack

    def train(self) -> None:
        """TRL's training without its warnings."""
        with no_notices():
            super().train()

    def _send_telemetry(self) -> None:
        """TRL reports its use where Hugging Face's telemetry is on; a bench does not."""

    def _tokenize_prompts(self, prompts: Sequence[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [self.backbone.prompt_ids(text) for text in prompts], None, {}

    def _generate_single_turn(self, *given: Any, **named: Any) -> Any:
        with self.ledger.metered("decode") as call:
            found = super()._generate_single_turn(*given, **named)
            call.tokens = fed_tokens(found[0] if isinstance(found, tuple) else found)
        return found

    def _get_per_token_logps_and_entropies(self, *given: Any, **named: Any) -> Any:
        if torch.is_grad_enabled():  # part of an update, which is metered as a whole
            return super()._get_per_token_logps_and_entropies(*given, **named)
        _, _, mask_BS, response_tokens, *_ = given
        with self.ledger.metered("forward") as call:
            call.tokens = int(mask_BS[:, -response_tokens:].sum())
            return super()._get_per_token_logps_and_entropies(*given, **named)

    def _prepare_inputs(self, inputs: Any) -> Any:
        """Sample and score where that is due; the rest of the training step is the update, and metered as one."""
        prepared = super()._prepare_inputs(inputs)
        self._pass.enter_context(self.ledger.metered("update")).tokens = int(prepared["completion_mask"].sum())
        return prepared

    def training_step(self, *given: Any, **named: Any) -> Any:
        """TRL's step; the meter of the update ends with it."""
        with ExitStack() as self._pass:
            return super().training_step(*given, **named)


class BenchedGrpo(Benched, GRPOTrainer):  # type: ignore[misc]
    """TRL's GRPO (2402.03300), and with ``normalize_then_sum`` GDPO (2601.05242), on a bench."""

    pass


class BenchedRloo(Benched, RLOOTrainer):  # type: ignore[misc]
    """TRL's RLOO (2402.14740) on a bench."""

    pass


def new_trainer(
    name: TrainerName,
    backbone: Backbone,
    ledger: Ledger,
    arguments: Mapping[str, Any],
    rewards: Sequence[Callable[..., Any]],
    callback: TrainerCallback,
) -> Any:
    """A trainer with a fresh LoRA adapter of the backbone's shape on the backbone's own weights.

    Args:
        name: which trainer.
        backbone: the base model.
        ledger: where passes are metered.
        arguments: arguments of TRL's configuration.
        rewards: one reward function for each objective.
        callback: it is told what TRL logs.
    """
    cpu = backbone.device.type == "cpu"
    of_config, of_trainer = (RLOOConfig, BenchedRloo) if name == "rloo" else (GRPOConfig, BenchedGrpo)
    config = of_config(
        **arguments,
        optim="adamw_torch",
        shuffle_dataset=False,
        bf16=False,  # the base keeps its own precision, and adapters are float32
        activation_checkpointing=False,  # a backbone that checkpoints gradients does so by itself
        use_cpu=cpu,
        dataloader_pin_memory=not cpu,
        save_strategy="no",
        report_to="none",
        logging_steps=1,
        disable_tqdm=True,
    )
    config._n_gpu = min(config.n_gpu, 1)  # TRL refuses a machine with several GPUs, even if it uses one
    count_positions(model := unadapted(backbone))
    with no_notices():
        trainer = of_trainer(
            model=model,
            reward_funcs=list(rewards),
            args=config,
            train_dataset=dataset([""]),
            processing_class=copy.deepcopy(backbone.tokenizer),  # TRL may give it a padding token
            callbacks=[callback],
            peft_config=peft_config(backbone),
        )
    trainer.backbone, trainer.ledger = backbone, ledger
    trainer.accelerator.free_memory = partial(forget, trainer.accelerator)
    trainer.remove_callback(PrinterCallback)
    return trainer


def dataset(prompts: Sequence[str]) -> Any:
    """The prompts of one step, each with its place; reward functions are given the place."""
    return Dataset.from_list([{"prompt": text, "place": i} for i, text in enumerate(prompts)])


@contextmanager
def no_notices() -> Iterator[None]:
    """Hide Python's warnings inside this context.

    They are about names that TRL uses and that transformers and PEFT are going to change.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def forget(accelerator: Any) -> None:
    """Reset accelerate as it does itself before every training, but without collecting garbage.

    Collecting garbage would take 0.3 s at each of our steps.
    """
    accelerator._schedulers, accelerator._optimizers, accelerator._models, accelerator._dataloaders = [], [], [], []
    accelerator.step = 0


def fed_tokens(completions: Sequence[Sequence[int]]) -> int:
    """The tokens that `generate` makes passes for: a row that has ended is fed padding until the last row has ended."""
    return len(completions) * max(map(len, completions))
