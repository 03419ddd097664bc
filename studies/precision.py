"""What bfloat16 changes: greedy answers, blends and merges against float32, sampler against training pass, the KL.

``python -m studies.precision --model DIRECTORY``: a decoder-only model whose weights are exact in bfloat16, with random
adapters. Greedy answers in bfloat16 are read again in float32: the regret of a token is the best logit less its own, in
standard deviations of the logits, so a rounding error is small and a wrong token is about 4. The KL to the base model
is read off the same sampled answers three times: as grading does (the sampler's log-probabilities of the policy, a
training pass for the base), with training passes for both, and in float32. SmolLM2-135M takes some minutes of one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from baselines.param_merge import Soup
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.protocols import Aggregator, Sampler
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Example, Rollout, Sampling
from emorl_bench.decoding.decode import Decoder
from emorl_bench.ensemble.blending import HiddenState
from emorl_bench.models.loading import ModelSource, load_backbone
from emorl_bench.models.lora import AdapterSettings, merge
from emorl_bench.policies.adapter_policy import AdapterBank, AdapterPolicy
from emorl_bench.rl.kl import sequence_kl

RANK, CPU = 8, torch.device("cpu")
STRENGTHS = (0.02, 0.1)  # norm of an adapter's update over the norm of the weight
WEIGHTS_WM = torch.tensor([[1 / 3, 1 / 3, 1 / 3], [0.6, 0.3, 0.1], [0.1, 0.2, 0.7]], dtype=torch.float64)
CLIP = 0.2
PROMPTS = [
    Example(str(i), text)
    for i, text in enumerate(
        (
            "I feel sad today because my dog died.",
            "What is the capital of France?",
            "Tell me a story about a bear.",
            "I want to quit smoking, but I keep failing.",
            "How do I boil an egg?",
            "My brother never listens to me.",
            "Why is the sky blue?",
            "Give me three reasons to walk more.",
        )
    )
]


def main() -> None:
    """Print one table for each strength of the adapters."""
    parser = argparse.ArgumentParser(prog="python -m studies.precision", description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=32)
    given = parser.parse_args()
    low, exact = (bank_of(given.model, dtype) for dtype in (torch.bfloat16, torch.float32))
    print("| adapters | answers | equal in float32 | mean regret | largest |\n|:--|:--|--:|--:|--:|")
    for strength in STRENGTHS:
        for line in greedy(low, exact, strength, given.tokens):
            print(line, flush=True)
    print("\n| adapter | mean, nats a token | largest | outside the clip range |\n|:--|--:|--:|--:|")
    for strength in (0.0, *STRENGTHS):
        print(mismatch(low, strength, given.tokens), flush=True)
    print("\n| adapter | KL as graded | less training passes | these less float32 | sampler to its training pass |")
    print("|:--|--:|--:|--:|--:|")
    for strength in (0.0, *STRENGTHS):
        print(divergence(low, exact, strength, given.tokens), flush=True)


def bank_of(model: Path, dtype: torch.dtype) -> AdapterBank:
    """Makes policies on the model in one precision."""
    backbone = load_backbone(ModelSource("causal", str(model)), AdapterSettings(rank=RANK), CPU, dtype)
    return AdapterBank(Decoder(backbone, Ledger(flops_every=0)), seed=0)


def trio(bank: AdapterBank, strength: float) -> list[AdapterPolicy]:
    """Three policies with random adapters, the same in every precision."""
    return [expert(bank, seed, strength) for seed in (1, 2, 3)]


@torch.no_grad()
def expert(bank: AdapterBank, seed: int, strength: float) -> AdapterPolicy:
    """A policy with a random adapter whose updates have a given size relative to the weights."""
    policy, rng, tensors = bank.new_policy(f"expert{seed}"), stream(seed, "expert"), dict[str, Tensor]()
    for name, layer in bank.backbone.layers.items():
        a_RI = torch.randn(RANK, layer.in_features, generator=rng)
        b_OR = torch.randn(layer.out_features, RANK, generator=rng)
        size = bank.backbone.settings.scale * ((b_OR.T @ b_OR) * (a_RI @ a_RI.T)).sum().sqrt()
        tensors[f"base_model.model.{name}.lora_A.weight"] = a_RI
        tensors[f"base_model.model.{name}.lora_B.weight"] = b_OR * strength * layer.weight.float().norm() / size
    policy.load_adapter(tensors)
    return policy


def greedy(low: AdapterBank, exact: AdapterBank, strength: float, tokens: int) -> list[str]:
    """Greedy answers in bfloat16 against float32: of one policy, of blends and of merges."""
    ours, theirs = trio(low, strength), trio(exact, strength)
    how: tuple[tuple[str, Aggregator], ...] = (("blends", HiddenState()), ("merges", Soup()))
    pairs = [("one policy", said(ours[0], tokens), said(theirs[0], tokens))]
    for name, aggregator in how:
        mine, wanted = (said(aggregator.blend(own, WEIGHTS_WM), tokens) for own in (ours, theirs))
        pairs.append((name, mine, wanted))
    lines = []
    for name, mine, wanted in pairs:
        equal = sum(a == b for a, b in zip(mine.responses, wanted.responses, strict=True)) / len(mine.responses)
        regret = regrets(name, mine, theirs)
        lines.append(f"| {strength:g} | {name} | {equal:.0%} | {regret.mean():.4f} | {regret.max():.2f} |")
    return lines


def said(sampler: Sampler, tokens: int) -> Rollout:
    """Greedy answers to all prompts."""
    return sampler.generate(PROMPTS, Sampling(tokens, 0.0), stream(0))


@torch.no_grad()
def regrets(name: str, rollout: Rollout, experts: Sequence[AdapterPolicy]) -> Tensor:
    """The regret in float32 of every token of an answer, given the tokens before it."""
    found, blocks = [], len(rollout.examples) // len(PROMPTS)
    for w in range(blocks):
        part = rollout.rows(range(w * len(PROMPTS), (w + 1) * len(PROMPTS)))
        hidden_BTH = hidden(name, part, experts, WEIGHTS_WM[w])
        logits_BTV = experts[0].logits(hidden_BTH)
        chosen_BT = logits_BTV.gather(-1, part.response_ids_BT[..., None]).squeeze(-1)
        found.append(((logits_BTV.amax(-1) - chosen_BT) / logits_BTV.std(-1))[part.response_mask_BT])
    return torch.cat(found)


def hidden(name: str, rollout: Rollout, experts: Sequence[AdapterPolicy], weights_M: Tensor) -> Tensor:
    """(B, T, H) hidden states in float32 of one policy, of a blend, or of a merge."""
    if name == "one policy":
        return experts[0].hidden(rollout)
    if name == "blends":
        states = [weight * policy.hidden(rollout) for weight, policy in zip(weights_M.tolist(), experts, strict=True)]
        return torch.stack(states).sum(0)
    merged = merge([policy.own for policy in experts if policy.own is not None], weights_M)
    return AdapterPolicy("merge", experts[0].decoder, merged).hidden(rollout)


@torch.no_grad()
def mismatch(bank: AdapterBank, strength: float, tokens: int) -> str:
    """Log-probabilities of the sampler against those of the training pass, of one policy in bfloat16."""
    policy = sampled(bank, strength)
    rollout = policy.generate(PROMPTS, Sampling(tokens, 1.0, 4), stream(0))
    gaps = (policy.logprobs(rollout) - rollout.logprobs_BT)[rollout.response_mask_BT]
    outside = ((gaps.exp() - 1).abs() > CLIP).float().mean()
    return f"| {strength:g} | {gaps.abs().mean():.3f} | {gaps.abs().max():.2f} | {outside:.1%} |"


def sampled(bank: AdapterBank, strength: float) -> AdapterPolicy:
    """The policy whose samples are read: a random adapter, or none."""
    return expert(bank, 1, strength) if strength else bank.new_policy("base").reference()


@torch.no_grad()
def divergence(low: AdapterBank, exact: AdapterBank, strength: float, tokens: int) -> str:
    """The KL to the base in nats an answer, differences between ways to read it, and the sampler's KL to its own pass.

    The last is the sum over tokens of ``r - 1 - log r`` with the ratio r of the two probabilities: its mean is the KL,
    and its noise is small where r is near 1.
    """
    policy = sampled(low, strength)
    rollout = policy.generate(PROMPTS, Sampling(tokens, 1.0, 4), stream(0))
    base_BT = policy.reference().logprobs(rollout)
    own, true = sampled(exact, strength), sampled(exact, 0.0)
    pairs = (
        (rollout.logprobs_BT, base_BT),
        (policy.logprobs(rollout), base_BT),
        (own.logprobs(rollout), true.logprobs(rollout)),
    )
    mask_BT = rollout.response_mask_BT
    graded_B, passes_B, exact_B = (sequence_kl(mine, base, mask_BT).double() for mine, base in pairs)
    gap_BT = (pairs[1][0] - rollout.logprobs_BT).double() * mask_BT
    gaps = (graded_B - passes_B, passes_B - exact_B, (gap_BT.exp() - 1 - gap_BT).sum(1))
    cells = [f"{gap.mean():.3f} ± {gap.std() / len(gap) ** 0.5:.3f}" for gap in gaps]
    return f"| {strength:g} | {graded_B.mean():.3f} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
