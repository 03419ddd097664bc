"""The only decode loop in the project: single policies, merges, blends and rollouts use it, greedy and sampled.

A token is sampled by inverting the distribution function at a uniform number, which is drawn beforehand for each step,
prompt and sample. So the division into batches changes nothing. Weight vectors that are decoded together use the same
numbers for the same prompt (common random numbers), so their difference is not noise.

Outputs are weight-major: W blocks (weight vectors, or policies) of P prompts of G samples. Outputs with the same prefix
and the same adapters share a row (`prefix_tree`). A row leaves the batch when its outputs have ended. Several ranks
divide the starting rows among them, and afterwards each rank has all outputs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from emorl_bench.core.ledger import Ledger
from emorl_bench.core.memory import Memory
from emorl_bench.core.ranks import ALONE, Ranks
from emorl_bench.core.types import Correction, Example, Joint, Rollout, Sampling
from emorl_bench.decoding.batch import Batch, Generated, Plan, uniforms
from emorl_bench.decoding.bf16_argmax import Bf16Argmax
from emorl_bench.decoding.blend_cache import BlendCache
from emorl_bench.decoding.fused.engine import FusedModel
from emorl_bench.decoding.graphs import Record
from emorl_bench.decoding.mixing import Identity, Mixing
from emorl_bench.decoding.prefix_tree import PrefixTree
from emorl_bench.decoding.rollout_engine import RolloutEngine, answered
from emorl_bench.decoding.rollouts import gathered, prompts_of, rollout_of
from emorl_bench.decoding.room import starting_rows
from emorl_bench.decoding.sampling import sample_token
from emorl_bench.decoding.static_rows import STATIC_ROWS, decode_static
from emorl_bench.decoding.stepping import Start, Stepper, find_fused, stepping
from emorl_bench.models.backbone import Backbone
from emorl_bench.models.lora import Adapter, merge

READOUT_BYTES = 1 << 26  # logits computed at once: many rows for a fast product, few for a large vocabulary
READOUT_COPIES = 4  # tensors as large as the logits of one adapter that exist for each of them at one time


@dataclass
class Decoder:
    """Decodes with any adapters of one base model.

    ``max_rows`` bounds the rows of a batch. When a batch exhausts the memory, the bound is halved and stays halved.
    ``fused`` is the faster step for this architecture, found and tested when the decoder is made (`find_fused`). It is
    None where transformers' own modules are used. ``correction`` is for whoever learns from what is sampled. An
    ``engine`` decodes single policies and merges instead, and blends stay here. Ends of answers are looked for after
    every ``check_every`` tokens (`static_rows`), and ``record`` makes graphs of the steps between (`graphs`).
    ``joint`` is for whoever runs several policies.
    """

    backbone: Backbone
    ledger: Ledger
    max_rows: int = 4096
    blend_cache: BlendCache = field(default_factory=BlendCache)
    ranks: Ranks = ALONE
    memory: Memory = field(default_factory=Memory)
    correction: Correction | None = None
    engine: RolloutEngine | None = None
    check_every: int = 1
    record: Record | None = None
    joint: Joint = field(default_factory=Joint)
    fused: FusedModel | None = field(init=False)

    def __post_init__(self) -> None:
        """Find the fused step of the model, and test it."""
        self.fused = find_fused(self.backbone)

    @cached_property
    def bf16_argmax(self) -> Bf16Argmax | None:
        """Made when the first greedy token is wanted, because it takes half the memory of the head."""
        return Bf16Argmax.of(self.backbone.lm_head, self.backbone.without_token)

    def decode_policies(
        self,
        adapters: Sequence[Adapter],
        weights_WM: Tensor | None,
        examples: Sequence[Sequence[Example]],
        sampling: Sampling,
        rngs: Sequence[torch.Generator],
    ) -> Rollout:
        """Decode W policies in one batch.

        Args:
            adapters: M adapters. None at all is the base model.
            weights_WM: policy w is the merge of the adapters under row w. Without weights, policy w is adapter w.
            examples: the prompts of each policy; all policies have the same number of prompts.
            sampling: number of tokens, temperature and samples.
            rngs: one generator for each policy, or one for all.

        Returns:
            a rollout of W*P*G rows, policy-major.

        Raises:
            UserError: the method's budget does not pay for these prompts (`Ledger.ask`).
        """
        self._ask(examples)
        if self.engine is not None:
            given = (adapters, weights_WM, [self._ids(own) for own in examples], sampling, rngs)
            generated = answered(self.engine, self.backbone, self.ledger, *given)
            return rollout_of(generated, self.backbone, self.ledger, examples, sampling, passes=1)
        blocks, each = len(examples), len(examples[0])
        flat = [e for own in examples for e in own]
        mix_SM = None
        if blocks > 1:
            weights_WM = torch.eye(blocks) if weights_WM is None else weights_WM
            mix_SM = weights_WM.repeat_interleave(each, dim=0)
        elif weights_WM is not None:
            adapters = [merge(adapters, weights_WM[0])]
        drawn_TO = uniforms(sampling, each, blocks, rngs)
        batch = Batch.of_policies(self._ids(flat), mix_SM, sampling.samples_per_prompt, drawn_TO)
        generated = self._generate(Plan(adapters, Identity(), sampling), batch)
        return rollout_of(generated, self.backbone, self.ledger, examples, sampling, passes=1)

    def decode_blend(
        self,
        adapters: Sequence[Adapter],
        weights_WM: Tensor,
        mixing: Mixing,
        examples: Sequence[Example],
        sampling: Sampling,
        rng: torch.Generator,
    ) -> Rollout:
        """Decode blends: M adapters read the same prefix, and ``mixing`` combines their hidden states at each token.

        Returns:
            a rollout of W*P*G rows, one block for each of the W weight vectors (W, M).

        Raises:
            UserError: the method's budget does not pay for these prompts (`Ledger.ask`).
        """
        self._ask([examples] * len(weights_WM))
        blocks, g, shared = len(weights_WM), sampling.samples_per_prompt, mixing.inner_layer is None
        drawn_TO = uniforms(sampling, len(examples), blocks, [rng])
        batch = Batch.of_blends(self._ids(examples), weights_WM, g, drawn_TO, shared=shared)
        plan = Plan(adapters, mixing, sampling, self.blend_cache.of(adapters) if shared else None)
        recalls = shared and sampling.temperature == 0
        generated = self._recall(plan, batch) if recalls else self._generate(plan, batch)
        return rollout_of(generated, self.backbone, self.ledger, [examples] * blocks, sampling, passes=len(adapters))

    def _ask(self, examples: Sequence[Sequence[Example]]) -> None:
        """Check, before anything is decoded, that the method's budget pays for it."""
        self.ledger.ask(sum(map(prompts_of, examples)))

    def _ids(self, examples: Sequence[Example]) -> list[list[int]]:
        return [self.backbone.prompt_ids(e.context) for e in examples]

    def _recall(self, plan: Plan, batch: Batch) -> Generated:
        """Greedy blends: decode only the tokens that do not follow from earlier answers (`blend_cache`)."""
        assert plan.blend_cache is not None
        steps = plan.sampling.max_new_tokens
        generated = Generated.empty(len(batch.start_O), plan.sampling, self.backbone)
        known = [plan.blend_cache.answers(plan.mixing, steps, prompt) for prompt in batch.prompts]
        start_O, weights_OM = batch.start_O.tolist(), batch.weights_OM.double().numpy()
        missing, prefixes = [], []
        for output, (start, weights_M) in enumerate(zip(start_O, weights_OM, strict=True)):
            prefix, complete = known[start].recall(weights_M)
            if complete:
                generated.ids[output, : len(prefix)] = torch.tensor(prefix, device=generated.ids.device)
                generated.mask[output, : len(prefix)] = True
            else:
                missing.append(output)
                prefixes.append(torch.tensor(prefix, dtype=torch.long))
        if missing:
            rows = torch.tensor(missing)
            known_OT = pad_sequence(prefixes, batch_first=True, padding_value=-1)
            decoded = self._generate(plan, replace(batch.only(rows), known_OT=known_OT))
            generated.ids[rows], generated.mask[rows] = decoded.ids, decoded.mask
            for output, ids, mask in zip(missing, decoded.ids.cpu(), decoded.mask.cpu(), strict=True):
                known[start_O[output]].learn(weights_OM[output], tuple(ids[mask].tolist()))
        return generated

    def _generate(self, plan: Plan, batch: Batch) -> Generated:
        """Decode this rank's starting rows, in as many parts as the row limit and the memory require."""
        generated, fed = Generated.empty(len(batch.start_O), plan.sampling, self.backbone), 0
        mine = self.ranks.share(len(batch.prompts))
        low, end = mine.start, mine.start + (self.ranks.most(len(mine)) if self.ranks.in_step else len(mine))
        while low < end:
            by_modules = self.fused is None or plan.mixing.inner_layer is not None
            rows = starting_rows(self.backbone, plan, batch, self.max_rows, self.ranks, by_modules=by_modules)
            outputs = batch.of_rows(low, min(low + rows, mine.stop))
            try:
                fed += self._part(plan, outputs, batch.only(outputs), generated)
            except torch.OutOfMemoryError:
                if rows == 1 or self.ranks.in_step:  # no rank may repeat a part alone if ranks make steps together
                    raise
                rows = 0
            if rows == 0:  # not in the handler: its traceback keeps the failed pass in memory
                self._halve()
            low += rows
        fed, payers = sum(self.ranks.collect(fed)), self.ledger.costs
        for i, cost in enumerate(payers):  # learners that decode in one batch share the cost evenly
            cost.decoded_tokens += len(range(i, fed, len(payers)))
        return gathered(generated, self.ranks, self.backbone)

    def _halve(self) -> None:
        self.max_rows //= 2
        torch.cuda.empty_cache()
        said = f"decode: out of memory; continuing with at most {self.max_rows} rows at once"
        print(said, file=sys.stderr, flush=True)

    def _part(self, plan: Plan, mine_O: Tensor, part: Batch, generated: Generated) -> int:
        """Decode one part of the batch and write its outputs to the rows ``mine_O`` of ``generated``."""
        with self.ledger.metered("decode") as call, torch.inference_mode():
            placed, mine_O = part.to(self.backbone), mine_O.to(self.backbone.device)
            if self._holds_still(plan, part):
                call.tokens = decode_static(
                    self, plan, placed, generated, mine_O, None if call.counted else self.record
                )
            else:
                call.tokens = self._decode(plan, placed, generated, mine_O)
        return call.tokens

    def _holds_still(self, plan: Plan, part: Batch) -> bool:
        """Whether a part is decoded on static rows: where ends are checked seldom, and its rows are few enough."""
        fused = self.fused is not None and plan.mixing.inner_layer is None and not self.ranks.in_step
        rows = len(part.start_O) * (1 if part.mix_SM is not None else max(1, len(plan.adapters)))
        return self.check_every > 1 and fused and 0 < rows <= STATIC_ROWS

    def _decode(self, plan: Plan, part: Batch, generated: Generated, mine_O: Tensor) -> int:
        """The loop over tokens. Returns how many tokens were fed to the model; a shared row counts once."""
        steps, tree, fed = plan.sampling.max_new_tokens, PrefixTree(part.start_O, len(part.prompts)), len(part.prompts)
        block = self.memory.block_bytes
        start = Start(part.prompts, plan.adapters, part.mix_SM, steps, plan.averaging(part), block)
        with stepping(self.backbone, self.fused, start, plan.blend_cache) as stepper:
            hidden_NRH = stepper.first()
            for t in range(steps if len(mine_O) else 0):
                token_L, logp_L = self._next(plan, part, tree, hidden_NRH, t)
                going = mine_O[tree.output_L]
                generated.ids[going, t], generated.mask[going, t] = token_L, True
                generated.logprobs[going, t] = logp_L
                tokens_R, moves = tree.grow(token_L, self.backbone.is_eos(token_L), self.backbone.vocabulary)
                if not tree.rows or t + 1 == steps:
                    break
                if self.ranks.in_step:
                    self.ranks.most(tree.rows)  # ranks without rows then make another step too
                if moves is not None:
                    stepper.move(moves)
                hidden_NRH = stepper.step(tokens_R)
                fed += tree.rows
            if self.ranks.in_step:
                self._keep_pace(stepper, hidden_NRH.shape[1])
        return fed if len(mine_O) else 0

    def _keep_pace(self, stepper: Stepper, rows: int) -> None:
        """Feed padding until no rank has a row left: each step gathers weights from all ranks, so all must take it."""
        idle_R = torch.full((rows,), self.backbone.pad, device=self.backbone.device)
        while self.ranks.most(0):
            stepper.step(idle_R)

    def _next(self, plan: Plan, part: Batch, tree: PrefixTree, hidden_NRH: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """The next token (L,) of each output and its log-probability (L,).

        Tokens that are known beforehand (``known_OT``) need no logits. Other logits are computed in chunks of rows.
        """
        token_L = torch.full_like(tree.output_L, -1)
        if t < part.known_OT.shape[1]:
            token_L = part.known_OT[tree.output_L, t]
        logp_L = torch.full_like(token_L, torch.nan, dtype=torch.promote_types(self.backbone.dtype, torch.float32))
        open_L = (token_L < 0).nonzero().squeeze(1)
        for chunk in open_L.split(self.readout_rows(len(hidden_NRH))) if len(open_L) else ():
            rows, output = tree.row_L[chunk], tree.output_L[chunk]
            token_L[chunk], logp_L[chunk] = self.next_tokens(plan, part, hidden_NRH, rows, output, t)
        return token_L, logp_L

    def next_tokens(
        self, plan: Plan, part: Batch, hidden_NRH: Tensor, row_L: Tensor, output_L: Tensor, t: int
    ) -> tuple[Tensor, Tensor]:
        """Token ``t`` (L,) of some outputs and its log-probability (L,), from the hidden states of their rows."""
        weights_LM = part.weights_OM[output_L]
        chosen_L = self._bf16_greedy(plan, hidden_NRH, row_L, weights_LM)
        if chosen_L is not None:
            exact = torch.promote_types(self.backbone.dtype, torch.float32)
            return chosen_L, torch.full_like(chosen_L, torch.nan, dtype=exact)
        logits_LV = plan.mixing.logits(hidden_NRH, row_L, weights_LM, self.backbone.head)
        return sample_token(logits_LV, plan.sampling.temperature, part.uniforms_TO[t, output_L])

    def _bf16_greedy(self, plan: Plan, hidden_NRH: Tensor, row_L: Tensor, weights_LM: Tensor) -> Tensor | None:
        """(L,) greedy tokens without computing all logits in float32; None where that is impossible or slower."""
        if plan.sampling.temperature > 0 or self.bf16_argmax is None or not self.bf16_argmax.pays:
            return None
        states_LH = plan.mixing.states(hidden_NRH, row_L, weights_LM)
        return None if states_LH is None else self.bf16_argmax.argmax(states_LH)

    def readout_rows(self, adapters: int) -> int:
        """How many outputs' logits are computed at a time, each from the hidden states of so many adapters."""
        logits = torch.promote_types(self.backbone.dtype, torch.float32).itemsize * self.backbone.vocabulary
        fast = max(16, READOUT_BYTES // (4 * self.backbone.vocabulary))
        return max(1, min(fast, self.memory.block_bytes // (READOUT_COPIES * adapters * logits)))
