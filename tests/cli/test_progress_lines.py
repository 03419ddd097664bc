"""Progress of long work: plain lines that are not repeated, the rate of tokens, and listeners."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import WordShare, make_bank, shaken, word_prompts

from emorl_bench import progress
from emorl_bench.core.protocols import Bench, Solution
from emorl_bench.core.solutions import OnePolicy
from emorl_bench.core.types import Budget, Sampling
from emorl_bench.ensemble.blending import HiddenState
from emorl_bench.ensemble.front import SearchedFront
from emorl_bench.progress import ProgressBar, Report, duration, reported_to
from emorl_bench.rl.loop import run_rounds
from emorl_bench.rl.run import TrainingRun
from emorl_bench.rl.weighting import fixed_weights
from emorl_bench.runner.directory import RunDirectory
from emorl_bench.runner.evaluate import Grader
from emorl_bench.scorers.panel import ScorerPanel
from emorl_bench.search.sobol import Sobol


class Watch:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    made = Watch()
    monkeypatch.setattr(progress, "time", made)
    return made


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (99.0, "99 s"), (240.0, "4 min"), (9000.0, "2.5 h")])
def test_durations_are_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_plain_lines_have_rates_and_none_is_repeated(watch: Watch, capsys: pytest.CaptureFixture[str]) -> None:
    tokens = 100
    with ProgressBar("train a", 40, "prompts", tokens=lambda: tokens) as bar:
        for done in (0, 10, 20, 30, 40):
            bar.to(done, f"reward 0.{done}")
            watch.now += 6.0
            tokens += 600
    assert capsys.readouterr().err.splitlines() == [
        "train a: 20/40 prompts, reward 0.20, 100 tokens/s, 1.7/s, at most 12 s left",
        "train a: 40/40 prompts, reward 0.40, 100 tokens/s, 1.3/s, took 30 s",
    ]


def test_the_first_step_predicts_nothing(watch: Watch, capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar("writing", 37, "parts") as bar:
        for done in (0, 1, 2):
            bar.to(done)
            watch.now += 12.0
    first, second, _ = capsys.readouterr().err.splitlines()
    assert "left" not in first
    assert second.endswith("at most 7 min left")


def test_short_work_says_nothing_and_work_without_an_end_no_time_left(
    watch: Watch, capsys: pytest.CaptureFixture[str]
) -> None:
    with ProgressBar("search", None, "prompts") as bar:
        bar.to(0)
        bar.to(8)
    assert capsys.readouterr().err == ""
    with ProgressBar("search", None, "prompts") as bar:
        bar.to(0)
        watch.now += 20
        bar.to(40, "utility 0.5")
    assert capsys.readouterr().err.splitlines() == [
        "search: 40 prompts, utility 0.5, 2.0/s",
        "search: 40 prompts, utility 0.5, 2.0/s, took 20 s",
    ]


def reports(work: Callable[[], object]) -> list[Report]:
    heard: list[Report] = []
    with reported_to(heard.append):
        work()
    assert heard
    with ProgressBar("later", 1, "steps", quiet=True) as bar:
        bar.to(1)
    assert heard[-1].label != "later"  # a listener hears what happens in its block
    return heard


def test_a_search_tells_what_it_has_paid_of_its_pot(bench: Callable[..., Bench]) -> None:
    bank = make_bank("gpt2")
    made = bench("gpt2", bank=bank, budget=Budget(prompts=100), preferences=((1.0, 0.0), (0.5, 0.5)))
    front = SearchedFront(made, [shaken(bank, 1), shaken(bank, 2)], HiddenState(), Sobol(evaluations=4), share=0.5)
    heard = reports(lambda: front.policy_for(torch.tensor([0.5, 0.5], dtype=torch.float64)))
    assert {report.label for report in heard} == {"search"}
    done = [report.done for report in heard]
    assert done == sorted(done)
    assert done[-1] == made.ledger.phases["search"].prompts
    assert all(report.total == 50 for report in heard)  # the pot
    assert all(report.tokens_per_second for report in heard)


def test_grading_tells_how_many_policies_are_graded() -> None:
    bank = make_bank("gpt2")
    panel = ScorerPanel([WordShare("even", 0), WordShare("odd", 1)], bank.decoder.ledger)
    preferences_WK = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]], dtype=torch.float64)
    grader = Grader(
        report=word_prompts(4),
        panel=panel,
        held_out=panel,
        reference=bank.new_policy("x").reference(),
        preferences_WK=preferences_WK,
        sampling=Sampling(6, 1.0),
        decoding=("greedy",),
        seed=0,
    )
    experts = iter([shaken(bank, 1), shaken(bank, 2), shaken(bank, 3)])

    class Several(Solution):
        def policy_for(self, preference_K: torch.Tensor) -> Any:
            return next(experts)

    heard = reports(lambda: grader.grade(Several(), bank.decoder.ledger))
    assert [(report.label, report.done, report.total) for report in heard] == [("grade", n, 3) for n in (1, 2, 3)]
    alone = reports(lambda: grader.grade(OnePolicy(shaken(bank, 1)), bank.decoder.ledger))
    assert [(report.done, report.total) for report in alone] == [(1, 1)]


def test_a_shared_reward_is_shown_as_the_mean_of_the_agents(bench: Callable[..., Bench]) -> None:
    made = bench("gpt2", budget=Budget(prompts=60))
    agents = {name: made.new_policy(name) for name in ("first", "second")}
    learners = {name: made.update.learner(policy, made.ledger, made.objectives) for name, policy in agents.items()}
    run = TrainingRun(made, "pair", agents, learners, fixed_weights(None, made.objectives, "linear"), made.budget)

    def round(runs: object, step: int) -> list[dict[str, float]]:
        run.cost.prompts += 6
        return [{"reward": 1.2} if step else {}]

    heard = reports(lambda: run_rounds(made, [run], round))
    assert heard[0].reward is None  # a step in which no reward applied
    assert [report.reward for report in heard[1:]] == [pytest.approx(0.6)] * (len(heard) - 1)
    assert not any(math.isnan(report.done) for report in heard)


def test_the_run_directory_keeps_the_last_report_with_its_heartbeat(tmp_path: Path) -> None:
    config = {
        "runs_dir": str(tmp_path),
        "names": {"task": "t", "model": "m", "method": "x"},
        "seed": 0,
        "force": False,
        "hardware": {"threads": 1, "device": "cpu"},
    }

    def status() -> dict[str, Any]:
        return dict(json.loads((directory.path / "status.json").read_text()))

    with RunDirectory(config, "f") as directory:
        directory.share = lambda: 0.25
        directory._beaten -= 60.0
        directory.report(Report("train a", 1.0, 4.0, 0.5, 120.0))
        assert {
            "doing": "train a",
            "reward": 0.5,
            "share": 0.25,
            "tokens_per_second": 120.0,
        }.items() <= status().items()
        directory.report(Report("train b", 2.0, 4.0, None, 130.0))
        assert status()["doing"] == "train a"  # the next heartbeat is due in five seconds
        directory.note(phase="evaluate")
        assert (status()["doing"], status()["reward"]) == (None, 0.5)
