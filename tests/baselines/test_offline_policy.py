"""Learning from answers that are not the policy's own: the base model's, and those of a file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import WordShare, word_prompts

from baselines.offline.dataset import Recorded
from baselines.offline.offline_policy import OfflinePolicy
from emorl_bench.core.errors import UserError
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Sampling
from emorl_bench.rl.agro import Agro
from emorl_bench.rl.likelihood import Likelihood

SAMPLED = Sampling(6, temperature=1.0, samples_per_prompt=4)
RULE = Agro(learning_rate=2e-2)


def written(path: Path, made: Any, prompts: int = 24, answers: int = 6) -> list[dict[str, Any]]:
    """A file of the base model's answers to training prompts, scored; returns its rows."""
    reference = made.new_policy("writer").reference()
    rollout = reference.generate(made.train[:prompts], Sampling(8, 1.0, answers), stream(5))
    scores_BK = [
        [WordShare("even", 0), WordShare("odd", 1)][k].score(rollout.examples, rollout.responses) for k in (0, 1)
    ]
    rows = [
        {"prompt": e.prompt, "response": r, "even": scores_BK[0][i].item(), "odd": scores_BK[1][i].item(), "split": "x"}
        for i, (e, r) in enumerate(zip(rollout.examples, rollout.responses, strict=True))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def test_a_policy_learns_from_a_file_without_generating_or_scoring(bench, tmp_path: Path) -> None:
    made = bench("gpt2", steps=30, update=RULE)
    written(tmp_path / "answers.jsonl", made)
    before = made.score(made.new_policy("p").generate(word_prompts(24), SAMPLED, stream(9))).mean(0)
    policy = OfflinePolicy(str(tmp_path / "answers.jsonl"), [1.0, 0.0]).fit(made).policy
    after = made.score(policy.generate(word_prompts(24), SAMPLED, stream(9))).mean(0)
    assert after[0] > before[0] + 0.1
    cost = made.ledger.phases["train/policy"]
    assert (cost.prompts, cost.samples, cost.generated_tokens, cost.scorer_calls) == (180, 720, 0, 0)
    assert json.loads((made.dir / "offline.json").read_text())["answers"] == 24 * 6
    (tmp_path / "answers.jsonl").open("a").write("\n{}")
    with pytest.raises(UserError):
        OfflinePolicy(str(tmp_path / "answers.jsonl"), [1.0, 0.0]).fit(bench("gpt2", steps=30, update=RULE))


def test_a_policy_learns_from_the_base_model_s_answers(bench) -> None:
    made = bench("gpt2", steps=30, update=RULE)
    before = made.score(made.new_policy("p").generate(word_prompts(24), SAMPLED, stream(9))).mean(0)
    policy = OfflinePolicy(None, [1.0, 0.0]).fit(made).policy
    after = made.score(policy.generate(word_prompts(24), SAMPLED, stream(9))).mean(0)
    assert after[0] > before[0] + 0.1
    assert made.ledger.phases["train/policy"].samples == 30 * 6 * 4
    rewards = [row["train/policy/reward"] for row in made.tracker.rows if "train/policy/reward" in row]
    assert max(rewards) - min(rewards) < 0.25, "the base model answers, and it does not learn"


def test_a_file_is_dealt_out_in_groups_and_short_ones_are_filled_without_a_score(bench, tmp_path: Path) -> None:
    made = bench("t5")
    written(tmp_path / "f.jsonl", made, prompts=2, answers=3)
    with (tmp_path / "f.jsonl").open("a") as file:
        file.write(json.dumps({"prompt": "w9 elsewhere", "response": "w4", "even": 1.0, "odd": None}) + "\n")
    recorded = Recorded.read(tmp_path / "f.jsonl", made.objectives, made.train)
    assert (len(recorded.answers), recorded.left_out) == (2, 1)
    rollout, scores_BK = recorded.deal(made.new_policy("p"), 6, Sampling(8, 1.0, 4), stream(0))
    assert (len(rollout.examples), rollout.group_size, rollout.response_ids_BT.shape[1] <= 8) == (8, 4, True)
    assert scores_BK.isnan().sum(0).tolist() == [2, 2]
    for group in (range(4), range(4, 8)):
        assert len({rollout.examples[i] for i in group}) == 1
        assert len({(rollout.responses[i], i) for i in group if not scores_BK[i, 0].isnan()}) == 3
    even = WordShare("even", 0).score(rollout.examples, rollout.responses)
    counted_B = ~scores_BK[:, 0].isnan()
    torch.testing.assert_close(scores_BK[counted_B, 0], even[counted_B])


def test_prompts_outside_the_train_split_are_learnt_from_only_on_request(bench, tmp_path: Path) -> None:
    made, path = bench("t5", update=RULE, steps=1), tmp_path / "samples.jsonl"
    rows = [{"prompt": "w9 w9 w8", "response": f"w{4 + i}", "even": (i + 1) % 2, "odd": i % 2} for i in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=r"none of its 4 lines.*method\.prompts=any"):
        OfflinePolicy(str(path)).fit(made)
    OfflinePolicy(str(path), prompts="any").fit(made)
    assert json.loads((made.dir / "offline.json").read_text())["prompts"] == 1


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 1: no JSON"),
        ('["w4"]', "prompt and response"),
        ('{"prompt": "w4", "response": "w5", "even": 1.0}', "no score 'odd'"),
        ('{"prompt": "w4", "response": "w5", "even": "high", "odd": 0}', "even='high' is no number"),
    ],
)
def test_a_line_that_is_not_understood_is_named(bench, tmp_path: Path, line: str, says: str) -> None:
    (tmp_path / "f.jsonl").write_text(line + "\n")
    with pytest.raises(UserError, match=says) as caught:
        OfflinePolicy(str(tmp_path / "f.jsonl")).fit(bench("t5", update=RULE))
    assert "\n" not in str(caught.value)


def test_a_file_needs_agro_and_must_exist(bench, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="update=agro"):
        OfflinePolicy(str(tmp_path / "f.jsonl")).fit(bench("t5"))
    with pytest.raises(UserError, match="cannot be read"):
        OfflinePolicy(str(tmp_path / "f.jsonl")).fit(bench("t5", update=RULE))


@pytest.mark.parametrize("rule", [RULE, Likelihood(learning_rate=2e-2)], ids=lambda rule: type(rule).__name__)
def test_a_rule_that_says_it_needs_no_behaviour_logprobs_reads_none(bench, rule) -> None:
    """What a file is refused or taken for: the update is the same to the bit where they are not known."""
    assert not rule.needs_behaviour_logprobs
    adapters = []
    for known in (True, False):
        made = bench("gpt2")
        policy = made.new_policy("p")
        start, rollout = policy.adapter(), policy.generate(word_prompts(4), SAMPLED, stream(0))
        if not known:
            unknown_BT = torch.full_like(rollout.logprobs_BT, torch.nan)
            rollout = replace(rollout, logprobs_BT=unknown_BT.masked_fill(~rollout.response_mask_BT, 0.0))
        rule.learner(policy, made.ledger).step(rollout, torch.rand(16, generator=stream(1)), stream(2))
        adapters.append(policy.adapter())
        assert any(not torch.equal(start[name], tensor) for name, tensor in adapters[-1].items())
    assert all(torch.equal(adapters[0][name], adapters[1][name]) for name in adapters[0])
