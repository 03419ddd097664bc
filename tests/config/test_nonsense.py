"""Settings that cannot mean anything are one line before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.composing import composed

from emorl_bench.cli import bench, train_scorer
from emorl_bench.config.bounds import GROUP_RELATIVE, UNTRAINED, check_bounds
from emorl_bench.config.compose import conf_dir, plain
from emorl_bench.config.targets import check_targets
from emorl_bench.core.errors import UserError

REFUSED = [
    ("=3", "write KEY=VALUE"),
    ("~seed", "seed is missing"),
    ("~hardware", "is missing"),
    ("method=null", "name an option of method"),
    ("task=null", "name an option of task"),
    ("model=null", "name an option of model"),
    ("budget=null", "name an option of budget"),
    ("update=null", "name an option of update"),
    ("tracker=null", "name an option of tracker"),
    ("method=1", "name an option of method"),
    ("method={}", "an empty group changes nothing"),
    ("task.scorers={}", "an empty group changes nothing"),
    ("task.scorers=null", "a task needs scorers"),
    ("task.scorers.fluency=null", "task.scorers.fluency=null: names no class"),
    ("+task.scorers.x=1", "names no class"),
    ("method._target_=null", "names no class"),
    ("+method._partial_=true", "cannot be used here"),
    ("seed=" + "9" * 5000, "seed="),
    ("seed=${runs_dir}", "seed="),
    ("runs_dir=${seed}", "wrong type; give text"),
    ("seed=${seed}", "Recursive interpolation"),
    ("+names=3", "names: unknown key"),
    ("force=3", "give true or false"),
    ("hydra.job.chdir=3", "give true or false"),
    ("hydra.run.dir=/proc/x", "hydra.run.dir=/proc/x: cannot write there"),
    ("hydra.launcher=null", "names no class"),
    ("hydra.launcher.workers=0", "give a whole number above 0"),
    ("model.adapter.targets=[]", "no layer would be trained"),
    ("model.adapter.alpha=1e38", "model.adapter.alpha=1e+38"),
    ("model.adapter.rank=100000000", "give at most 10000"),
    ("model.revision=-1", "has no revisions"),
    ("hardware.scorer_device=nope", "give cpu, cuda"),
    ("hardware.threads=100000", "give at most 1024"),
    ("update.learning_rate=-1", "give a number above 0, at most 1"),
    ("update.learning_rate=1e30", "update.learning_rate=1e+30"),
    ("update.clip_norm=0", "give a number above 0"),
    ("update.weight_decay=-1", "give 0 or more"),
    ("update.micro_batch=-1", "give a whole number from 1"),
    ("method.search_share=2", "give a number from 0 to 1"),
    ("sampling.temperature=1e-30", "give 1e-06 or more"),
    ("sampling.max_new_tokens=100000000", "give at most"),
    ("preferences.divisions=1000000", "more than 10000 preferences"),
    ("preferences.divisions=500", "more than 10000 preferences"),
    ("budget.training.batch_prompts=1000000000", "give at most"),
    ("budget.prompts=100000000000000000000", "give a number of at most 1e+12"),
    ("budget.training.samples_per_prompt=1", "compares the answers to a prompt"),
    ("runs_dir=", "runs_dir= is empty"),
    ("runs_dir=null", "runs_dir=null: null means nothing for runs_dir"),
    ("-m seed=range(0,1000000000)", "more than 10000 jobs"),
    ("-m seed=range(0,5000) method=emorl,base,cory", "this sweep has 15000 jobs"),
    ("-m seed=shuffle(range(0,1000000000))", "more than 10000 jobs"),
    ("-m method=glob(zzz*)", "no value is left"),
]


@pytest.mark.parametrize(("line", "says"), REFUSED, ids=[line[:40] for line, _ in REFUSED])
def test_what_cannot_mean_anything_is_one_line(
    line: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert says in refused(bench.main, *line.split(), "tracker=local")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("line", ["scorer=null", "scorer.epochs=-1", "scorer._target_=null", "scorer.epochs=nan"])
def test_a_scorer_to_train_is_checked_alike(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "emorl-train-scorer: " in refused(train_scorer.main, line)


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("method.aggregator=null", "method.aggregator=None"),
        ("method.aggregator=3", "method.aggregator=3"),
        ("update.learning_rate=null", "update.learning_rate=None"),
    ],
)
def test_null_is_no_part_of_a_method(line: str, key: str) -> None:
    with pytest.raises(UserError, match=f"{key}: wrong type"):
        check_targets(plain(composed(line)))


def test_rules_that_compare_answers_are_those_whose_advantages_vanish_for_one_answer() -> None:
    """The list of names, which the configuration needs without torch, against what the rules themselves compute."""
    import torch
    from hydra.utils import get_object

    from emorl_bench.rl.advantages import group_advantages, leave_one_out, scaled_advantages

    one_each_B = torch.tensor([0.1, 0.7, 0.4])
    for advantages in (group_advantages, leave_one_out, lambda r, n: scaled_advantages(r, n, "group")):
        assert not advantages(one_each_B, 1).any()
    for target in (*GROUP_RELATIVE, *UNTRAINED):
        assert callable(get_object(target))
    others = {"likelihood", "ppo", "ppo_released", "experts"}  # experts choose one of the others in their defaults
    for file in Path(conf_dir(), "update").glob("*.yaml"):
        config = plain(composed(f"update={file.stem}", "method=weighted_scst"))
        assert (config["update"]["_target_"] in GROUP_RELATIVE) or file.stem in others


def test_one_answer_to_a_prompt_is_enough_for_ppo_and_for_what_is_not_trained() -> None:
    for line in ("method=weighted_ppo", "method=base", "method=best_of_n"):
        check_bounds(plain(composed(line, "budget.training.samples_per_prompt=1")))
