"""The only decode loop in the project: single policies, merges, blends and rollouts, greedy and sampled, all use it.

Sampling inverts the distribution function at a uniform number drawn beforehand for each (step, prompt, sample). So the
split into batches changes nothing, and weight vectors that are decoded together answer the same prompt with the same
random numbers (common random numbers: their difference is not noise).

Outputs are weight-major: W blocks (weight vectors, or policies) of P prompts of G samples. Outputs with the same prefix
and the same adapters share a row (`prefix_tree`), and rows that have ended leave the batch. Several ranks divide the
starting rows among them, and each ends with all outputs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from emorl_bench.core.ledger import Ledger
from emorl_bench.core.ranks import ALONE, Ranks
from emorl_bench.core.types import Example, Rollout, Sampling
from emorl_bench.models.backbone import Backbone
from emorl_bench.decoding.batch import Batch, Plan, Spoken, uniforms
from emorl_bench.models.lora import Adapter, merge
from emorl_bench.decoding.blend_cache import BlendMemory
from emorl_bench.decoding.mixing import Alone, InnerMixing, Mixing
from emorl_bench.decoding.sampling import pick
from emorl_bench.decoding.prefix_tree import PrefixTree
from emorl_bench.decoding.stepping import Start, Stepper, stepping

READOUT_BYTES = 1 << 26  # of logits at a time: rows enough for a fast product, and a bound for large vocabularies


@dataclass
class Decoder:
    """Decodes with any adapters of one base model; ``max_rows`` bounds the rows that may run at once.

    Where even so many rows exhaust the memory, the bound is halved and stays so.
    """

    backbone: Backbone
    ledger: Ledger
    max_rows: int = 4096
    memory: BlendMemory = field(default_factory=BlendMemory)
    ranks: Ranks = ALONE

    def apart(
        self,
        adapters: Sequence[Adapter],
        weights_WM: Tensor | None,
        examples: Sequence[Sequence[Example]],
        sampling: Sampling,
        rngs: Sequence[torch.Generator],
    ) -> Rollout:
        """W policies side by side, each with its own prompts, equally many.

        Policy w is the sum of the M adapters under ``weights_WM[w]``, or without weights adapter w itself (the base
        where there is none). ``rngs`` has one generator for each policy, or one for all.
        """
        self._ask(examples)
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
        return self._rollout(self._spoken(Plan(adapters, Alone(), sampling), batch), examples, sampling, passes=1)

    def blended(
        self,
        adapters: Sequence[Adapter],
        weights_WM: Tensor,
        mixing: Mixing,
        examples: Sequence[Example],
        sampling: Sampling,
        rng: torch.Generator,
    ) -> Rollout:
        """M adapters in lockstep on one prefix for each of W weight vectors, their hidden states mixed."""
        self._ask([examples] * len(weights_WM))
        blocks, g, shared = len(weights_WM), sampling.samples_per_prompt, not isinstance(mixing, InnerMixing)
        drawn_TO = uniforms(sampling, len(examples), blocks, [rng])
        batch = Batch.of_blends(self._ids(examples), weights_WM, g, drawn_TO, shared=shared)
        plan = Plan(adapters, mixing, sampling, self.memory.of(adapters) if shared else None)
        recalls = shared and sampling.temperature == 0
        spoken = self._recalled(plan, batch) if recalls else self._spoken(plan, batch)
        return self._rollout(spoken, [examples] * blocks, sampling, passes=len(adapters))

    def _ask(self, examples: Sequence[Sequence[Example]]) -> None:
        """Before anything is decoded: whether the method's budget pays for it."""
        self.ledger.ask(sum(map(prompts_of, examples)))

    def _ids(self, examples: Sequence[Example]) -> list[list[int]]:
        return [self.backbone.prompt_ids(e.context) for e in examples]

    def _recalled(self, plan: Plan, batch: Batch) -> Spoken:
        """Greedy blends: only what does not follow from answers that are known is decoded."""
        assert plan.memory is not None
        steps, spoken = plan.sampling.max_new_tokens, Spoken.nothing(len(batch.start_O), plan.sampling, self.backbone)
        known = [plan.memory.answers(plan.mixing, steps, prompt) for prompt in batch.prompts]
        start_O, weights_OM = batch.start_O.tolist(), batch.weights_OM.double().numpy()
        missing, prefixes = [], []
        for output, (start, weights_M) in enumerate(zip(start_O, weights_OM, strict=True)):
            prefix, whole = known[start].recall(weights_M)
            if whole:
                spoken.ids[output, : len(prefix)] = torch.tensor(prefix, device=spoken.ids.device)
                spoken.mask[output, : len(prefix)] = True
            else:
                missing.append(output)
                prefixes.append(torch.tensor(prefix, dtype=torch.long))
        if missing:
            rows = torch.tensor(missing)
            known_OT = pad_sequence(prefixes, batch_first=True, padding_value=-1)
            decoded = self._spoken(plan, replace(batch.only(rows), known_OT=known_OT))
            spoken.ids[rows], spoken.mask[rows] = decoded.ids, decoded.mask
            for output, ids, mask in zip(missing, decoded.ids.cpu(), decoded.mask.cpu(), strict=True):
                known[start_O[output]].learn(weights_OM[output], tuple(ids[mask].tolist()))
        return spoken

    def _spoken(self, plan: Plan, batch: Batch) -> Spoken:
        """Decode this rank's starting rows, in as many parts as the row limit and the memory ask for."""
        spoken, fed = Spoken.nothing(len(batch.start_O), plan.sampling, self.backbone), 0
        mine = self.ranks.share(len(batch.prompts))
        low, end = mine.start, mine.start + (self.ranks.most(len(mine)) if self.ranks.in_step else len(mine))
        while low < end:
            rows = self._starting_rows(plan, batch)
            outputs = batch.of_rows(low, min(low + rows, mine.stop))
            try:
                fed += self._part(plan, outputs, batch.only(outputs), spoken)
            except torch.OutOfMemoryError:
                if rows == 1 or self.ranks.in_step:  # ranks in step cannot repeat a part alone
                    raise
                rows = 0
            if rows == 0:  # out of the handler, whose traceback holds the failed pass in memory
                self._halve()
            low += rows
        fed, payers = sum(self.ranks.collect(fed)), self.ledger.costs
        for i, cost in enumerate(payers):  # learners side by side pay evenly
            cost.decoded_tokens += len(range(i, fed, len(payers)))
        return self._gathered(spoken)

    def _gathered(self, spoken: Spoken) -> Spoken:
        """All ranks' outputs. Each is one rank's, so a sum is exact; float64 holds ids and log-probabilities alike."""
        if self.ranks.count == 1:
            return spoken
        said = torch.where(spoken.mask, torch.stack([spoken.ids, spoken.mask, spoken.logprobs]).double(), 0.0)
        self.ranks.sum_([said])
        ids, mask, logprobs = said[0].long(), said[1].bool(), said[2].to(spoken.logprobs)
        return Spoken(torch.where(mask, ids, self.backbone.pad), mask, torch.where(mask, logprobs, spoken.logprobs))

    def _starting_rows(self, plan: Plan, batch: Batch) -> int:
        """So few that the rows stay within ``max_rows`` even where every output comes to need its own."""
        blocks = 1 if batch.mix_SM is not None else max(1, len(plan.adapters))
        return max(1, self.max_rows * len(batch.prompts) // (blocks * len(batch.start_O)))

    def _halve(self) -> None:
        self.max_rows //= 2
        torch.cuda.empty_cache()
        print(f"decode: out of memory; going on with at most {self.max_rows} rows at once", file=sys.stderr, flush=True)

    def _part(self, plan: Plan, mine_O: Tensor, part: Batch, spoken: Spoken) -> int:
        """Decode one part; its outputs are the rows ``mine_O`` of ``spoken``."""
        with self.ledger.metered("decode") as call, torch.inference_mode():
            call.tokens = self._decode(plan, part.to(self.backbone), spoken, mine_O.to(self.backbone.device))
        return call.tokens

    def _decode(self, plan: Plan, part: Batch, spoken: Spoken, mine_O: Tensor) -> int:
        """Returns the tokens that forward passes were spent on, those of shared rows once."""
        steps, tree, fed = plan.sampling.max_new_tokens, PrefixTree(part.start_O, len(part.prompts)), len(part.prompts)
        start = Start(part.prompts, plan.adapters, part.mix_SM, steps, plan.meeting(part))
        with stepping(self.backbone, start, plan.memory) as stepper:
            hidden_NRH = stepper.first()
            for t in range(steps if len(mine_O) else 0):
                token_L, logp_L = self._next(plan, part, tree, hidden_NRH, t)
                said = mine_O[tree.output_L]
                spoken.ids[said, t], spoken.mask[said, t], spoken.logprobs[said, t] = token_L, True, logp_L
                tokens_R, moves = tree.grow(token_L, self.backbone.ended(token_L), self.backbone.vocabulary)
                if not tree.rows or t + 1 == steps:
                    break
                if self.ranks.in_step:
                    self.ranks.most(tree.rows)  # so that whoever has ended goes on
                if moves is not None:
                    stepper.move(moves)
                hidden_NRH = stepper.step(tokens_R)
                fed += tree.rows
            if self.ranks.in_step:
                self._keep_pace(stepper, hidden_NRH.shape[1])
        return fed if len(mine_O) else 0

    def _keep_pace(self, stepper: Stepper, rows: int) -> None:
        """A step gathers weights from all ranks: go through the motions until none has a row left."""
        idle_R = torch.full((rows,), self.backbone.pad, device=self.backbone.device)
        while self.ranks.most(0):
            stepper.step(idle_R)

    def _next(self, plan: Plan, part: Batch, tree: PrefixTree, hidden_NRH: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Each output's next token and its log-probability, a bounded number of logits at a time."""
        said_L = torch.full_like(tree.output_L, -1)
        if t < part.known_OT.shape[1]:
            said_L = part.known_OT[tree.output_L, t]
        logp_L = torch.full_like(said_L, torch.nan, dtype=torch.promote_types(self.backbone.dtype, torch.float32))
        open_L = (said_L < 0).nonzero().squeeze(1)
        for chunk in open_L.split(self.readout_rows) if len(open_L) else ():
            rows, output = tree.row_L[chunk], tree.output_L[chunk]
            token_L = self._screened(plan, hidden_NRH, rows, part.weights_OM[output])
            if token_L is None:
                logits_LV = plan.mixing.logits(hidden_NRH, rows, part.weights_OM[output], self.backbone.head)
                temperature, uniforms_L = plan.sampling.temperature, part.uniforms_TO[t, output]
                token_L, logp_L[chunk] = pick(logits_LV, temperature, uniforms_L)
            said_L[chunk] = token_L
        return said_L, logp_L

    def _screened(self, plan: Plan, hidden_NRH: Tensor, row_L: Tensor, weights_LM: Tensor) -> Tensor | None:
        """(L,) greedy tokens without all logits, where that can be."""
        screen = self.backbone.screen
        if plan.sampling.temperature > 0 or screen is None or not screen.pays:
            return None
        states_LH = plan.mixing.states(hidden_NRH, row_L, weights_LM)
        return None if states_LH is None else screen.largest(states_LH)

    @property
    def readout_rows(self) -> int:
        return max(16, READOUT_BYTES // (4 * self.backbone.vocabulary))

    def _rollout(
        self, spoken: Spoken, examples: Sequence[Sequence[Example]], sampling: Sampling, passes: int
    ) -> Rollout:
        g, width = sampling.samples_per_prompt, int(spoken.mask.any(0).sum())
        rows = tuple(e for own in examples for e in own for _ in range(g))
        ids, mask, logprobs = (t[:, :width] for t in (spoken.ids, spoken.mask, spoken.logprobs))
        texts = self.backbone.response_texts(ids, mask)
        self._count(spoken, examples, g, passes)
        return Rollout(rows, texts, ids, mask, logprobs, g, sampling.temperature or 1.0)

    def _count(self, spoken: Spoken, examples: Sequence[Sequence[Example]], samples: int, passes: int) -> None:
        """To the learners that decode side by side, each its own; otherwise all to whoever pays now.

        ``passes``: of the model for one token of one output.
        """
        payers = self.ledger.costs
        tokens_W = spoken.mask.view(len(examples), -1).sum(1).tolist()
        for w, own in enumerate(examples):
            cost = payers[w] if len(payers) == len(examples) else payers[0]
            cost.prompts += prompts_of(own)
            cost.samples += len(own) * samples
            cost.generated_tokens += tokens_W[w]
            cost.forward_passes += passes * tokens_W[w]


def prompts_of(examples: Sequence[Example]) -> int:
    """Data points: distinct prompts, however often each is shown."""
    return len({example.id for example in examples})
