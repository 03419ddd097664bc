"""The presets of conf/experiment and the sweeps: they compose, keep the papers' accounting, and run."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import MemoryTracker, make_bank, shaken, word_prompts
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from support.composing import composed
from support.synthetic_runs import write_run
from torch import Tensor

from emorl_bench.cli.report import main as report
from emorl_bench.config import schema
from emorl_bench.config.checks import check
from emorl_bench.config.compose import conf_dir, plain
from emorl_bench.config.targets import check_targets
from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Rollout, Sampling
from emorl_bench.policies.adapter_policy import AdapterPolicy
from emorl_bench.report.published import MARKS, PUBLISHED
from emorl_bench.rl.advantages import group_advantages
from emorl_bench.rl.scst import Scst
from emorl_bench.rl.trained_on import retokenized
from emorl_bench.runner.bench import execute
from emorl_bench.runner.directory import RunDirectory

ROOT = Path(__file__).parents[2]
PRESETS = sorted(path.stem for path in (conf_dir() / "experiment").glob("*.yaml"))
METHODS = sorted(path.stem for path in (conf_dir() / "method").glob("*.yaml"))
RULES = ("length_band", "diversity_2", "edit_rate")
NO_HUB = [
    "model=tiny_t5",
    *(f"~task.scorers.{name}" for name in ("reflection", "empathy", "fluency")),
    *(f"+scorer@task.scorers.{name}={name}" for name in RULES),
]
SMALL = [
    "budget.training.validate_every=2",
    "budget.select_prompts=4",
    "budget.report_prompts=4",
    "sampling.max_new_tokens=12",
    "tracker=local",
    "hardware=cpu",
]


def given(preset: str, tmp_path: Path) -> list[str]:
    """A preset and the data that it wants; one that names no task is of the embedded one."""
    wants = "data_dir" in composed(f"experiment={preset}").task
    return [f"experiment={preset}", *([f"task.data_dir={tmp_path}"] if wants else [])]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_fits_every_update_rule(preset: str, tmp_path: Path) -> None:
    for method in ("emorl", "weighted_ppo"):
        config = plain(composed(*given(preset, tmp_path), f"method={method}"))
        check(config)
        check_targets(config)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_documented_and_pins_what_it_takes_from_a_hub(preset: str, tmp_path: Path) -> None:
    assert f"`{preset}`" in (ROOT / "docs" / "presets.md").read_text()
    config = plain(composed(*given(preset, tmp_path)))
    if config["model"]["path"].startswith("embedded:"):
        return
    assert re.fullmatch("[0-9a-f]{40}", config["model"]["revision"])
    for scorer in config["task"]["scorers"].values():
        source = scorer.get("encoder") or scorer.get("model") or "offline:none"
        assert source.startswith("offline:") or re.fullmatch("[0-9a-f]{40}", scorer["revision"])


@pytest.mark.parametrize("name", ["offline_pair", "pair_small"])
def test_every_job_of_a_sweep_can_run(name: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    (tmp_path / "model.safetensors").touch()
    given = [f"task.data_dir={tmp_path}", *([f"model.path={tmp_path}"] if name == "pair_small" else [])]
    schema.register()
    with initialize_config_dir(str(ROOT / "sweeps"), version_base="1.3"):
        searched = [f"hydra.searchpath=[file://{conf_dir()}]"]
        params = OmegaConf.load(ROOT / "sweeps" / f"{name}.yaml").hydra.sweeper.params
        choices = OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in params.items()])
        methods, seeds = ([str(v) for v in choice.sweep_string_iterator()] for choice in choices)
        assert seeds == ["0", "1", "2"]
        for method in methods:
            config = plain(compose(name, overrides=[*searched, *given, f"method={method}"]))
            check(config)
            check_targets(config)
            own = {key: scorer["_target_"].split(".")[2] for key, scorer in config["task"]["scorers"].items()}
            assert list(own) == list(own.values()), "a key is its scorer's name"
            if name == "pair_small":
                assert set(own) == {"reflection", "empathy", "diversity_2"}


# what the presets set, and what a run makes of it -------------------------------------------------
def test_the_paper_s_preset_has_the_paper_s_numbers() -> None:
    config = composed("experiment=paper_faithful_emorl")
    training = config.budget.training
    assert (training.batch_prompts, training.samples_per_prompt, training.validate_every) == (16, 3, 8)
    assert training.batch_prompts * training.validate_every * training.window == 2560, "no stop before 2,560 prompts"
    adapter = config.model.adapter
    assert (adapter.rank, adapter.alpha, adapter.dropout, adapter.targets) == (8, 32, 0.05, None)
    assert config["method"].search._target_.endswith("HierarchicalGrid")
    assert config["method"].search.levels * 3**3 == 135
    assert (config["update"].train_on, config["update"].end_token, config.reward) == ("text", False, "log")
    assert (config["task"].split_by, config["task"].scorers.fluency.form) == ("file_order", "paper")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A file of PAIR's layout."""
    with (tmp_path / "topic_clean_umich.csv").open("w", newline="", encoding="utf-8") as file:
        for i in range(40):
            answers = [f"you feel answer {j} of a{i}" for j in range(8)]
            csv.writer(file).writerow([f"i drink when i am sad, day a{i} week b{i}.", *answers, "drinking"])
    return tmp_path


def executed(data_dir: Path, *overrides: str) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """The summary and the cost by phase of one run."""
    where = [f"task.data_dir={data_dir}", f"runs_dir={data_dir / 'runs'}"]
    config = plain(composed(*overrides, *NO_HUB, *SMALL, *where))
    check(config)
    check_targets(config)
    config |= {"names": {"task": "pair", "model": "tiny_t5", "method": "emorl"}}
    with RunDirectory(config, "f") as directory:
        summary = execute(config, directory, MemoryTracker())
        return summary, json.loads((directory.path / "cost.json").read_text())


def test_a_study_under_our_parity_rules_runs(data_dir: Path) -> None:
    summary, cost = executed(data_dir, "experiment=emorl_pair", "budget.prompts=224", "preferences.divisions=1")
    assert summary["objectives"] == list(RULES)
    assert summary["prompts"] == {"train": 28, "select": 4, "report": 4, "removed": 0}
    assert {name: cost[f"train/{name}"]["prompts"] for name in RULES} == dict.fromkeys(RULES, 32)
    assert {name: cost[f"train/{name}"]["samples"] for name in RULES} == dict.fromkeys(RULES, 128)
    assert len(summary["preferences"]) == 4
    assert [rung["share"] for rung in summary["ladder"]] == [0.125, 0.25, 0.5, 1.0]
    assert all(rung["data_points"] <= rung["prompts"] == 224 * rung["share"] for rung in summary["ladder"])
    assert summary["ladder"][-1]["decoding"] == summary["decoding"]
    assert summary["converged_at"] == dict.fromkeys(RULES)
    assert summary["change"]["next_objective"]["prompts"] < summary["change"]["first_preference"]["prompts"]


def test_the_paper_s_ledger_is_the_longest_expert_and_one_search_in_prompts(data_dir: Path) -> None:
    summary, cost = executed(data_dir, "experiment=paper_faithful_emorl", "budget.samples=288")
    assert summary["preferences"] == [[1 / 3] * 3]
    search, totals = cost["search"], summary["cost"]
    assert search["evaluations_asked"] == 135
    assert search["prompts"] == 4 * search["evaluations"]
    trained = [cost[f"train/{name}"] for name in RULES]
    assert [t["samples"] for t in trained] == [3 * t["prompts"] for t in trained]
    assert totals["data_points_train_max"] == max(t["prompts"] for t in trained)
    assert totals["data_points_train"] == sum(t["prompts"] for t in trained)
    assert totals["data_points_search"] == search["prompts"]


# the release's departures, as keys ----------------------------------------------------------------
def rows_by_hand(policy: AdapterPolicy, rollout: Rollout, text: bool, end: bool) -> Rollout:
    """What should be trained on, token by token."""
    eos, tokenizer, rows = policy.backbone.eos, policy.backbone.tokenizer, []
    for ids, mask, response in zip(
        rollout.response_ids_BT.tolist(), rollout.response_mask_BT.tolist(), rollout.responses, strict=True
    ):
        said = [i for i, counts in zip(ids, mask, strict=True) if counts]
        finished = said[-1] == eos
        words = (
            [tokenizer.convert_tokens_to_ids(word) for word in response.split()] if text else said[: -finished or None]
        )
        rows.append([*words, eos] if finished else words)
    width = max(map(len, rows))
    ids_BT = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
    counts = [[end or i != eos for i in row] + [False] * (width - len(row)) for row in rows]
    return replace(rollout, response_ids_BT=ids_BT, response_mask_BT=torch.tensor(counts))


def sampled(policy: AdapterPolicy) -> tuple[Rollout, Tensor]:
    rollout = policy.generate(word_prompts(6), Sampling(10, 1.0, 4), stream(0))
    return rollout, torch.rand(24, generator=stream(1))


@pytest.mark.parametrize(("train_on", "end_token"), [("ids", True), ("ids", False), ("text", True), ("text", False)])
def test_what_is_trained_on_is_a_key(architecture: str, train_on: Any, end_token: bool) -> None:
    policy = shaken(make_bank(architecture), 1)
    rollout, rewards_B = sampled(policy)
    wanted = rows_by_hand(policy, rollout, train_on == "text", end_token)
    with torch.no_grad():
        expected = -(group_advantages(rewards_B, 4) * policy.logprobs(wanted).sum(1)).mean()
    ledger = Ledger()
    learner = Scst(train_on=train_on, end_token=end_token, micro_batch=7, kl_coefficient=0.0).learner(policy, ledger)
    assert learner.step(rollout, rewards_B, stream(2))["loss"] == pytest.approx(expected.item(), abs=2e-5)
    assert ledger.current.trained_tokens == int(wanted.response_mask_BT.sum())


def test_spelling_again_changes_what_is_trained_on_only_where_text_lost_something() -> None:
    policy = shaken(make_bank("gpt2"), 1)
    rollout, _ = sampled(policy)
    again = retokenized(policy, rollout)
    assert policy.backbone.response_texts(again.response_ids_BT, again.response_mask_BT) == rollout.responses
    special = {0, 2, 3}  # they have no text
    for i, row in enumerate(rollout.response_ids_BT.tolist()):
        before = [t for t, m in zip(row, rollout.response_mask_BT[i].tolist(), strict=True) if m]
        after = again.response_ids_BT[i][again.response_mask_BT[i]].tolist()
        assert after == [t for t in before if t not in special]


def test_an_unknown_choice_is_named_before_anything_starts() -> None:
    config = plain(composed("update.train_on=txt"))
    with pytest.raises(UserError, match=r"update\.train_on=txt: wrong type; give ids or text"):
        check_targets(config)


# published figures ----------------------------------------------------------------------------------
def test_published_figures_stand_beside_ours_and_in_no_mean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(2):
        for method in ("emorl", "base"):
            write_run(tmp_path / "runs", method, seed, names={"task": "pair", "model": "seq2seq", "method": method})
    report([str(tmp_path / "runs"), "--out", str(tmp_path / "plain")])
    arguments = [str(tmp_path / "runs"), "--out", str(tmp_path / "with"), "--published", "emorl_2505_02579"]
    report(arguments)
    text, without = ((tmp_path / where / "report.md").read_text() for where in ("with", "plain"))
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")
    ]
    assert ["DynaOpt", "mean reward", "0.826 ± 0.029 ᶠ", "–"] in rows
    (ours,) = (row[3] for row in rows if row[:3] == ["EMORL", "data points (max)", "17,529 ± 1,650 ᶠ"])
    assert ours.startswith("emorl: 1,20")
    assert "Published, not run here" in text
    assert "Published, not run here" in capsys.readouterr().out
    assert "Published" not in without
    tables = [(tmp_path / where / "table.csv").read_text() for where in ("with", "plain")]
    assert tables[0] == tables[1]
    assert set(without.splitlines()) <= set(text.splitlines()), "no line of ours has changed"


def test_an_unknown_paper_is_named_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "runs", "base", 0)
    with pytest.raises(SystemExit) as left:
        report([str(tmp_path / "runs"), "--out", str(tmp_path / "out"), "--published", "emorl_2505"])
    assert left.value.code == 2
    assert "did you mean 'emorl_2505_02579'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_published_figures_agree_with_one_another() -> None:
    figures = {e.method: {f.measure: f for f in e.figures} for e in PUBLISHED["emorl_2505_02579"].entries}
    assert figures["EMORL"]["data_points_max"].value == 13209 + 135 * 32
    ranked = sorted((f["mean_reward"].value, name) for name, f in figures.items() if "mean_reward" in f)
    assert [name for _, name in ranked] == ["T5-base", "Model soups", "EMORL", "DynaOpt", "Uniform weighted"]
    for paper in PUBLISHED.values():
        assert {figure.found for entry in paper.entries for figure in entry.figures} <= set(MARKS)
        assert {name for entry in paper.entries for name in entry.here} <= set(METHODS)
