"""What `test_distributed` runs in every process of a group: it tries the exchanges and writes what this rank saw."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from conftest import make_bank, shaken, word_prompts
from safetensors.torch import save_file
from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.ranks import Ranks
from emorl_bench.core.types import Example, Rollout, Sampling
from emorl_bench.decoding.decode import Decoder
from emorl_bench.ensemble.blending import HiddenState
from emorl_bench.models.sharding import shard
from emorl_bench.policies.adapter_policy import AdapterBank
from emorl_bench.rl.kl import kl_to_reference
from emorl_bench.rl.ppo import Ppo
from emorl_bench.rl.scst import Scst
from emorl_bench.runner.directory import RunDirectory
from emorl_bench.runner.process_group import process_group
from emorl_bench.scorers.panel import ScorerPanel

TEXTS = 7
RULES = {"scst": Scst(kl_coefficient=0.1), "ppo": Ppo(epochs=1, minibatches=2)}


@dataclass
class Lengths:
    """A scorer that counts letters and remembers how many texts this process was asked about."""

    name: str = "lengths"
    bounds: tuple[float, float] = (0.0, 1.0)
    asked: int = 0
    bad: str = "none"  # the response that it has no score for

    def score(self, examples: Sequence[Example], responses: Sequence[str]) -> Tensor:
        self.asked += len(responses)
        return torch.tensor([float("nan") if r == self.bad else len(r) / 100 for r in responses])


def rollout() -> Rollout:
    examples = tuple(Example(str(i), f"prompt {i}") for i in range(TEXTS))
    responses = tuple("x" * i for i in range(TEXTS))
    ids = torch.zeros(TEXTS, 1, dtype=torch.int64)
    return Rollout(examples, responses, ids, ids.bool(), ids.float(), 1)


def error_of(act: Callable[[], Any]) -> str | None:
    try:
        act()
    except UserError as error:
        return str(error)
    return None


def exchanges(ranks: Ranks) -> dict[str, Any]:
    me = ranks.index
    uneven = torch.arange(6).view(3, 2)[: 2 * me] + 10 * me  # rank 0 has no rows at all
    sums = [torch.full((2, 2), me + 1.0), torch.tensor([0.1 * (me + 1)])]
    ranks.sum_(sums)

    def fail_here(where: int) -> None:
        if me == where:
            raise UserError(f"only rank {where} knows")

    return {
        "index": me,
        "count": ranks.count,
        "share": list(ranks.share(5)),
        "gathered": ranks.gather(uneven).tolist(),
        "flags": ranks.gather(torch.tensor([me == 1])).tolist(),
        "sums": [tensor.tolist() for tensor in sums],
        "agreed": ranks.agree({"from": me}),
        "collected": ranks.collect(f"rank {me}"),
        "most": ranks.most(10 - me),
        "once": ranks.once(lambda: f"done by {me}"),
        "once_error": error_of(lambda: ranks.once(lambda: fail_here(0))),
        "together": ranks.together(lambda: f"done by {me}"),
        "together_error": error_of(lambda: ranks.together(lambda: fail_here(1))),
    }


def scoring(ranks: Ranks) -> dict[str, Any]:
    scorer, ledger = Lengths(), Ledger()
    scores = ScorerPanel([scorer], ledger, ranks).score(rollout())
    bad = ScorerPanel([Lengths(bad="x" * (TEXTS - 1))], ledger, ranks)
    return {
        "scores": scores.flatten().tolist(),
        "asked": scorer.asked,
        "scored_texts": ledger.current.scored_texts,
        "scorer_calls": ledger.current.scorer_calls,
        "bad": error_of(lambda: bad.score(rollout())),
    }


def directories(ranks: Ranks, place: Path) -> dict[str, Any]:
    config = {
        "names": {"task": "t", "model": "m", "method": "me"},
        "hardware": {"threads": 1, "device": "cpu"},
        "runs_dir": str(place),
        "seed": 0,
        "force": False,
    }
    with RunDirectory(config, "f", ranks=ranks) as directory:
        seen: dict[str, Any] = {"first": [directory.done, directory.resumed]}
        seen["busy"] = error_of(lambda: RunDirectory(config, "f", ranks=ranks).__enter__())
        directory.write_json("summary.json", {"written_by": ranks.index})
        directory.finish()
    with RunDirectory(config, "f", ranks=ranks) as directory:
        seen["second"] = [directory.done, directory.resumed]
    return seen | {"path": str(directory.path)}


def learning(ranks: Ranks, architecture: str) -> dict[str, Tensor]:
    """Everything that decoding and one update give: tokens, metrics, the optimiser's state (so the gradient), adapters.

    In float64, where no rounding hides a mistake; adapters are float32 all the same.
    """
    bank = make_bank(architecture, dtype=torch.float64)
    bank.decoder.ranks = ranks
    if ranks.in_step:
        bank.backbone.checkpoint_gradients()  # the backward pass runs blocks, and so gathers weights, again
        shard(bank.backbone, torch.device("cpu"))
        bank = AdapterBank(Decoder(bank.backbone, bank.decoder.ledger, ranks=ranks), bank.seed)
    prompts, sampling = word_prompts(5), Sampling(6, samples_per_prompt=4)  # 2 prompts for one rank, 3 for the other
    found: dict[str, Tensor] = {}
    for name, rule in RULES.items():
        policy, rng = shaken(bank, 1), torch.Generator().manual_seed(0)
        rollout = policy.generate(prompts, sampling, rng)
        learner = rule.learner(policy, bank.decoder.ledger)
        metrics = learner.step(rollout, torch.rand(20, generator=rng), rng)
        found |= {f"{name}/ids": rollout.response_ids_BT, f"{name}/logprobs": rollout.logprobs_BT}
        found |= {f"{name}/metric/{key}": torch.tensor(value) for key, value in metrics.items()}
        found |= {f"{name}/state/{key}": value for key, value in learner.state_dict().items()}
        found |= {f"{name}/adapter/{key}": value for key, value in policy.adapter().items()}
        found[f"{name}/kl"] = torch.tensor(kl_to_reference(rollout, policy.reference(), rows=8))
    weights_WM = torch.tensor([[0.2, 0.8], [0.7, 0.3], [0.5, 0.5]], dtype=torch.float64)
    blend = HiddenState().blend([shaken(bank, 1), shaken(bank, 2)], weights_WM)
    for temperature in (0.0, 1.0):
        said = blend.generate(prompts, Sampling(6, temperature), torch.Generator().manual_seed(0))
        found[f"blend/{temperature}/ids"] = said.response_ids_BT
    counters = bank.decoder.ledger.current
    found["counters"] = torch.tensor([counters.samples, counters.generated_tokens, counters.trained_tokens])
    return found


def main(place: Path) -> None:
    with process_group("cpu") as ranks:
        seen = {"exchanges": exchanges(ranks), "scoring": scoring(ranks), "directories": directories(ranks, place)}
        for in_step in (False, True):
            for architecture in ("t5", "llama"):
                found = learning(replace(ranks, in_step=in_step), architecture)
                ready = {key: value.contiguous() for key, value in found.items()}
                save_file(ready, place / f"{architecture}-{in_step}-rank{ranks.index}.safetensors")
    (place / f"rank{os.environ['RANK']}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
