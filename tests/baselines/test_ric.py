"""Rewards in context: the likelihood, what is written and asked for, what is kept, training, resuming, bad input."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from conftest import WordShare, make_bank, shaken, tiny_model, word_prompts
from hydra.utils import instantiate
from omegaconf import OmegaConf
from support.chat import chat_tokenizer
from torch import Tensor
from torch.nn.functional import cross_entropy

from baselines.offline.dataset import Recorded
from baselines.ric.answers import Collected
from baselines.ric.prompting import (
    Wording,
    desired_shares,
    levels_of,
    near_front,
    shares_of,
)
from baselines.ric.rewards_in_context import Asked, RewardsInContext
from emorl_bench.config.compose import conf_dir
from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Budget, Example, Sampling
from emorl_bench.decoding.decode import Decoder
from emorl_bench.models.causal import CausalBackbone
from emorl_bench.models.lora import AdapterSettings
from emorl_bench.policies.adapter_policy import AdapterBank
from emorl_bench.rl.kl import kl_to_reference
from emorl_bench.rl.likelihood import Likelihood
from emorl_bench.rl.scst import Scst

NAN = math.nan
SAMPLED = Sampling(6, temperature=1.0, samples_per_prompt=4)
RULE = Likelihood(learning_rate=2e-2)
TAGS = {"even": ("w6", "w7", "w8"), "odd": ("w36", "w37", "w38")}
WORDING = Wording(tuple(TAGS.values()), "{prompt} {scores}.")
METHOD = RewardsInContext(TAGS, updates=1)


class Killed(BaseException):
    """Stands for kill -9."""


# the likelihood -----------------------------------------------------------------------------------
def test_the_loss_and_its_gradient_are_torch_s_cross_entropy(architecture: str, monkeypatch) -> None:
    policy = shaken(make_bank(architecture, dtype=torch.float64), 1)
    rollout = shaken(make_bank(architecture, dtype=torch.float64), 2).generate(word_prompts(2), SAMPLED, stream(0))
    learner = Likelihood(micro_batch=3).learner(policy, Ledger())
    kept: list[Tensor] = []
    monkeypatch.setattr(learner.optimiser, "step", lambda: kept.extend(p.grad for p in policy.parameters()) or 0.0)
    metrics = learner.step(rollout, torch.ones(8), stream(1))
    labels_BT = rollout.response_ids_BT.masked_fill(~rollout.response_mask_BT, -100)
    expected = cross_entropy(policy.logits(policy.hidden(rollout)).flatten(0, 1), labels_BT.flatten())
    assert metrics["loss"] == pytest.approx(expected.item(), rel=1e-6)
    for mine, theirs in zip(kept, torch.autograd.grad(expected, list(policy.parameters())), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-7)


def test_a_reward_weighs_its_row_and_nan_leaves_it_out() -> None:
    policy = shaken(make_bank("gpt2", dtype=torch.float64), 1)
    rollout = policy.generate(word_prompts(1), SAMPLED, stream(0))
    losses_B = -policy.logprobs(rollout).sum(1)
    metrics = Likelihood().learner(policy, Ledger()).step(rollout, torch.tensor([1.0, NAN, 0.5, 0.0]), stream(1))
    tokens = int(rollout.response_mask_BT[[0, 2, 3]].sum())
    assert metrics["loss"] == pytest.approx(((losses_B[0] + 0.5 * losses_B[2]) / tokens).item(), rel=1e-5)
    with pytest.raises(UserError, match="reward=linear"):
        Likelihood().learner(policy, Ledger()).step(rollout, torch.tensor([1.0, -0.1, 1.0, 1.0]), stream(1))


# words and levels ---------------------------------------------------------------------------------
def test_scores_are_told_by_hand() -> None:
    seen_NK = torch.tensor([[0.0, 0.5, NAN, 0.3], [1.0, 0.7, 2.0, 0.3], [0.2, NAN, 6.0, 0.3]])
    scores_BK = torch.tensor([[0.0, 0.5, 4.1, 0.3], [0.34, NAN, 2.0, NAN], [1.0, 0.7, 9.0, 0.3]])
    shares_BK = shares_of(scores_BK, seen_NK)
    torch.testing.assert_close(shares_BK[0], torch.tensor([0.0, 0.0, 0.525, 1.0]))
    levels = levels_of(shares_BK, 3).tolist()
    assert levels == [[0, 0, 1, 2], [1, -1, 0, -1], [2, 2, 2, 2]]
    four = Wording(tuple((f"{o} low", f"{o} mid", f"{o} top") for o in "abcd"), "{prompt} | {scores} |")
    shown = [four.shown(Example("0", "say {scores}"), row).context for row in levels]
    assert shown[:2] == ["say {scores} | a low, b low, c mid, d top |", "say {scores} | a mid, c low |"]


def test_what_preferences_ask_for_by_hand() -> None:
    for weights, linf, l2 in (
        ((1.0, 0.0, 0.0), (1, 0, 0), (1, 0, 0)),
        ((0.2, 0.3, 0.5), (0.6, 0.9, 1), (0.324443, 0.486664, 0.811107)),
        ((1 / 3,) * 3, (1, 1, 1), (0.57735,) * 3),
    ):
        preference_K = torch.tensor(weights, dtype=torch.float64)
        for mapping, expected in (("linf", linf), ("l2", l2)):
            found_K = desired_shares(preference_K, mapping)
            torch.testing.assert_close(found_K, torch.tensor(expected, dtype=torch.float64), atol=1e-5, rtol=0)
    assert desired_shares(torch.ones(1), "linf").tolist() == desired_shares(torch.ones(1), "l2").tolist() == [1.0]


def test_rejection_by_hand() -> None:
    """Five answers; the first three were asked for objective 0, the others for both."""
    scores_BK = torch.tensor([[0.9, 0.0], [0.4, 1.0], [NAN, 0.2], [0.1, 0.8], [0.8, 0.7]], dtype=torch.float64)
    asked_BK = torch.tensor([[1.0, 0.0]] * 3 + [[0.5, 0.5]] * 2, dtype=torch.float64)
    # Under (1, 0) they are worth .9 .4 - .1 .8, under (.5, .5) .45 .7 .2 .45 .75: the medians are .6 and .45.
    assert near_front(scores_BK, asked_BK, 0.5, "linear").tolist() == [True, False, False, True, True]
    assert near_front(scores_BK, asked_BK, 0.9, "linear").tolist() == [True, False, False, False, True]
    assert near_front(scores_BK, asked_BK, 0.0, "linear").tolist() == [True, True, False, True, True]


def test_a_long_prompt_loses_its_beginning_and_never_its_scores() -> None:
    long = Example("0", " ".join(f"w{4 + i % 30}" for i in range(200)))
    for architecture in ("t5", "gpt2"):
        backbone = make_bank(architecture).backbone
        ids = backbone.prompt_ids(WORDING.shown(long, [0, 2]).context)
        assert len(ids) <= 64
        assert backbone.tokenizer.decode(ids[-6:-1]).split() == ["w23", "w6", "<unk>", "w38", "<unk>"]


def test_a_chat_model_reads_them_in_the_user_s_turn() -> None:
    backbone = CausalBackbone(tiny_model("llama"), chat_tokenizer(), AdapterSettings(rank=2, alpha=4.0), 64)
    bank = AdapterBank(Decoder(backbone, Ledger()), seed=0)
    policy = shaken(bank, 1)
    asked = Asked(policy, WORDING, (2, 0))
    rollout = asked.generate([Example("0", "w4 w5")], SAMPLED, stream(0))
    assert {e.context for e in rollout.examples} == {"w4 w5"}
    turn = "w30 user w4 w5 w8, w36. w31 w30"
    assert backbone.prompt_ids("w4 w5 w8, w36.") == backbone.tokenizer(turn)["input_ids"]


# training -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("architecture", ["t5", "gpt2"])
def test_asking_for_more_gives_more_and_costs_what_the_budget_says(bench, architecture: str) -> None:
    """Random models can say little, but one word under two objectives of which one's gain is the other's loss."""
    few = {"train": word_prompts(6), "select": word_prompts(6), "sampling": Sampling(1, samples_per_prompt=16)}
    made = bench(architecture, update=Likelihood(learning_rate=1e-2), budget=Budget(samples=36 * 16), **few)
    method = RewardsInContext({"even": ("w6", "w8"), "odd": ("w36", "w38")}, template="{prompt} {scores}", updates=24)
    solution = method.fit(replace(made, training=replace(made.training, validate_every=100)))
    corners = [solution.policy_for(torch.tensor(w)) for w in ((1.0, 0.0), (0.0, 1.0))]
    even, odd = (made.score(c.generate(word_prompts(6), few["sampling"], stream(9))).mean(0) for c in corners)
    assert even[0] > odd[0] + 0.2
    assert odd[1] > even[1] + 0.2
    assert solution.policy_for(torch.tensor([0.5, 0.5])) not in corners
    assert solution.policy_for(torch.tensor([0.9, 0.1])) is corners[0], "equal words, one generator"
    cost = made.ledger.totals()
    assert (cost["data_points_train"], made.ledger.phases["train/ric"].samples) == (36, 36 * 16)
    assert cost["optimiser_steps"] == 24 * 6
    assert made.ledger.phases["train/ric"].scored_texts > 0
    assert made.ledger.phases["validate/ric"].prompts == 2 * 3 * (
        6 // 3
    )  # at first and at last; three preferences divide the split


def test_kl_is_to_the_base_on_the_plain_prompt() -> None:
    policy = shaken(make_bank("gpt2"), 1)
    asked = Asked(policy, WORDING, (2, 2))
    rollout = asked.generate(word_prompts(4), SAMPLED, stream(0))
    assert [e.shown for e in rollout.examples] == [None] * 16
    plain_BT = policy.reference().logprobs(rollout)
    told = replace(rollout, examples=tuple(WORDING.shown(e, (2, 2)) for e in rollout.examples))
    torch.testing.assert_close(policy.logprobs(told), rollout.logprobs_BT, atol=1e-4, rtol=0)
    expected = (rollout.logprobs_BT - plain_BT).sum(1).mean().item()
    assert kl_to_reference(rollout, policy.reference()) == pytest.approx(expected, abs=1e-4)


def test_both_stages_are_on_disk_in_a_form_that_others_read(bench) -> None:
    made = bench("t5", update=RULE, budget=Budget(samples=36 * 4))
    replace(METHOD, offline=0.5).fit(made)
    rows = [json.loads(line) for line in (made.dir / "answers.jsonl").read_text().splitlines()]
    assert len(rows) == 36 * 4
    assert [row["asked"] is None for row in rows] == [True] * 72 + [False] * 72
    assert all(row["kept"] for row in rows[:72])
    assert 0 < sum(row["kept"] for row in rows[72:]) < 72
    recorded = Recorded.read(made.dir / "answers.jsonl", made.objectives, made.train)
    assert sum(len(answers.responses) for answers in recorded.answers) == 144
    logged = [row for row in made.tracker.rows if "train/ric/loss" in row]
    assert ["train/ric/kept" in row for row in logged] == [False] * 3 + [True] * 3


@pytest.mark.parametrize("last", [2, 4])
def test_a_killed_run_goes_on_to_the_same_end(bench, monkeypatch, last: int) -> None:
    given = {"update": RULE, "budget": Budget(samples=30 * 4)}
    whole = bench("t5", **given)
    expected = replace(METHOD, updates=2).fit(whole).policy.adapter()
    lines = (whole.dir / "answers.jsonl").read_text()
    dir = whole.dir.with_name("killed")
    dir.mkdir()

    def dying(self: Collected, step: int, *rest: Tensor) -> None:
        collect(self, step, *rest)
        if step == last:
            with self.path.open("a") as file:
                file.write('{"step": 3, "torn')
            raise Killed

    collect = Collected.add
    monkeypatch.setattr(Collected, "add", dying)
    with pytest.raises(Killed):
        replace(METHOD, updates=2).fit(replace(bench("t5", **given), dir=dir))
    monkeypatch.setattr(Collected, "add", collect)
    with pytest.raises(UserError, match="never trained to its end"):
        METHOD.fit(replace(bench("t5", **given), dir=dir).with_runtime(frozen=True))
    resumed = replace(bench("t5", **given), dir=dir)
    found = replace(METHOD, updates=2).fit(resumed).policy.adapter()
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    assert (dir / "answers.jsonl").read_text() == lines
    assert resumed.ledger.totals()["data_points_train"] == whole.ledger.totals()["data_points_train"] == 30
    frozen = replace(bench("t5", **given), dir=dir).with_runtime(frozen=True)
    again = METHOD.fit(frozen).policy.adapter()
    assert all(torch.equal(again[key], value) for key, value in expected.items())


@dataclass(frozen=True)
class Sometimes(WordShare):
    """Applies to every other prompt."""

    def score(self, examples: Sequence[Example], responses: Sequence[str]) -> list[float | None]:
        scores = super().score(examples, responses).tolist()
        return [s if len(e.prompt.split()) % 2 else None for e, s in zip(examples, scores, strict=True)]


def test_what_does_not_apply_is_left_out_and_one_objective_is_enough(bench) -> None:
    for scorers in ([WordShare("even", 0), Sometimes("odd", 1)], [Sometimes("even", 0)]):
        made = bench("gpt2", update=RULE, budget=Budget(samples=24 * 4), scorers=scorers)
        METHOD.fit(made)
        rows = [json.loads(line) for line in (made.dir / "answers.jsonl").read_text().splitlines()]
        (made.dir / "answers.jsonl").unlink()
        shutil.rmtree(made.dir / "checkpoints" / "ric")
        unscored = [row for row in rows if row[scorers[-1].name] is None]
        assert unscored
        assert all(row["kept"] == (len(scorers) == 2) for row in unscored if row["asked"] is None)
        losses = [row["train/ric/loss"] for row in made.tracker.rows if "train/ric/loss" in row]
        assert losses
        assert all(map(math.isfinite, losses))


def test_it_converges_online_only(bench) -> None:
    made = bench("gpt2", update=Likelihood(learning_rate=0.0), budget=Budget(samples=96 * 4))
    made = replace(made, training=replace(made.training, validate_every=1, window=3, stop_when_converged=True))
    replace(METHOD, offline=0.375, updates=1).fit(made)
    rows = [json.loads(line) for line in (made.dir / "answers.jsonl").read_text().splitlines()]
    assert sorted({row["step"] for row in rows if row["asked"] is None}) == list(range(6))
    assert sorted({row["step"] for row in rows if row["asked"]}) == [6, 7], "three equal validations, from step 6 on"


# bad input ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"tags": {"even": ["w6"], "odd": ["w7"]}}, r"method\.tags, method\.levels: 1 words for a score"),
        ({"tags": {"even": ["w6", "w7"]}}, r"method\.tags, method\.levels: 2 and 5 words for a score"),
        ({"tags": TAGS | {"odd": ("w9", "low", "high")}}, r"method\.tags: .* reads 'low' and 'high' alike"),
        ({"tags": TAGS | {"odd": ("w9", "w10", "w7")}}, r"method\.tags: .* reads 'w7' and 'w7' alike"),
        ({"tags": {}}, r"method\.tags: .* reads 'even 1' and 'even 2' alike"),
        ({"template": "{scores} {prompt}"}, r"method\.template='\{scores\} \{prompt\}'"),
        ({"template": "w4 " * 80 + "{prompt} {scores}" + " w5" * 70}, r"model\.max_prompt_tokens"),
        ({"mapping": "linff"}, r"did you mean 'linf'"),
        ({"offline": 0.0}, r"method\.offline=0\.0"),
        ({"quantile": 1.0}, r"method\.quantile=1\.0"),
        ({"updates": 0}, r"method\.updates=0"),
    ],
)
def test_bad_settings_are_refused_in_one_line_before_anything_is_decoded(bench, changes, line: str) -> None:
    made = bench("t5", update=RULE)
    with pytest.raises(UserError, match=line) as refused:
        replace(METHOD, **changes).fit(made)
    assert "\n" not in str(refused.value)
    assert made.ledger.totals()["samples"] == 0


def test_another_rule_or_no_budget_is_refused(bench) -> None:
    for changes, line in (
        ({"update": Scst(kl_coefficient=0.0)}, "update=likelihood"),
        ({"budget": Budget()}, "budget: ric"),
    ):
        with pytest.raises(UserError, match=line):
            METHOD.fit(bench("t5", **{"update": RULE, **changes}))


def test_the_shipped_settings_can_be_read_by_the_embedded_models() -> None:
    from emorl_bench.assets.tokenizer import build_tokenizer

    config = OmegaConf.load(conf_dir() / "method" / "ric.yaml")
    method = instantiate({k: v for k, v in config.items() if k != "defaults"}, _convert_="object")
    tokenizer = build_tokenizer()
    tags = [method.tags[o] for o in ("reflection", "empathy", "fluency")]
    ids = {tuple(tokenizer(tag)["input_ids"]) for own in tags for tag in own}
    assert len(ids) == 15
    assert all(len(row) == 1 and tokenizer.unk_token_id not in row for row in ids)
