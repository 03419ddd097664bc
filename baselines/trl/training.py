"""Training by TRL's own trainers inside the loop that every method shares.

One round of `rl.loop.run_rounds` is one call of TRL's ``train``. TRL samples answers to the step's prompts with
transformers' ``generate``. It asks the bench's scorers as its reward functions, one for each objective. It then
computes its own advantages and takes its own optimiser steps. Adam's moments are kept from call to call, so many calls
are one training.

Validation, checkpoints, convergence, budget and resumption are the loop's. A killed run goes on from its last
checkpoint and ends with the numbers of an undisturbed run. TRL and transformers write and read no files: their
checkpoints hold pickles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import TrainerCallback

from baselines.trl.settings import TrainerName, TrlSettings, trl_settings
from emorl_bench.core.errors import UserError
from emorl_bench.core.masked import or_none
from emorl_bench.core.protocols import Bench, Policy
from emorl_bench.core.seeds import seed_for
from emorl_bench.core.types import Budget, Example, Metrics, Rollout
from emorl_bench.models.backbone import Backbone
from emorl_bench.policies.together import on_one_base
from emorl_bench.rl.loop import prompts, run_rounds
from emorl_bench.rl.optimiser import Optimiser, numbered
from emorl_bench.rl.run import TrainingRun
from emorl_bench.rl.showing import describe
from emorl_bench.rl.weighting import FixedWeights

RECORDED = {  # TRL's name of a metric and ours
    "loss": "loss",
    "grad_norm": "grad_norm",
    "entropy": "entropy",
    "kl": "kl_per_token",
    "clip_ratio/region_mean": "clipped",  # where clipping changes the loss; our clip_fraction counts all ratios outside
}


@dataclass
class Logs(TrainerCallback):  # type: ignore[misc]
    """What TRL logs about its optimiser steps."""

    rows: list[Mapping[str, float]] = field(default_factory=list)

    def on_log(self, *_: Any, logs: Mapping[str, float], **__: Any) -> None:
        """Keep a row of an optimiser step; TRL's callback."""
        if "loss" in logs:  # the last row of a call has only its time
            self.rows.append(dict(logs))

    def means(self) -> dict[str, float]:
        """The mean of each metric over the optimiser steps, under our names."""
        told = {ours: [row[theirs] for row in self.rows if theirs in row] for theirs, ours in RECORDED.items()}
        return {name: sum(values) / len(values) for name, values in told.items() if values}


@dataclass
class ScorersForTrl:
    """The bench's scorers as reward functions; TRL asks for one objective after the other.

    All objectives are scored when the first is asked for.

    Attributes:
        bench: what the method is given.
        weighting: its shape of a score is what TRL adds up.
        backbone: it decodes token ids into text.
        examples: the prompts of the step.
        told: the last answers and their scores (B, K).
    """

    bench: Bench
    weighting: FixedWeights
    backbone: Backbone
    examples: Sequence[Example] = ()
    told: tuple[Rollout, Tensor] = field(init=False)

    def functions(self) -> list[Callable[..., list[float | None]]]:
        """One reward function for each objective."""
        return [self._function(k, name) for k, name in enumerate(self.bench.objectives)]

    def _function(self, k: int, name: str) -> Callable[..., list[float | None]]:
        def reward(completion_ids: Sequence[Sequence[int]], place: Sequence[int], **_: Any) -> list[float | None]:
            if k == 0:
                self._ask(completion_ids, [self.examples[i] for i in place])
            return or_none(self.weighting.shaped(self.told[1])[:, k].tolist())

        reward.__name__ = name
        return reward

    def _ask(self, completion_ids: Sequence[Sequence[int]], examples: Sequence[Example]) -> None:
        """Score answers, and charge what they have cost."""
        rows = [torch.tensor(ids, device=self.backbone.device) for ids in completion_ids]
        ids_BT = pad_sequence(rows, batch_first=True, padding_value=self.backbone.pad)
        mask_BT = pad_sequence([torch.ones_like(row, dtype=torch.bool) for row in rows], batch_first=True)
        texts = self.backbone.response_texts(ids_BT, mask_BT)
        unknown_BT = torch.full(ids_BT.shape, math.nan, device=ids_BT.device)  # TRL does not say how likely they were
        sampling = self.bench.sampling
        rollout = Rollout(
            tuple(examples), texts, ids_BT, mask_BT, unknown_BT, sampling.samples_per_prompt, sampling.temperature
        )
        cost = self.bench.ledger.current
        cost.prompts += len(self.examples)
        cost.samples += len(rows)
        cost.generated_tokens += rollout.tokens
        cost.decoded_tokens += ids_BT.numel()  # a row that has ended is fed padding until the last one has
        self.told = rollout, self.bench.score(rollout)


@dataclass
class TrlLearner:
    """One policy and the trainer that updates it. The trainer is made when it is first needed.

    Attributes:
        bench: what the method is given.
        policy: the policy that is trained.
        weighting: the weights of the objectives.
        name: which of TRL's trainers.
        settings: the update rule in TRL's terms.
        logs: what TRL logs.
    """

    bench: Bench
    policy: Policy
    weighting: FixedWeights
    name: TrainerName
    settings: TrlSettings
    logs: Logs = field(default_factory=Logs)
    _optimiser: Optimiser | None = None
    _state: Mapping[str, Tensor] = field(default_factory=dict)  # of the optimiser, from a checkpoint

    @cached_property
    def scorers(self) -> ScorersForTrl:
        """The bench's scorers as reward functions."""
        return ScorersForTrl(self.bench, self.weighting, _backbone(self.policy))

    @cached_property
    def trainer(self) -> Any:
        """TRL's trainer with our AdamW on its adapter, so that Adam's moments can be kept as tensors."""
        from baselines.trl.trainers import new_trainer  # TRL takes seconds to import

        sampling = self.bench.sampling
        arguments = {
            **self.settings.arguments,
            "output_dir": str(self.bench.dir),  # where nothing is written
            "seed": self.bench.seed,
            "num_generations": sampling.samples_per_prompt,
            "max_completion_length": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "reward_weights": list(self.weighting.weights),
        }
        functions = self.scorers.functions()
        trainer = new_trainer(self.name, self.scorers.backbone, self.bench.ledger, arguments, functions, self.logs)
        trained = numbered((p for p in trainer.model.parameters() if p.requires_grad), "adapter.")
        given = trainer.args
        self._optimiser = Optimiser(trained, given.learning_rate, given.weight_decay, given.max_grad_norm)
        self._optimiser.load_state_tensors(self._state)
        trainer.optimizer = self._optimiser.adamw
        return trainer

    def step(self, step: int) -> Metrics:
        """One call of TRL's ``train``; the policy is then given the adapter that TRL has trained."""
        from baselines.trl.trainers import dataset

        trainer = self.trainer
        self.scorers.examples = prompts(self.bench, step)
        self.bench.ledger.ask(len(self.scorers.examples))
        self.logs.rows.clear()
        set_peft_model_state_dict(trainer.model, self.policy.adapter())
        trainer.train_dataset = dataset([example.context for example in self.scorers.examples])
        torch.manual_seed(seed_for(self.bench.seed, "trl", step))  # TRL samples from the global stream
        trainer.train()
        self.policy.load_adapter(get_peft_model_state_dict(trainer.model, save_embedding_layers=False))
        rollout, scores_BK = self.scorers.told
        cost = self.bench.ledger.current
        cost.optimiser_steps += trainer.state.global_step
        cost.trained_tokens += self.settings.epochs * rollout.tokens
        told = self.logs.means()
        seen = describe(self.bench, rollout, scores_BK, self.weighting.reward(scores_BK)) | told
        return seen | ({"kl": told["kl_per_token"] * seen["length"]} if "kl_per_token" in told else {})

    def state_dict(self) -> dict[str, Tensor]:
        """See `core.protocols.Resumable.state_dict`: Adam's moments."""
        return dict(self._state) if self._optimiser is None else self._optimiser.state_tensors()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """See `core.protocols.Resumable.load_state_dict`; the moments are used when the trainer is made."""
        self._state = dict(state)


def train_with_trl(
    bench: Bench, policy: Policy, weighting: FixedWeights, trainer: TrainerName, *, name: str, budget: Budget
) -> Policy:
    """Train a policy as `rl.loop.train` does, by one of TRL's trainers under the settings of ``bench.update``.

    Raises:
        UserError: TRL's trainer does not suit the model, the run or the update rule.
    """
    learner = TrlLearner(bench, policy, weighting, trainer, _settings(bench, policy, trainer))
    run = TrainingRun(bench, name, {name: policy}, {}, weighting, budget)
    run.checkpoint = replace(run.checkpoint, learners={name: learner})  # no update rule, but it has a state

    def round(runs: Sequence[TrainingRun], step: int) -> list[Metrics]:
        return [learner.step(step)]

    run_rounds(bench, [run], round)
    return policy


def _settings(bench: Bench, policy: Policy, trainer: TrainerName) -> TrlSettings:
    method = f"method.trainer={trainer}"
    if _backbone(policy).family != "causal":
        raise UserError(f"{method}: TRL trains decoder-only models alone; use model=tiny_gpt2 or another causal model")
    if policy.ranks.count > 1:
        raise UserError(f"{method}: runs in one process; start it without torchrun or accelerate launch")
    if bench.sampling.samples_per_prompt < 2:
        raise UserError(f"{method}: needs budget.training.samples_per_prompt=2 or more, to compare answers to a prompt")
    return trl_settings(trainer, bench.update, len(prompts(bench, 0)) * bench.sampling.samples_per_prompt)


def _backbone(policy: Policy) -> Backbone:
    return on_one_base([policy])[0].backbone
