"""How many rows a decode may begin with: their keys and values are planned from their size, not found by trial.

In the fused step a row keeps the keys and values of its prompt once, and those of each output's tokens. transformers'
own cache has a copy of the prompt for every output, and all prompts are read in one pass. It is planned as if no two
outputs agreed; rows that are shared take less.
"""

from __future__ import annotations

from emorl_bench.core.memory import free_bytes
from emorl_bench.core.ranks import Ranks
from emorl_bench.decoding.batch import Batch, Plan
from emorl_bench.models.backbone import Backbone

SHARE = 1 / 2  # of the free memory, for keys and values; hidden states, logits and copies take the rest


def starting_rows(
    backbone: Backbone, plan: Plan, batch: Batch, max_rows: int, ranks: Ranks, *, by_modules: bool = False
) -> int:
    """How many starting rows to decode at once, at least one, so that ``max_rows`` holds and the cache fits.

    ``by_modules``: they are decoded by transformers' own modules and cache.
    """
    blocks = 1 if batch.mix_SM is not None else max(1, len(plan.adapters))
    rows, outputs = max(1, max_rows * len(batch.prompts) // (blocks * len(batch.start_O))), len(batch.start_O)
    if backbone.shape is None:
        return rows
    prompt, each = max(map(len, batch.prompts)), outputs / len(batch.prompts)
    if by_modules:
        kept = backbone.shape.copied(each * (prompt + plan.sampling.max_new_tokens))
        numbers = max(kept, backbone.shape.held(prompt) + backbone.shape.passing * prompt)
    else:
        numbers = backbone.shape.cache(prompt + each * plan.sampling.max_new_tokens)
    fit = max(1, int(SHARE * free_bytes(backbone.device) // (backbone.dtype.itemsize * blocks * numbers)))
    return min(rows, -ranks.most(-fit) if ranks.in_step else fit)
