"""One GRPO step of TRL's trainer and one of ours, in turns inside TRL's own loop.

Both sample a group for each prompt from the same random Llama and score it with the same function. Both take one
optimiser step on an adapter of rank 8 on every linear layer. There is no KL, one update for each rollout, no
checkpointing of activations, and the same number of new tokens for every response. TRL's start-up is not counted: its
time is from the beginning to the end of a step, as its own callbacks see them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from benchmarks.benches import WordShare
from benchmarks.models import RANK, Setting, Shape, random_setting, word_tokenizer
from benchmarks.record import Options
from benchmarks.timing import Timing, say, seconds_of, synchronise
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Sampling
from emorl_bench.rl.scst import Scst

PROMPTS, GROUP, NEW_TOKENS, RATE = 8, 8, 64, 1e-4
PROMPT_TOKENS = (16, 32)
REWARD = WordShare("even", 0, 2)


@dataclass(frozen=True)
class StepTimes:
    """The times of both sides.

    Attributes:
        timings: by side.
        tokens: generated in one step, by side.
        settings: what was run.
    """

    timings: dict[str, Timing]
    tokens: dict[str, int]
    settings: dict[str, Any]


def step_times(shape: Shape, given: Options) -> StepTimes:
    """Time ``given.repeats`` steps of each side, after one that is not counted.

    Raises:
        AssertionError: the sides did not generate equally many tokens.
    """
    sized = replace(shape, prompts=PROMPTS, new_tokens=8 if given.quick else NEW_TOKENS, prompt_tokens=PROMPT_TOKENS)
    setting = random_setting(sized, experts=1, dtype=given.dtype, device=given.device)
    ours = OurStep(setting)
    turns = Turns(ours, given.device)
    with tempfile.TemporaryDirectory() as directory:
        trainer = new_trainer(sized, setting, given, directory, turns)
        trainer.train()
    rows = PROMPTS * GROUP * sized.new_tokens
    if not ours.tokens == rows == turns.tokens:
        raise AssertionError(f"work is not equal: {ours.tokens} and {turns.tokens} tokens, not {rows} each")
    timings = {"TRL": Timing(tuple(turns.theirs[1:])), "ours": Timing(tuple(turns.ours[1:]))}
    settings = {"prompts": PROMPTS, "group": GROUP, "new_tokens": sized.new_tokens, "shape": shape.name, "rank": RANK}
    return StepTimes(timings, {"TRL": rows, "ours": rows}, settings)


@dataclass
class OurStep:
    """Rollout, reward and update, through the calls that training makes."""

    setting: Setting
    tokens: int = 0

    def __post_init__(self) -> None:
        """Make a policy and its learner."""
        self.policy = self.setting.bank.new_policy("grpo")
        self.learner = Scst(learning_rate=RATE, kl_coefficient=0.0).learner(
            self.policy, self.setting.bank.decoder.ledger
        )

    def __call__(self, step: int) -> None:
        """One step."""
        sampling = Sampling(self.setting.new_tokens, samples_per_prompt=GROUP)
        rollout = self.policy.generate(self.setting.prompts(), sampling, stream(step, "rollout"))
        rewards_B = torch.tensor(REWARD.of_texts(rollout.responses))
        self.learner.step(rollout, rewards_B, stream(step, "update"))
        self.tokens = rollout.tokens


@dataclass
class Turns(TrainerCallback):  # type: ignore[misc]
    """A callback of TRL that times each of its steps, then runs and times one of ours.

    Attributes:
        our_step: our side.
        device: where both compute.
        theirs: seconds of TRL's steps.
        ours: seconds of our steps.
        tokens: those of the responses that TRL last asked to be rewarded.
    """

    our_step: Callable[[int], None]
    device: torch.device
    theirs: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    tokens: int = 0
    _started: float = 0.0

    def reward(self, completions: Sequence[str], completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
        """The reward function that TRL is given."""
        self.tokens = sum(map(len, completion_ids))
        return REWARD.of_texts(completions)

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock; TRL's callback."""
        synchronise(self.device)
        self._started = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Stop the clock, and run our step; TRL's callback."""
        synchronise(self.device)
        self.theirs.append(time.perf_counter() - self._started)
        step = len(self.theirs)
        self.ours.append(seconds_of(lambda: self.our_step(step), self.device))
        say(f"GRPO step {step}: TRL {self.theirs[-1]:.3g} s, ours {self.ours[-1]:.3g} s")


def new_trainer(shape: Shape, setting: Setting, given: Options, directory: str, turns: Turns) -> Any:
    """TRL's GRPOTrainer with the same model, adapter and work as our step."""
    steps = given.repeats + 1
    dataset = Dataset.from_list([{"prompt": e.prompt} for _ in range(steps) for e in setting.prompts()])
    arguments = GRPOConfig(
        output_dir=directory,
        max_steps=steps,
        per_device_train_batch_size=PROMPTS * GROUP,
        num_generations=GROUP,
        max_completion_length=shape.new_tokens,
        generation_kwargs={"min_new_tokens": shape.new_tokens},
        beta=0.0,
        learning_rate=RATE,
        bf16=given.dtype == torch.bfloat16,
        gradient_checkpointing=False,
        use_cpu=given.device.type == "cpu",
        save_strategy="no",
        report_to="none",
        logging_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    trainer = GRPOTrainer(
        model=setting.new_model(),
        reward_funcs=turns.reward,
        args=arguments,
        train_dataset=dataset,
        processing_class=word_tokenizer(shape.vocabulary),
        callbacks=[turns],
        peft_config=LoraConfig(r=RANK, lora_alpha=4 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer
