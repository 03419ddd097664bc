"""Learners side by side in one batch have the numbers of learners alone, whoever ends, dies or runs out of memory."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest
import torch
from conftest import WordShare, make_bank, make_bench, shaken, word_prompts
from filelock import FileLock

from emorl_bench.core.ledger import Ledger
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Sampling, Training
from emorl_bench.models.backbone import Backbone
from emorl_bench.policies.adapter_policy import token_logprobs
from emorl_bench.policies.together import can_stack, generate_together
from emorl_bench.rl import stacking
from emorl_bench.rl.agro import Agro
from emorl_bench.rl.experts import expert_bank, expert_budget, expert_dir
from emorl_bench.rl.grpo import Grpo
from emorl_bench.rl.learner import AdapterLearner, AdapterRule
from emorl_bench.rl.ppo import Ppo
from emorl_bench.rl.scst import Scst
from emorl_bench.rl.update import Batch, Updater, micro_batches
from emorl_bench.scorers.panel import ScorerPanel

RULES = [
    Scst(learning_rate=1e-2, kl_coefficient=0.05),
    Ppo(learning_rate=1e-2, epochs=2, minibatches=2),
    Grpo(learning_rate=1e-2, normalise="each", scale="batch", epochs=2, kl_coefficient=0.05),
    Agro(learning_rate=1e-2, replay_prompts=1),
]
SAMPLED = Sampling(8, 1.0, 4)
COUNTS = ("prompts", "samples", "generated_tokens", "trained_tokens", "optimiser_steps")


class Killed(BaseException):
    """Stands for kill -9."""


def three_experts(directory, architecture="t5", scorers=None, **changes):
    """A bench of three objectives on a float64 model."""
    directory.mkdir(exist_ok=True)
    bank = make_bank(architecture, dtype=torch.float64)
    given = scorers or [WordShare(f"third{k}", k, of=3) for k in range(3)]
    panel = ScorerPanel(given, bank.decoder.ledger)
    changes = {"score": panel.score, **changes}
    steps = 3 * changes.pop("steps", 3)
    return make_bench(
        directory,
        architecture,
        steps=steps,
        objectives=panel.objectives,
        new_policy=bank.new_policy,
        ledger=bank.decoder.ledger,
        **changes,
    )


def adapters(made):
    return [policy.adapter() for policy in expert_bank(made)]


def assert_same(mine, theirs):
    for one, other in zip(mine, theirs, strict=True):
        for key in one:
            torch.testing.assert_close(one[key], other[key], atol=2e-6, rtol=0)


def assert_counted_alike(made, alone):
    for phase, cost in alone.ledger.phases.items():
        if phase.startswith(("train/", "validate/")):
            mine = made.ledger.phases[phase]
            assert [getattr(mine, c) for c in COUNTS] == [getattr(cost, c) for c in COUNTS]


def passes(monkeypatch):
    """How often the model has been run with responses forced."""
    calls = []
    for family in Backbone.__subclasses__():
        inner = family.forced
        monkeypatch.setattr(family, "forced", lambda self, r, inner=inner: (calls.append(len(r)), inner(self, r))[1])
    return calls


def without_seconds(row: dict[str, float]) -> dict[str, float]:
    return {key: value for key, value in row.items() if not key.endswith("/seconds")}


@pytest.mark.parametrize("rule", RULES, ids=lambda r: type(r).__name__)
@pytest.mark.parametrize("family", ["t5", "gpt2"])
def test_joint_training_is_separate_training(tmp_path, monkeypatch, family, rule):
    calls = passes(monkeypatch)
    alone = three_experts(tmp_path / "alone", family, update=rule, joint_experts=False)
    expected, separate = adapters(alone), len(calls)
    made = three_experts(tmp_path / "joint", family, update=rule)
    assert_same(adapters(made), expected)
    own = 3 * 3 if isinstance(rule, Ppo | Agro) else 0  # what `prepare` reads of each policy, at each step, by itself
    assert 3 * (len(calls) - separate - own) == separate - own  # one pass where there were three
    assert_counted_alike(made, alone)
    for name in made.objectives:
        mine, theirs = ([r for r in b.tracker.rows if f"train/{name}/reward" in r] for b in (made, alone))
        assert [r["step"] for r in mine] == [1, 2, 3]
        for row, other in zip(mine, theirs, strict=True):
            assert without_seconds(row) == pytest.approx(without_seconds(other), abs=1e-5)
    assert any((expected[0][k] != expected[1][k]).any() for k in expected[0])


class Probe(AdapterLearner):
    """Its loss is a fixed random function of its hidden states; gradients add up and nothing moves."""

    def __init__(self, policy, weight):
        super().__init__(AdapterRule(), policy, Ledger())
        self.weight, self.out_of_memory = weight, 0  # so many calls of the loss fail

    uses_reference = True

    @property
    def beside_adapter(self):
        return [self.weight]

    def prepare(self, rollout, rewards_B, has_reward_B, reference_BT):
        expected_BT = self.policy.reference().logprobs(rollout).detach()
        torch.testing.assert_close(reference_BT, expected_BT.to(reference_BT), atol=1e-6, rtol=0)
        return Batch(rollout)

    def loss(self, hidden_BTH, part=None, minibatch=None):
        if self.out_of_memory:
            self.out_of_memory -= 1
            raise torch.OutOfMemoryError
        loss = (hidden_BTH @ self.weight.T).tanh().sum()
        return loss, {"loss": loss.item()}

    def descend(self, totals):
        return totals


def probes(architecture, sizes=(4, 4, 4)):
    """Three learners whose rollouts have their own prompts, numbers of distinct prompts and lengths."""
    bank = make_bank(architecture, dtype=torch.float64)
    learners, rollouts = [], []
    for k, size in enumerate(sizes):
        policy = shaken(bank, k)
        every = policy.generate(word_prompts(12)[4 * k :], Sampling(3 + k, 1.0, 2), stream(k))
        rollouts.append(every.rows(range(size) if k else [0, 0, 1, 1][:size]))
        width = policy.hidden(rollouts[-1]).shape[-1]
        learners.append(Probe(policy, torch.nn.Parameter(torch.randn(2, width, generator=stream(k)).double())))
    return learners, rollouts


def gradients(learners):
    return [p.grad for learner in learners for p in (*learner.policy.parameters(), learner.weight)]


def plain_gradients(architecture, sizes=(4, 4, 4)):
    """By plain autograd, one learner after the other."""
    learners, rollouts = probes(architecture, sizes)
    for learner, rollout in zip(learners, rollouts, strict=True):
        learner.loss(learner.policy.hidden(rollout))[0].backward()
    return gradients(learners)


def step(learners, rollouts, **changes):
    rewards, rngs = [torch.zeros(len(r.examples)) for r in rollouts], [stream(0) for _ in rollouts]
    driver = Updater(Ledger(), **changes)
    metrics = driver.update(learners, rollouts, rewards, rngs)
    assert len(metrics) == len(learners)
    return driver


@pytest.mark.parametrize("sizes", [(4, 4, 4), (4, 3, 4)], ids=["stacked", "one of another size"])
def test_stacked_gradients_are_plain_gradients(architecture, sizes):
    learners, rollouts = probes(architecture, sizes)
    step(learners, rollouts)
    for mine, plain in zip(gradients(learners), plain_gradients(architecture, sizes), strict=True):
        torch.testing.assert_close(mine, plain, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("where", ["model", "loss"])
def test_out_of_memory_repeats_the_round_apart(monkeypatch, capsys, where):
    learners, rollouts = probes("t5")
    if where == "loss":
        learners[1].out_of_memory = 1
    else:
        inner = stacking.hidden_together

        def hungry(policies, rollouts):
            if len(policies) > 1 and torch.is_grad_enabled():
                raise torch.OutOfMemoryError
            return inner(policies, rollouts)

        monkeypatch.setattr(stacking, "hidden_together", hungry)
    driver = step(learners, rollouts)
    assert not driver.stacking.joint
    assert capsys.readouterr().err.count("one after the other") == 1
    for mine, plain in zip(gradients(learners), plain_gradients("t5"), strict=True):
        torch.testing.assert_close(mine, plain, atol=1e-6, rtol=1e-6)


def test_one_row_that_does_not_fit_is_an_error():
    learners, rollouts = probes("t5", (4,))
    learners[0].out_of_memory = 3  # of 4 rows, of 2, and of 1
    with pytest.raises(torch.OutOfMemoryError):
        step(learners, rollouts)


def test_training_goes_on_apart_after_memory_has_run_out(tmp_path, monkeypatch, capsys):
    expected = adapters(three_experts(tmp_path / "alone", update=RULES[1], joint_experts=False))
    inner, calls = stacking.hidden_together, 0

    def hungry(policies, rollouts):
        nonlocal calls
        calls += len(policies) > 1
        if len(policies) > 1 and calls == 5:  # in the middle of a step, after an optimiser has moved
            raise torch.OutOfMemoryError
        return inner(policies, rollouts)

    monkeypatch.setattr(stacking, "hidden_together", hungry)
    assert_same(adapters(three_experts(tmp_path / "joint", update=RULES[1])), expected)
    assert calls == 5
    assert capsys.readouterr().err.count("3 learners together exceed the memory") == 1


def test_whoever_has_converged_leaves_the_batch(tmp_path):
    class Flat(WordShare):
        def score(self, examples, responses):
            return torch.full((len(responses),), 0.5)

    def made(place, **changes):
        training = Training(6, 4, validate_every=1, window=3, variation=1e-6, stop_when_converged=True)
        scorers = [WordShare("even", 0), Flat("flat", 0), WordShare("odd", 1)]
        return three_experts(tmp_path / place, scorers=scorers, training=training, steps=4, update=RULES[0], **changes)

    joint, alone = made("joint"), made("alone", joint_experts=False)
    assert_same(adapters(joint), adapters(alone))
    assert_counted_alike(joint, alone)
    assert [joint.ledger.phases[f"train/{n}"].prompts for n in ("even", "flat", "odd")] == [24, 12, 24]


def test_experts_left_at_different_steps_meet_again(tmp_path):
    """A kill between two checkpoints, and a bank of which one expert was begun alone: as if nothing had happened."""
    expected = adapters(three_experts(tmp_path / "whole", update=RULES[1], steps=6))

    def broken(calls, **changes):
        made = three_experts(tmp_path / "broken", update=RULES[1], steps=6, **changes)
        left = iter(range(calls))

        def score(rollout):
            if next(left, None) is None:
                raise Killed
            return made.score(rollout)

        return replace(made, score=score)

    with pytest.raises(Killed):
        adapters(broken(6, joint_experts=False))  # the first one alone, past its first checkpoint
    with pytest.raises(Killed):
        adapters(broken(12))
    last = three_experts(tmp_path / "broken", update=RULES[1], steps=6)
    assert_same(adapters(last), expected)
    assert {last.ledger.phases[f"train/{n}"].prompts for n in last.objectives} == {36}


def test_the_others_are_trained_while_one_is_in_other_hands(tmp_path, capsys):
    expected = adapters(three_experts(tmp_path / "whole"))
    made = three_experts(tmp_path / "held")
    directory = expert_dir(made, "third1", expert_budget(made))
    directory.mkdir(parents=True)
    held, trained_meanwhile = threading.Event(), []

    def holder():
        with FileLock(directory / "lock"):
            held.set()
            others = [expert_dir(made, f"third{k}", expert_budget(made)) / f"third{k}" for k in (0, 2)]
            deadline = time.monotonic() + 30
            while not all(path.exists() for path in others) and time.monotonic() < deadline:
                time.sleep(0.05)
            trained_meanwhile.extend(path.exists() for path in others)

    thread = threading.Thread(target=holder)
    thread.start()
    held.wait()
    assert_same(adapters(made), expected)
    thread.join()
    assert trained_meanwhile == [True, True]
    assert "expert third1: another process is training it" in capsys.readouterr().err


def test_policies_with_dropout_are_not_stacked():
    bank = make_bank("t5")
    first, second = bank.new_policy("a"), bank.new_policy("b")
    dropping = replace(second, own=replace(second.own, dropout=0.1))
    assert can_stack([first, second])
    assert not can_stack([first, dropping])
    assert not can_stack([first, make_bank("t5").new_policy("c")])


def test_policies_answer_together_as_they_do_alone(architecture):
    bank = make_bank(architecture, dtype=torch.float64)
    policies, ledger = [shaken(bank, k) for k in range(3)], bank.decoder.ledger
    alone = [p.generate(word_prompts(5), SAMPLED, stream(k)) for k, p in enumerate(policies)]
    with ledger.together(["a", "b", "c"]):
        rollouts = generate_together(policies, word_prompts(5), SAMPLED, [stream(k) for k in range(3)])
    for k, (mine, own) in enumerate(zip(rollouts, alone, strict=True)):
        assert mine.responses == own.responses
        assert torch.equal(mine.response_ids_BT, own.response_ids_BT)
        torch.testing.assert_close(mine.logprobs_BT, own.logprobs_BT, atol=1e-9, rtol=0)
        assert ledger.phases["abc"[k]].generated_tokens == own.tokens
        assert ledger.phases["abc"[k]].prompts == 5


@pytest.mark.parametrize("size", [None, 1, 5, 100])
def test_micro_batches_divide_all_rows_by_length(size):
    policy = shaken(make_bank("gpt2", dtype=torch.float64), 1)
    rollout = policy.generate(word_prompts(6), SAMPLED, stream(0))
    parts = micro_batches(rollout, size)
    lengths = rollout.response_mask_BT.sum(1).tolist()
    assert sorted(row for part in parts for row in part) == list(range(24))
    assert all(len(part) == (size or 24) for part in parts[:-1])
    assert [lengths[row] for part in parts for row in part] == sorted(lengths, reverse=True)
    learner = Scst(micro_batch=size, kl_coefficient=0.0).learner(policy, Ledger())
    read_BT = learner.read(rollout, lambda hidden_BTH, part: token_logprobs(policy, hidden_BTH, part))
    torch.testing.assert_close(read_BT, policy.logprobs(rollout).to(read_BT), atol=1e-6, rtol=0)


def test_work_done_together_is_divided_and_counts_are_not():
    ledger = Ledger()
    with ledger.together(["train/a", "train/b"]):
        with ledger.metered("update") as call:
            call.tokens = 10
            torch.rand(64, 64) @ torch.rand(64, 64)
            time.sleep(0.1)
        with ledger.alone(1) as cost:
            cost.prompts += 7
            time.sleep(0.1)
        with pytest.raises(ValueError):
            _ = ledger.current
    a, b = ledger.phases["train/a"], ledger.phases["train/b"]
    assert (a.prompts, b.prompts) == (0, 7)
    assert a.flops == b.flops == 64**3
    assert a.device_seconds == b.device_seconds == pytest.approx(0.05, abs=0.03)
    assert b.wall_seconds - a.wall_seconds == pytest.approx(0.1, abs=0.03)
