"""The score of a ready-made reward model or classifier: any sequence classification checkpoint.

Where its tokenizer has a chat template, prompt and response are a user's and an assistant's turn; else they are a pair
of segments. ``transform`` maps the model's output to [0, 1]. An empty response scores 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from emorl_bench.core.errors import UserError, did_you_mean
from emorl_bench.core.patience import at_most
from emorl_bench.core.types import Example
from emorl_bench.scorers.checkpoints import Judge, Loaded

PATIENCE = 60.0  # seconds for a batch of chats in the model's template, which takes milliseconds for each
TRANSFORMS = ("sigmoid", "minmax", "softmax")


@dataclass(frozen=True, kw_only=True)
class RewardModel(Judge):
    """A classifier as a scorer.

    ``transform`` is ``sigmoid`` of the only output; ``minmax`` of it between ``low`` and ``high``, clipped; or
    ``softmax``, the probability of the output number ``label``. ``system`` is the chat template's system turn. In a
    text of more than ``max_tokens`` the beginning of the prompt is cut, then the end.
    """

    transform: str = "sigmoid"
    low: float | None = None
    high: float | None = None
    label: int | None = None
    system: str | None = None
    max_tokens: int = 1024
    name: str = "reward_model"
    kind = "classifier"

    def score(self, examples: Sequence[Example], responses: Sequence[str]) -> Tensor:
        """(B,) in [0, 1].

        Raises:
            UserError: settings do not fit one another or the model, or the model cannot be loaded.
        """
        self._check()
        loaded = self.loaded()
        outputs = int(loaded.model.config.num_labels)
        if self.transform == "softmax" and not 0 <= (self.label or 0) < outputs:
            raise UserError(f"scorer {self.name}: label={self.label}: this model has the labels 0 to {outputs - 1}")
        if self.transform != "softmax" and outputs != 1:
            raise UserError(
                f"scorer {self.name}: transform={self.transform}: this model has {outputs} outputs, not one; "
                "say transform=softmax and label=NUMBER"
            )
        rows, types = self._rows(loaded, [e.prompt for e in examples], responses)

        def judge(indices: list[int], width: int) -> Tensor:
            inputs = loaded.padded([rows[i] for i in indices], width)
            if types is not None:
                inputs["token_type_ids"] = loaded.filled([types[i] for i in indices], 0, width)
            return self._transformed(loaded.model(**inputs).logits.double())

        said_B = torch.tensor([bool(r.strip()) for r in responses], dtype=torch.bool)
        return torch.where(said_B, self.in_batches(rows, judge), 0.0)

    def prepare(self) -> None:
        """See `Judge.prepare`."""
        self._check()
        super().prepare()

    def _check(self) -> None:
        if self.transform not in TRANSFORMS:
            hint = did_you_mean(self.transform, TRANSFORMS)
            raise UserError(f"scorer {self.name}: transform={self.transform}: unknown{hint}")
        if self.transform == "softmax" and self.label is None:
            raise UserError(f"scorer {self.name}: transform=softmax needs label=NUMBER, the output that counts")
        if self.transform == "minmax" and (self.low is None or self.high is None or self.low >= self.high):
            raise UserError(
                f"scorer {self.name}: transform=minmax with low={self.low} and high={self.high}: "
                "give the outputs that become 0 and 1, low below high"
            )

    def _transformed(self, logits_BL: Tensor) -> Tensor:
        if self.transform == "softmax":
            return logits_BL.softmax(-1)[:, self.label or 0]
        if self.transform == "sigmoid":
            return logits_BL[:, 0].sigmoid()
        low, high = self.low or 0.0, self.high or 0.0
        return ((logits_BL[:, 0] - low) / (high - low)).clamp(0.0, 1.0)

    def _rows(
        self, loaded: Loaded, prompts: Sequence[str], responses: Sequence[str]
    ) -> tuple[list[list[int]], list[list[int]] | None]:
        """Token ids and, for pairs of segments, token types. Of a long text the prompt is cut first."""
        most = min(self.max_tokens, loaded.context)
        encoded = self._encoded(loaded, prompts, responses)
        long = [len(row) > most for row in encoded["input_ids"]]
        if any(long):
            kept = [
                _cut(loaded, prompt, len(row) - most) if too_long else prompt
                for prompt, row, too_long in zip(prompts, encoded["input_ids"], long, strict=True)
            ]
            encoded = self._encoded(loaded, kept, responses)
        cut = {key: [row[:most] for row in rows] for key, rows in encoded.items()}
        return cut["input_ids"], cut.get("token_type_ids")

    def _encoded(self, loaded: Loaded, prompts: Sequence[str], responses: Sequence[str]) -> dict[str, list[list[int]]]:
        if loaded.tokenizer.chat_template is None:
            return dict(loaded.tokenizer(list(prompts), list(responses), verbose=False))
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        chats = [
            [*system, {"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
            for prompt, response in zip(prompts, responses, strict=True)
        ]
        with at_most(PATIENCE, f"scorer {self.name}: the chat template of {self.model}"):
            texts = loaded.tokenizer.apply_chat_template(chats, tokenize=False)
        return {"input_ids": loaded.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]}


def _cut(loaded: Loaded, prompt: str, tokens: int) -> str:
    """A prompt without its first tokens. Text that decodes differently at the cut costs a few tokens more."""
    ids = loaded.tokenizer(prompt, add_special_tokens=False, verbose=False)["input_ids"]
    return str(loaded.tokenizer.decode(ids[tokens:], skip_special_tokens=True))
