"""Choices for speed: rules on a CPU, measurements elsewhere, all recorded; what cannot be is one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import make_bank, make_bench, word_prompts
from support.composing import composed
from support.recorder import Recorder

from emorl_bench.cli import bench as program
from emorl_bench.config.compose import plain
from emorl_bench.config.schema import what_decides
from emorl_bench.core.clock import seconds_of
from emorl_bench.core.errors import UserError
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Joint, Sampling
from emorl_bench.policies.adapter_policy import AdapterPolicy
from emorl_bench.policies.measuring import time_joint
from emorl_bench.policies.together import fills_a_pass, generate_together
from emorl_bench.runner import throughput
from emorl_bench.runner.job import run
from emorl_bench.runner.throughput import Throughput, check_every, choose

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
OWN = {"check_every": None, "graphs": "auto", "joint_experts": "auto"}


def test_ends_are_looked_for_at_each_token_on_a_cpu_and_seldom_on_a_gpu() -> None:
    assert check_every(OWN, CPU) == check_every({}, CPU) == 1
    assert check_every(OWN, CUDA) == throughput.SELDOM > 1
    assert check_every({**OWN, "check_every": 5}, CPU) == check_every({**OWN, "check_every": 5}, CUDA) == 5


def test_on_a_cpu_nothing_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "time_joint", None)
    monkeypatch.setattr(throughput, "time_graphs", None)
    made = make_bench(tmp_path, bank=(bank := make_bank("t5")))
    found = choose(OWN, bank.decoder, made, 3)
    assert found.record() == {
        "check_every": 1, "graphs": False, "joint_decode": None, "joint_update": None, "seconds": {}
    }  # fmt: skip
    assert found == Throughput()
    policy = bank.new_policy("a")
    assert [fills_a_pass(policy, rows) for rows in (32, 33)] == [False, True]  # the rule
    choose({**OWN, "joint_experts": True}, bank.decoder, made, 3)
    assert not fills_a_pass(policy, 10_000)


@pytest.mark.parametrize("faster", [True, False])
def test_recorded_steps_are_used_where_they_are_faster(
    faster: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = make_bank("llama")
    bank.decoder.check_every = 8
    monkeypatch.setattr("emorl_bench.decoding.measuring.seconds_of", lambda *_: [2.0, 1.0] if faster else [1.0, 2.0])
    found = choose(OWN, bank.decoder, make_bench(tmp_path, bank=bank), 1, record=Recorder)
    assert (found.graphs, bank.decoder.record) == ((True, Recorder) if faster else (False, None))
    assert found.record()["seconds"] == {"launched": 2.0 if faster else 1.0, "recorded": 1.0 if faster else 2.0}
    never = choose({**OWN, "graphs": False}, bank.decoder, make_bench(tmp_path, bank=bank), 1, record=Recorder)
    assert not never.graphs
    assert not never.seconds


def test_joint_learners_are_timed_without_being_charged_or_changed(tmp_path: Path) -> None:
    bank = make_bank("llama")
    policies = [bank.new_policy(f"p{i}") for i in range(3)]
    own = [policy for policy in policies if isinstance(policy, AdapterPolicy)]
    before = [{k: v.clone() for k, v in policy.adapter().items()} for policy in own]
    joint, seconds = time_joint(own, word_prompts(4), Sampling(6, 1.0, 2))
    assert joint.decode == (seconds["decode_together"] < seconds["decode_alone"])
    assert joint.update == (seconds["update_together"] < seconds["update_alone"])
    assert min(seconds.values()) > 0
    assert bank.decoder.joint == Joint()
    assert {name: cost.prompts for name, cost in bank.decoder.ledger.phases.items() if cost.prompts} == {}
    assert not bank.decoder.ledger.meters
    for policy, held in zip(own, before, strict=True):
        assert all(torch.equal(held[k], v) for k, v in policy.adapter().items())
        assert all(parameter.grad is None for parameter in policy.parameters())


@pytest.mark.parametrize("pays", [True, False])
def test_what_was_measured_decides_how_learners_decode(pays: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    bank = make_bank("llama", dtype=torch.float64)
    pair = [bank.new_policy(name) for name in "ab"]
    calls = []
    inner = bank.decoder.decode_policies
    monkeypatch.setattr(bank.decoder, "decode_policies", lambda *given: (calls.append(len(given[2])), inner(*given))[1])
    answers = []
    for joint in (Joint(), Joint(decode=pays, update=not pays)):
        bank.decoder.joint = joint
        calls.clear()
        with bank.decoder.ledger.together(["train/a", "train/b"]):
            rollouts = generate_together(pair, word_prompts(3), Sampling(6, 1.0, 2), [stream(1), stream(2)])
        answers.append([rollout.responses for rollout in rollouts])
    assert calls == ([2] if pays else [1, 1])
    assert fills_a_pass(pair[0], 1) == pays
    assert answers[0] == answers[1]


def test_time_is_the_shortest_of_some_rounds_after_one_without_a_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now, durations = [0.0], {"a": [9.0, 3.0, 1.0, 2.0], "b": [9.0, 5.0, 6.0, 4.0]}
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def work(name: str) -> None:
        now[0] += durations[name].pop(0)

    assert seconds_of(CPU, lambda: work("a"), lambda: work("b")) == [1.0, 4.0]


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("hardware.graphs=on", "hardware.graphs=on: unknown"),
        ("hardware.joint_experts=autp", "hardware.joint_experts=autp: unknown; did you mean 'auto'?"),
        ("hardware.check_every=0", "hardware.check_every=0: give a number above 0, or null"),
    ],
)
def test_a_value_that_means_nothing_is_one_line(
    argument: str, says: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    assert says in refused(program.main, argument, f"runs_dir={tmp_path}")


def test_graphs_that_cannot_be_are_refused_before_the_training(tmp_path: Path) -> None:
    bank = make_bank("llama")
    with pytest.raises(UserError, match=r"graphs=true: only GPUs have CUDA graphs; say hardware\.graphs=auto"):
        choose({**OWN, "graphs": True}, bank.decoder, make_bench(tmp_path, bank=bank), 1)


def test_the_keys_decide_no_number_and_what_was_chosen_is_recorded(tmp_path: Path) -> None:
    chosen = (
        "model=tiny_t5", "hardware=cpu", "tracker=local", "budget=smoke", "method=base", "hardware.check_every=4",
        "budget.report_prompts=4", "budget.select_prompts=4", "preferences.divisions=1", f"runs_dir={tmp_path}",
    )  # fmt: skip
    settings = composed(*chosen)
    assert not {"check_every", "graphs"} & what_decides(plain(settings))["hardware"].keys()
    run(settings, chosen, {"task": "reflections", "model": "tiny_t5", "method": "base"})
    (summary,) = tmp_path.glob("reflections/*/*/*/summary.json")
    assert json.loads(summary.read_text())["throughput"]["check_every"] == 4
