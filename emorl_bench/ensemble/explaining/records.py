"""Explained answers as plain records: token by token, and added up over many answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from emorl_bench.core.protocols import Sampler
from emorl_bench.core.types import Rollout
from emorl_bench.ensemble.explaining.shares import Shares, checked, shares_of
from emorl_bench.models.backbone import Backbone
from emorl_bench.policies.together import on_one_base

END = "[end]"
ROWS = 32  # answers that are read in one pass, so that a whole report split needs little memory


@dataclass(frozen=True)
class Token:
    """One decision. Lists have a number or text for each expert, in the order of the experts."""

    text: str
    """What the token adds to the answer."""
    margin: float
    shares: list[float]
    """They add up to the margin."""
    decided: list[float] | None
    """The decision, divided among the experts that were for it; None where none was."""
    runner_up: str
    logprobs: list[float]
    alone: list[str]
    """What each expert alone would have said next."""
    agrees: list[bool]
    """Whether that is this token."""
    pivotal: list[bool]
    """Whether the others alone would have said another token."""


@dataclass(frozen=True)
class Explained:
    """One answer."""

    prompt: str
    response: str
    tokens: list[Token]


@dataclass(frozen=True)
class Explanation:
    """Several answers of one blend, and what they add up to."""

    experts: list[str]
    weights: list[float]
    """The weights of the blend."""
    answers: list[Explained]

    def totals(self) -> dict[str, Any]:
        """How much of the answers each expert decided, by the mean over all tokens.

        ``decided``: the part of the decisions; its sum is 1. ``margin``: the part of the sum of all margins; its sum is
        1, and an expert that was mostly against has less than 0. ``pivotal``: the part of tokens that the others would
        not have said. ``agrees``: the part of tokens that the expert alone would have said.
        """
        tokens = [token for answer in self.answers for token in answer.tokens]
        decided = [token.decided for token in tokens if token.decided is not None]
        shares_NM = torch.tensor([token.shares for token in tokens], dtype=torch.float64)
        return {
            "tokens": len(tokens),
            "disputed": sum(not all(token.agrees) for token in tokens) / max(1, len(tokens)),
            "decided": _means(decided),
            "margin": (shares_NM.sum(0) / shares_NM.sum()).tolist(),
            "pivotal": _means([token.pivotal for token in tokens]),
            "agrees": _means([token.agrees for token in tokens]),
        }

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON, with the totals."""
        return {**asdict(self), "totals": self.totals()}


def explain(sampler: Sampler, rollout: Rollout) -> Explanation:
    """Explain all answers of a rollout that this sampler has given.

    Raises:
        UserError: it is no blend whose decisions are sums of its experts' (`shares.checked`).
    """
    blend = checked(sampler)
    decoder, _ = on_one_base(blend.experts)
    answers = []
    for first in range(0, len(rollout.examples), ROWS):
        part = rollout.rows(range(first, min(first + ROWS, len(rollout.examples))))
        shares = shares_of(blend, part)
        for b, (example, response) in enumerate(zip(part.examples, part.responses, strict=True)):
            answers.append(Explained(example.prompt, response, _tokens(decoder.backbone, part, shares, b)))
    weights = blend.weights_WM[0].double().tolist()
    return Explanation([expert.name for expert in blend.experts], weights, answers)


def _tokens(backbone: Backbone, rollout: Rollout, shares: Shares, b: int) -> list[Token]:
    ids = rollout.response_ids_BT[b][rollout.response_mask_BT[b]].tolist()
    tokens = []
    for t, token in enumerate(ids):
        words = _Words(backbone, ids[:t])
        decided, alone = shares.decided_BTM[b, t], shares.alone_BTM[b, t].tolist()
        tokens.append(
            Token(
                text=words.after(token),
                margin=shares.margin_BT[b, t].item(),
                shares=shares.shares_BTM[b, t].tolist(),
                decided=None if decided.isnan().any() else decided.tolist(),
                runner_up=words.after(int(shares.runner_up_BT[b, t])),
                logprobs=shares.logprobs_BTM[b, t].tolist(),
                alone=[words.after(said) for said in alone],
                agrees=[said == token for said in alone],
                pivotal=shares.pivotal_BTM[b, t].tolist(),
            )
        )
    return tokens


class _Words:
    """The texts of tokens after a prefix: what a token adds depends on what is before it."""

    def __init__(self, backbone: Backbone, prefix: Sequence[int]) -> None:
        self.backbone, self.prefix = backbone, list(prefix)
        self.before = self._text(self.prefix)

    def after(self, token: int) -> str:
        """What this token adds, with the space before it."""
        if bool(self.backbone.is_eos(torch.tensor(token))):
            return END
        whole = self._text([*self.prefix, token])
        added = whole.removeprefix(self.before) if whole.startswith(self.before) else ""
        return added or str(self.backbone.tokenizer.convert_ids_to_tokens(token))

    def _text(self, ids: list[int]) -> str:
        return str(self.backbone.tokenizer.decode(ids, skip_special_tokens=True))


def _means(rows: Sequence[Sequence[float]]) -> list[float] | None:
    return torch.tensor(rows, dtype=torch.float64).mean(0).tolist() if rows else None
