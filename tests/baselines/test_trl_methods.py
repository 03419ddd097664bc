"""TRL's trainers against our own rules: the same advantages, the same step, the same rise; and their place in a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_bank, make_bench, shaken
from torch import Tensor

from baselines.trl.settings import TrainerName, trl_settings
from baselines.trl.training import TrlLearner
from baselines.trl.trl_policy import TrlPolicy
from baselines.weighted_policy import WeightedPolicy
from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Bench, UpdateRule
from emorl_bench.core.ranks import Ranks
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Rollout, Sampling
from emorl_bench.rl.advantages import scaled_advantages
from emorl_bench.rl.grpo import Grpo
from emorl_bench.rl.loop import prompts
from emorl_bench.rl.rloo import Rloo
from emorl_bench.rl.weighting import FixedWeights

pytest.importorskip("trl")

RULES: dict[TrainerName, Any] = {
    "grpo": Grpo(learning_rate=2e-2, kl_coefficient=0.0, epochs=1),
    "gdpo": Grpo(learning_rate=2e-2, normalise="each", scale="batch", kl_coefficient=0.0, epochs=1),
    "rloo": Rloo(learning_rate=2e-2, kl_coefficient=0.0),
}
WEIGHTS = FixedWeights((0.7, 0.3))


def bench_at(place: Path, **changes: Any) -> Bench:
    place.mkdir(exist_ok=True)
    made = make_bench(place, "gpt2", **changes)
    made.ledger.flops_every = 0  # counting them is slow
    return made


def learner_on(made: Bench, name: TrainerName, weights: FixedWeights = WEIGHTS) -> TrlLearner:
    rows = len(prompts(made, 0)) * made.sampling.samples_per_prompt
    return TrlLearner(made, made.new_policy("policy"), weights, name, trl_settings(name, made.update, rows))


def our_advantages(rule: UpdateRule, scores_BK: Tensor, size: int) -> Tensor:
    """Ours, by the way a training takes."""
    learner = rule.learner(make_bank("gpt2").new_policy("p"), None)
    told_B = learner.rewards(scores_BK, WEIGHTS, size)
    return rule.advantages(told_B, size) if isinstance(rule, Rloo) else scaled_advantages(told_B, size, rule.scale)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        *RULES.items(),
        ("grpo", Grpo(scale="batch", kl_coefficient=0.0, epochs=1)),
        ("grpo", Grpo(scale="none", kl_coefficient=0.0, epochs=1)),
    ],
    ids=["grpo", "gdpo", "rloo", "batch", "unscaled"],
)
def test_trl_s_trainer_computes_our_advantages(tmp_path: Path, name: TrainerName, rule: Any) -> None:
    """What its step has computed from what it was told: groups that an objective, or all, cannot tell apart, and
    answers without a score.
    """
    made = bench_at(tmp_path, update=replace(rule, learning_rate=0.0))
    given_BK = torch.rand(24, 2, generator=stream(0))
    given_BK[4:8, 1] = 0.25
    given_BK[8:12] = given_BK[8:9].clone()
    given_BK[[0, 13, 14, 15]] = math.nan
    learner = learner_on(replace(made, score=lambda rollout: given_BK), name)
    learner.step(0)
    assert torch.equal(learner.scorers.told[1].nan_to_num(-1), given_BK.nan_to_num(-1))
    found_B = torch.tensor(list(learner.trainer._logs["advantages"]))
    expected_B = our_advantages(rule, given_BK, 4)
    assert expected_B.abs().max() > 0.1
    torch.testing.assert_close(found_B, expected_B, atol=2e-5, rtol=1e-4)


def test_an_objective_that_does_not_apply_counts_0_with_trl(tmp_path: Path) -> None:
    made = bench_at(tmp_path, update=Rloo(learning_rate=0.0, kl_coefficient=0.0))
    given_BK = torch.rand(24, 2, generator=stream(0))
    given_BK[2, 1] = math.nan
    learner = learner_on(replace(made, score=lambda rollout: given_BK), "rloo")
    learner.step(0)
    found_B = torch.tensor(list(learner.trainer._logs["advantages"]))
    torch.testing.assert_close(
        found_B, our_advantages(Rloo(kl_coefficient=0.0), given_BK.nan_to_num(0.0), 4), atol=1e-6, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("architecture", "name", "rule"),
    [
        ("gpt2", "grpo", Grpo(epochs=2, kl_coefficient=0.3, micro_batch=6)),
        (
            "llama",
            "gdpo",
            Grpo(
                normalise="each", scale="batch", average="token", epochs=2, clip=0.05, clip_norm=0.2, kl_coefficient=0.0
            ),
        ),
        ("gpt2", "rloo", Rloo(kl_coefficient=0.3)),
        ("llama", "rloo", Rloo(weight_decay=0.1, kl_coefficient=0.0)),
    ],
    ids=["grpo", "gdpo", "rloo", "decay"],
)
def test_a_step_of_trl_s_is_a_step_of_ours(tmp_path: Path, architecture: str, name: TrainerName, rule: Any) -> None:
    """On the answers that TRL has sampled, at a temperature, the two leave the same adapter, after every epoch."""
    bank = make_bank(architecture, dtype=torch.float64)
    rule = replace(rule, learning_rate=1e-2)
    sampling = Sampling(6, temperature=0.8, samples_per_prompt=4)
    made = make_bench(tmp_path, architecture, update=rule, new_policy=bank.new_policy, sampling=sampling)
    made.ledger.flops_every = 0
    learner, mine = learner_on(made, name), shaken(bank, 1)
    before = mine.adapter()
    learner.policy.load_adapter(before)
    metrics = learner.step(0)
    rollout, scores_BK = learner.scorers.told
    assert len({e.context for e in rollout.examples}) == 6
    assert len({len(e.context) for e in rollout.examples}) > 1  # so that some are padded
    rollout = replace(rollout, logprobs_BT=mine.logprobs(rollout).detach())
    own = rule.learner(mine, made.ledger)
    told_B = own.rewards(scores_BK, WEIGHTS, 4)
    ours = own.step(rollout, told_B, stream(0))
    assert metrics["grad_norm"] == pytest.approx(ours["grad_norm"], rel=1e-4)
    for key, value in mine.adapter().items():
        moved = (value - before[key]).abs().max()
        assert moved > 1e-3
        torch.testing.assert_close(learner.policy.adapter()[key], value, atol=1e-3 * float(moved), rtol=0)


@pytest.mark.parametrize("name", RULES)
def test_trl_s_training_rises_as_ours_does(tmp_path: Path, name: TrainerName) -> None:
    rises = []
    for method in (TrlPolicy(name, [1.0, 0.0]), WeightedPolicy([1.0, 0.0])):
        made = bench_at(tmp_path / type(method).__name__, steps=12, update=RULES[name])
        policy = method.fit(made).policy_for(torch.tensor([1.0, 0.0]))
        rewards = [row["train/policy/reward"] for row in made.tracker.rows if "train/policy/reward" in row]
        assert len(rewards) == 12
        rises.append(sum(rewards[-4:]) / 4 - rewards[0])
        assert made.score(policy.generate(made.select, Sampling(8, 0.0), stream(0)))[:, 0].mean() > 0.8
    assert min(rises) > 0.3
    assert rises[0] == pytest.approx(rises[1], abs=0.15)


def test_what_a_training_spends_is_counted(bench) -> None:
    made = bench("gpt2", steps=4, update=Grpo(learning_rate=1e-2, epochs=2, minibatches=3, kl_coefficient=0.0))
    seen: list[Rollout] = []
    TrlPolicy("grpo").fit(replace(made, score=lambda rollout: (seen.append(rollout), made.score(rollout))[1]))
    train, validate = made.ledger.phases["train/policy"], made.ledger.phases["validate/policy"]
    answers = [rollout for rollout in seen if rollout.group_size == 4]
    assert [rollout.examples[::4] for rollout in answers] == [tuple(prompts(made, step)) for step in range(4)]
    assert (train.prompts, train.samples, train.optimiser_steps) == (24, 96, 4 * 2 * 3)
    tokens = sum(rollout.tokens for rollout in answers)
    assert train.generated_tokens == tokens <= train.decoded_tokens
    assert train.trained_tokens == 2 * tokens
    assert (validate.prompts, validate.samples) == (16, 16)  # before the first step and after the last
    assert train.flops > 0
    assert 0 < train.device_seconds < train.wall_seconds
    (files,) = [{path.name for path in made.dir.rglob("*") if path.is_file()}]
    assert files == {"state.safetensors", "end.safetensors", "adapter_config.json", "adapter_model.safetensors"}


def test_many_calls_are_one_training(tmp_path: Path, monkeypatch: Any) -> None:
    """Three steps in three calls of TRL's ``train`` end where three steps in one call do."""
    from baselines.trl.trainers import dataset

    made = bench_at(tmp_path, update=RULES["grpo"])
    stepwise, whole = learner_on(made, "grpo"), learner_on(made, "grpo")
    generate = type(stepwise.trainer)._generate_single_turn

    def seeded(self: Any, prompt_ids: Sequence[Sequence[int]], *rest: Any) -> Any:
        torch.manual_seed(sum(map(sum, prompt_ids)))  # one call has drawn other numbers for its data by now
        return generate(self, prompt_ids, *rest)

    monkeypatch.setattr(type(stepwise.trainer), "_generate_single_turn", seeded)
    for step in range(3):
        stepwise.step(step)
    whole.settings.arguments["max_steps"] = 3
    whole.scorers.examples = [example for step in range(3) for example in prompts(made, step)]
    whole.trainer.train_dataset = dataset([example.context for example in whole.scorers.examples])
    start = {k.replace(".weight", ".default.weight"): v for k, v in whole.policy.adapter().items()}
    assert not whole.trainer.model.load_state_dict(start, strict=False).unexpected_keys
    whole.trainer.train()
    found = dict(whole.trainer.model.named_parameters())
    for key, value in stepwise.policy.adapter().items():
        torch.testing.assert_close(found[key.replace(".weight", ".default.weight")].detach(), value)


@dataclass
class Killed:
    """A panel of scorers that dies at its n-th call."""

    made: Bench
    after: int

    def __call__(self, rollout: Rollout) -> Tensor:
        self.after -= 1
        if self.after < 0:
            raise KeyboardInterrupt
        return self.made.score(rollout)


@pytest.mark.parametrize("name", ["gdpo", "rloo"])
def test_a_killed_run_goes_on_to_the_same_end_and_is_found_again(tmp_path: Path, name: TrainerName) -> None:
    def fitted(place: str, after: int = 99, frozen: bool = False) -> tuple[Bench, dict[str, Tensor]]:
        made = bench_at(tmp_path / place, steps=5, update=RULES[name], frozen=frozen)
        policy = TrlPolicy(name).fit(replace(made, score=Killed(made, after))).policy_for(torch.ones(2) / 2)
        return made, policy.adapter()

    alone, expected = fitted("alone")
    with pytest.raises(KeyboardInterrupt):
        fitted("killed", after=4)  # a validation and 3 steps, of which 2 are in a checkpoint
    with pytest.raises(UserError, match="never trained to its end"):
        fitted("killed", frozen=True)
    resumed, found = fitted("killed")
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    for counter in ("prompts", "samples", "generated_tokens", "optimiser_steps"):
        spent = (getattr(made.ledger.phases["train/policy"], counter) for made in (alone, resumed))
        assert next(spent) == next(spent) > 0
    _, loaded = fitted("killed", after=0, frozen=True)
    assert all(torch.equal(loaded[key], value) for key, value in expected.items())


def test_nothing_is_sent(bench, monkeypatch: Any) -> None:
    def sent(*_: Any, **__: Any) -> None:
        raise AssertionError("telemetry")

    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr("trl.trainer.base_trainer.send_telemetry", sent)
    assert learner_on(bench("gpt2", update=RULES["rloo"]), "rloo").trainer.args.report_to == []


@pytest.mark.parametrize(
    ("trainer", "changes", "message"),
    [
        ("grpo", {"update": Rloo(kl_coefficient=0.0)}, "update=grpo alone"),
        ("grpo", {"update": RULES["gdpo"]}, "update=grpo alone"),
        ("gdpo", {"update": Grpo(kl_coefficient=0.0, epochs=1)}, "update=gdpo alone"),
        ("gdpo", {"update": Grpo(normalise="each", scale="none", kl_coefficient=0.0, epochs=1)}, "update.scale=none"),
        ("rloo", {"update": Grpo(kl_coefficient=0.0, epochs=1)}, "update=rloo alone"),
        ("rloo", {"update": Rloo(end_token=False, kl_coefficient=0.0)}, "update.end_token=False"),
        ("grpo", {"update": Grpo(minibatches=5, kl_coefficient=0.0, epochs=1)}, "update.minibatches=5"),
        ("grpo", {"update": Grpo(kl_coefficient=0.0, epochs=1), "sampling": Sampling(8)}, "samples_per_prompt=2"),
        ("grpo", {"update": Grpo(kl_coefficient=0.0, epochs=1), "ranks": Ranks(0, 2)}, "one process"),
    ],
)
def test_what_trl_cannot_do_is_refused(bench, trainer: TrainerName, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        TrlPolicy(trainer).fit(bench("gpt2", **changes))
    assert "\n" not in str(refused.value)


def test_an_encoder_decoder_a_missing_extra_and_an_unknown_trainer_are_refused(bench, monkeypatch: Any) -> None:
    with pytest.raises(UserError, match="decoder-only models alone; use model=tiny_gpt2"):
        TrlPolicy("grpo").fit(bench("t5", update=Grpo(kl_coefficient=0.0, epochs=1)))
    with pytest.raises(UserError, match="did you mean 'grpo'"):
        TrlPolicy("grop")  # type: ignore[arg-type]
    monkeypatch.setattr("baselines.trl.trl_policy.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install"):
        TrlPolicy("grpo")
