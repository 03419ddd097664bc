"""From generated tokens, maybe of several ranks, to a `Rollout`, and what it is charged."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from emorl_bench.core.ledger import Ledger
from emorl_bench.core.ranks import Ranks
from emorl_bench.core.types import Example, Rollout, Sampling
from emorl_bench.decoding.batch import Generated
from emorl_bench.models.backbone import Backbone


def gathered(generated: Generated, ranks: Ranks, backbone: Backbone) -> Generated:
    """The outputs of all ranks. Each output belongs to one rank, so their sum is exact; float64 holds every id."""
    if ranks.count == 1:
        return generated
    mine = torch.stack([generated.ids, generated.mask, generated.logprobs]).double()
    total = torch.where(generated.mask, mine, 0.0)
    ranks.sum_([total])
    ids, mask, logprobs = total[0].long(), total[1].bool(), total[2].to(generated.logprobs)
    return Generated(torch.where(mask, ids, backbone.pad), mask, torch.where(mask, logprobs, generated.logprobs))


def rollout_of(
    generated: Generated,
    backbone: Backbone,
    ledger: Ledger,
    examples: Sequence[Sequence[Example]],
    sampling: Sampling,
    passes: int,
) -> Rollout:
    """The rollout of W policies or weight vectors, charged to the open costs of the ledger.

    Args:
        generated: the tokens of W*P*G outputs.
        backbone: whose tokenizer reads them.
        ledger: where they are counted.
        examples: the prompts of each policy.
        sampling: how they were decoded.
        passes: forward passes for each token without any sharing: the number of experts of a blend, else 1.
    """
    g, width = sampling.samples_per_prompt, int(generated.mask.any(0).sum())
    rows = tuple(e for own in examples for e in own for _ in range(g))
    ids, mask, logprobs = (t[:, :width] for t in (generated.ids, generated.mask, generated.logprobs))
    texts = backbone.response_texts(ids, mask)
    _count(generated, ledger, examples, g, passes)
    return Rollout(rows, texts, ids, mask, logprobs, g, sampling.temperature or 1.0)


def _count(
    generated: Generated, ledger: Ledger, examples: Sequence[Sequence[Example]], samples: int, passes: int
) -> None:
    """Charge each learner for its own block if learners decode in one batch; otherwise the one open cost pays."""
    payers = ledger.costs
    tokens_W = generated.mask.view(len(examples), -1).sum(1).tolist()
    for w, own in enumerate(examples):
        cost = payers[w] if len(payers) == len(examples) else payers[0]
        cost.prompts += prompts_of(own)
        cost.samples += len(own) * samples
        cost.generated_tokens += tokens_W[w]
        cost.forward_passes += passes * tokens_W[w]


def prompts_of(examples: Sequence[Example]) -> int:
    """The number of distinct prompts (data points), however often each is shown."""
    return len({example.id for example in examples})
