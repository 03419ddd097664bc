"""Answers of single policies and merges from an engine outside of this project, such as vLLM: what it must offer.

An engine has numerics of its own, so its log-probabilities are not those of the training pass. `Decoder.correction`
must be set where answers are learnt from (`rl.sampler_mismatch`). Blends are always decoded here: no engine mixes
hidden states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.types import Sampling
from emorl_bench.decoding.batch import Generated
from emorl_bench.models.backbone import Backbone
from emorl_bench.models.lora import Adapter, merge

SEEDS = 2**31 - 1  # seeds are below this number, so that any engine can hold them


@dataclass(frozen=True)
class Answer:
    """The token ids of one answer, its end token included, and their log-probabilities at the temperature, in nats.

    A greedy answer has none.
    """

    ids: Sequence[int]
    logprobs: Sequence[float] = ()


class RolloutEngine(Protocol):
    """Decodes with one adapter of the base model at a time."""

    name: str
    """The value of ``hardware.rollouts``, for messages."""

    def answers(
        self, prompts: Sequence[Sequence[int]], adapter: Adapter | None, sampling: Sampling, seeds: Sequence[int]
    ) -> list[Answer]:
        """One answer to each prompt.

        Args:
            prompts: token ids; a prompt is given once for each of its samples.
            adapter: as it is now; None is the base model.
            sampling: the largest number of tokens, and the temperature.
            seeds: one for each prompt. Equal seeds, prompts and adapters give equal answers.

        Raises:
            UserError: the engine cannot hold the adapter, or does not work.
        """


def chosen(adapters: Sequence[Adapter], weights_WM: Tensor | None, policy: int) -> Adapter | None:
    """The one adapter of a policy: its own, or the merge by its weights of those whose weight is not 0."""
    if weights_WM is None:
        return adapters[policy] if adapters else None
    taken = weights_WM[policy].nonzero().squeeze(1).tolist() or [0]
    return merge([adapters[m] for m in taken], weights_WM[policy, taken])


def answered(
    engine: RolloutEngine,
    backbone: Backbone,
    ledger: Ledger,
    adapters: Sequence[Adapter],
    weights_WM: Tensor | None,
    prompts: Sequence[Sequence[Sequence[int]]],
    sampling: Sampling,
    rngs: Sequence[torch.Generator],
) -> Generated:
    """The answers of W policies, one policy after the other; outputs are policy-major.

    The arguments are those of `decoding.decode.Decoder.decode_policies`, with the token ids of each policy's prompts.
    Seeds come from the generators: where there is one for all policies, all have the same seeds, as in every decode.

    Raises:
        UserError: what the engine raises, or it broke its contract.
    """
    g, found = sampling.samples_per_prompt, []
    drawn = [torch.randint(SEEDS, (len(prompts[0]) * g,), generator=rng).tolist() for rng in rngs]
    for policy, own in enumerate(prompts):
        seeds = drawn[policy if len(rngs) > 1 else 0]
        rows = [prompt for prompt in own for _ in range(g)]
        with ledger.metered("decode", countable=False) as call:
            answers = engine.answers(rows, chosen(adapters, weights_WM, policy), sampling, seeds)
            call.tokens = sum(len(answer.ids) for answer in answers)
            call.flops = multiplied(backbone) * float(call.tokens + sum(map(len, own)))
        _check(engine, backbone, answers, len(rows), sampling)
        costs = ledger.costs
        payer = costs[policy] if len(costs) == len(prompts) else costs[0]
        payer.decoded_tokens += call.tokens
        found += answers
    return _generated(found, backbone, sampling)


def multiplied(backbone: Backbone) -> int:
    """FLOPs of a forward pass for one token, by the matrix products alone: an engine's own cannot be counted."""
    layers = (m for m in backbone.model.modules() if isinstance(m, nn.Linear | Conv1D))
    return 2 * sum(layer.weight.numel() for layer in layers)


def _check(engine: RolloutEngine, backbone: Backbone, answers: Sequence[Answer], rows: int, sampling: Sampling) -> None:
    """Check that each answer is made of known tokens, and goes up to an end token or to the largest length."""
    where = f"hardware.rollouts={engine.name}"
    if len(answers) != rows:
        raise UserError(f"{where}: {len(answers)} answers came back for {rows} prompts; say hardware.rollouts=own")
    known = torch.ones(backbone.vocabulary, dtype=torch.bool)
    if backbone.without_token is not None:
        known = ~backbone.without_token.cpu()
    for answer in answers:
        ids = torch.tensor(answer.ids, dtype=torch.long)
        if len(ids) and not (ids.min() >= 0 and ids.max() < len(known) and known[ids].all()):
            raise UserError(f"{where}: an answer has an id that is no token of this model; say hardware.rollouts=own")
        ends = backbone.is_eos(ids)
        whole = len(ids) and (ends[-1] or len(ids) == sampling.max_new_tokens)
        if not whole or ends[:-1].any() or len(ids) > sampling.max_new_tokens:
            raise UserError(
                f"{where}: an answer of {len(ids)} tokens ends neither with an end token nor at "
                f"sampling.max_new_tokens={sampling.max_new_tokens}; say hardware.rollouts=own"
            )
        if sampling.temperature and len(answer.logprobs) != len(ids):
            raise UserError(f"{where}: an answer came back without its log-probabilities; say hardware.rollouts=own")


def _generated(answers: Sequence[Answer], backbone: Backbone, sampling: Sampling) -> Generated:
    generated = Generated.empty(len(answers), sampling, backbone)
    device = generated.ids.device
    for row, answer in enumerate(answers):
        end = len(answer.ids)
        generated.ids[row, :end] = torch.tensor(answer.ids, device=device)
        generated.mask[row, :end] = True
        if sampling.temperature:
            generated.logprobs[row, :end] = torch.tensor(answer.logprobs, device=device).to(generated.logprobs)
    return generated
