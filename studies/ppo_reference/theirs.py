"""TRL's half: `trl.experimental.ppo.PPOTrainer` (1.12) on ``exchange/setup.json``; it writes ``theirs.json``."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from emorl_bench.config.trust import check_named
from emorl_bench.core.types import Example
from emorl_bench.runner.base_model import locate_model
from emorl_bench.runner.fingerprints import build_task

EXCHANGE = "exchange"  # as in our half, which this environment cannot import
Row = dict[str, Any]


class Judge(nn.Module):
    """The mean of the bench's scorers in the form of a reward model of TRL.

    TRL calls a backbone and then a head. The backbone passes ids on, and the head scores them.

    Args:
        setup: the contents of ``setup.json``.
        tokenizer: it decodes answers.
        width: the column in which answers begin.
    """

    base_model_prefix = "backbone"

    def __init__(self, setup: Row, tokenizer: Any, width: int) -> None:
        """Build the scorers of the task."""
        super().__init__()
        self.scorers = build_task(setup).scorers.values()
        self.tokenizer, self.width, self.eos = tokenizer, width, setup["eos"]
        self.examples = {tuple(row["ids"]): Example(row["id"], row["prompt"]) for row in setup["train"]}

    def backbone(self, input_ids: Tensor, attention_mask: Tensor, **_: Any) -> Any:
        """Remember the ids; what is returned only has the right form."""
        self.seen = input_ids, attention_mask.bool()
        return SimpleNamespace(hidden_states=[input_ids[..., None].float()])

    def score(self, hidden: Tensor) -> Tensor:
        """(B, L, 1): the answer's reward at every token."""
        ids_BL, mask_BL = self.seen
        read = zip(ids_BL[:, : self.width], mask_BL[:, : self.width], strict=True)
        asked = [self.examples[tuple(row[keep].tolist())] for row, keep in read]
        said_BT, kept_BT = ids_BL[:, self.width :], mask_BL[:, self.width :]
        kept_BT = kept_BT & (said_BT != self.eos)
        rows = [row[keep].tolist() for row, keep in zip(said_BT, kept_BT, strict=True)]
        texts = self.tokenizer.batch_decode(rows, skip_special_tokens=True)
        scores = [torch.as_tensor(s.score(asked, texts)) for s in self.scorers]
        return torch.stack(scores).mean(0)[:, None, None].expand(-1, hidden.shape[1], 1)


class Value(nn.Module):
    """A linear head on the policy's own hidden states, 0 at first, like the value head of our PPO.

    Args:
        policy: the model with its adapter.
        width: H, the width of its hidden states.
    """

    base_model_prefix = "backbone"

    def __init__(self, policy: Any, width: int) -> None:
        """Add a head of zeros."""
        super().__init__()
        self.backbone = policy
        self.score = nn.Linear(width, 1)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)


def main(argv: Sequence[str] | None = None) -> None:
    """Train with every seed, and write the curves."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dir", type=Path, default=Path("results/ppo_reference"), help="where both halves meet")
    parser.add_argument("--seeds", default="0,1,2,3,4", help="with commas")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    setup = json.loads((given.dir / EXCHANGE / "setup.json").read_text())
    check_named(setup)
    curves = {}
    for seed in given.seeds.split(","):
        print(f"theirs: seed {seed}", flush=True)
        curves[seed] = curve(setup, given.dir, int(seed))
        record = {"side": "theirs", "trl": version("trl"), "curves": curves}
        (given.dir / "theirs.json").write_text(json.dumps(record, indent=2) + "\n")


def curve(setup: Row, directory: Path, seed: int) -> dict[str, list[float]]:
    """Train once. The rows that TRL logs are those of each step's fresh answers.

    Returns:
        mean reward and KL of each step.
    """
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    update, size = setup["update"], setup["prompts"]
    model = locate_model(setup).directory
    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left", trust_remote_code=False)
    base = AutoModelForCausalLM.from_pretrained(model, use_safetensors=True, trust_remote_code=False)
    policy = PeftModel.from_pretrained(base, directory / EXCHANGE / f"seed-{seed}", is_trainable=True)
    width = max(len(row["ids"]) for row in setup["train"])
    value = Value(policy, base.config.hidden_size)
    groups = [
        {"params": [p for p in policy.parameters() if p.requires_grad], "lr": update["learning_rate"]},
        {"params": list(value.score.parameters()), "lr": update["value_learning_rate"]},
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=update["weight_decay"])
    prompts = Dataset.from_list([{"input_ids": row["ids"]} for row in setup["train"]])
    with tempfile.TemporaryDirectory() as out:
        arguments = PPOConfig(
            output_dir=out,
            seed=seed,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=1,
            local_rollout_forward_batch_size=size,
            total_episodes=setup["steps"] * size,
            num_ppo_epochs=update["epochs"],
            num_mini_batches=update["minibatches"],
            response_length=setup["max_new_tokens"],
            temperature=setup["temperature"],
            stop_token="eos",
            kl_coef=update["kl_coefficient"],
            cliprange=update["clip"],
            cliprange_value=update["value_clip"],
            vf_coef=update["value_coefficient"],
            gamma=update["gamma"],
            lam=update["lam"],
            num_sample_generations=0,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            bf16=False,
            use_cpu=True,
            gradient_checkpointing=False,
            disable_tqdm=True,
        )
        trainer = PPOTrainer(
            args=arguments,
            processing_class=tokenizer,
            model=policy,
            ref_model=None,
            reward_model=Judge(setup, tokenizer, width),
            value_model=value,
            train_dataset=prompts,
            eval_dataset=prompts.select(range(size)),
            data_collator=lambda rows: {"input_ids": padded([row["input_ids"] for row in rows], width, setup["pad"])},
            optimizers=(optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, lambda _: 1.0)),
        )
        trainer.train()
    rows = [row for row in trainer.state.log_history if "objective/scores" in row]
    return {"reward": [row["objective/scores"] for row in rows], "kl": [row["objective/kl"] for row in rows]}


def padded(rows: Sequence[Sequence[int]], width: int, pad: int) -> Tensor:
    """Ids (B, width), padded on the left, so that all answers begin in one column."""
    return torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows])


if __name__ == "__main__":
    main()
