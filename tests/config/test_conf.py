"""Every option of every group composes, passes the checks, and binds to the signatures it names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.composing import composed

from emorl_bench.config.checks import check
from emorl_bench.config.compose import conf_dir, plain
from emorl_bench.config.schema import what_decides
from emorl_bench.config.targets import check_targets
from emorl_bench.core.errors import UserError

GROUPS = ("task", "model", "update", "method", "budget", "tracker", "hardware", "experiment")
OPTIONS = [f"{group}={path.stem}" for group in GROUPS for path in sorted((conf_dir() / group).glob("*.yaml"))]
SWEEPS = conf_dir().parent / "sweeps"


def needs(option: str, tmp_path: Path) -> list[str]:
    """What an option cannot do without."""
    if option.startswith(("task=", "experiment=")) and "data_dir" in composed(option).task:
        rewards = [f"task.scorers.{name}.model=any" for name in ("helpful", "harmless")]
        return [f"task.data_dir={tmp_path}", *(rewards if option == "task=hh" else [])]
    if option in ("model=seq2seq", "model=causal"):
        (tmp_path / "config.json").touch()
        (tmp_path / "model.safetensors").touch()
        return [f"model.path={tmp_path}"]
    return []


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_and_binds(option: str, tmp_path: Path) -> None:
    if option == "model=llama2_7b_4bit":
        pytest.importorskip("bitsandbytes", reason="bitsandbytes, an extra, is not installed")
    config = plain(composed(option, *needs(option, tmp_path)))
    check(config)
    check_targets(config)


TASKS = sorted(path.stem for path in (conf_dir() / "task").glob("*.yaml"))


@pytest.mark.parametrize("task", TASKS)
def test_the_length_of_answers_comes_from_the_task_and_the_command_line_outranks_it(task: str) -> None:
    assert composed(f"task={task}").sampling.max_new_tokens == composed(f"task={task}").task.max_new_tokens
    assert composed(f"task={task}", "task.max_new_tokens=7").sampling.max_new_tokens == 7
    assert composed(f"task={task}", "sampling.max_new_tokens=9").sampling.max_new_tokens == 9


def test_a_task_that_says_nothing_of_its_answers_has_the_root_s_limit() -> None:
    assert composed("~task.max_new_tokens").sampling.max_new_tokens == 24
    with pytest.raises(UserError, match=r"sampling\.max_new_tokens=0: give a number above 0"):
        check(plain(composed("task.max_new_tokens=0")))


def test_an_experiment_s_length_outranks_its_task_s() -> None:
    config = composed("experiment=offline_pair")
    assert (config.task.max_new_tokens, config.sampling.max_new_tokens) == (64, 48)


@pytest.mark.parametrize(
    ("task", "assets"), [("reflections", "reflections"), ("sums", "sums"), ("pair", "reflections")]
)
@pytest.mark.parametrize("model", ["tiny_t5", "tiny_gpt2"])
def test_an_embedded_model_is_that_of_the_task_s_language(task: str, assets: str, model: str) -> None:
    assert composed(f"task={task}", f"model={model}").model.path == f"embedded:{assets}/{model}"


def test_a_method_brings_its_update_rule_and_the_command_line_outranks_it() -> None:
    assert composed("method=weighted_ppo")["update"]["_target_"].endswith("Ppo")
    assert composed("method=weighted_scst")["update"]["_target_"].endswith("Scst")
    assert composed("method=weighted_ppo", "update=scst")["update"]["_target_"].endswith("Scst")


@pytest.mark.parametrize("rule", [path.stem for path in (conf_dir() / "update").glob("*.yaml")])
def test_every_rule_has_the_one_kl_coefficient_and_the_command_line_outranks_it(rule: str) -> None:
    if rule in ("likelihood", "ppo_released"):  # no reward to take anything off; another unit of it
        assert "kl_coefficient" not in composed(f"update={rule}")["update"] or rule == "ppo_released"
        return
    assert composed(f"update={rule}")["update"].kl_coefficient == composed().kl_coefficient > 0
    assert composed(f"update={rule}", "kl_coefficient=0.3")["update"].kl_coefficient == 0.3
    assert composed(f"update={rule}", "kl_coefficient=0.3", "update.kl_coefficient=0.1")["update"].kl_coefficient == 0.1


def test_a_rule_inside_a_method_has_it_too() -> None:
    for method in ("pareto_set", "weight_ensembling_moe"):
        assert composed(f"method={method}", "kl_coefficient=0.3")["method"]["update"].kl_coefficient == 0.3


def test_the_way_a_coefficient_is_said_makes_no_other_run() -> None:
    """What a run depends on is the coefficient of its rule, by whichever key."""
    root, own = (plain(composed(key)) for key in ("kl_coefficient=0.3", "update.kl_coefficient=0.3"))
    assert what_decides(root) == what_decides(own) != what_decides(plain(composed()))


def test_an_experiment_outranks_the_root() -> None:
    config = composed("experiment=paper_faithful_emorl")
    assert (config.reward, config["update"].learning_rate, config.budget.training.samples_per_prompt) == (
        "log",
        1e-4,
        3,
    )


@pytest.mark.parametrize(
    "path", sorted(set(SWEEPS.glob("*.yaml")) - set(SWEEPS.glob("wandb_*.yaml"))), ids=lambda path: path.stem
)
def test_a_sweep_names_options_that_exist(path: Path) -> None:
    from omegaconf import OmegaConf

    sweep = OmegaConf.load(path)
    assert sweep.hydra.mode == "MULTIRUN"
    for method in str(sweep.hydra.sweeper.params.method).split(","):
        check(plain(composed(f"method={method}")))


def test_the_sweep_of_all_methods_has_all() -> None:
    from omegaconf import OmegaConf

    sweep = OmegaConf.load(SWEEPS / "all_methods.yaml").hydra.sweeper.params
    known = {path.stem for path in (conf_dir() / "method").glob("*.yaml")}
    elsewhere = {"cory_reference", "cory_no_transfer", "cory_no_swap", "cory_individual"}
    elsewhere |= {"cory_released", "ppo_released"}
    assert sorted(sweep.method.split(",")) == sorted(known - elsewhere)
    assert sweep.seed == "0,1,2"


def configured(**changes: Any) -> dict[str, Any]:
    config = plain(composed())
    for dotted, value in changes.items():
        *parents, last = dotted.split("__")
        node = config
        for parent in parents:
            node = node[parent]
        node[last] = value
    return config


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("seed", -1, "seed=-1"),
        ("budget__prompts", -5, "budget.prompts=-5: give a number above 0, or null"),
        ("budget__seconds", 0.0, "budget.seconds=0.0"),
        ("budget__training__window", 1, "a spread needs two values"),
        ("budget__prompts", None, "budget.prompts=null: nothing would end training"),
        ("budget__expert_prompts", 0, "budget.expert_prompts=0: give a number above 0, or null"),
        ("budget__ladder", [], "budget.ladder=[]: give shares of the budget that rise to 1"),
        ("budget__ladder", [0.5, 0.25, 1.0], "budget.ladder=[0.5, 0.25, 1.0]: give shares"),
        ("budget__ladder", [0.0, 1.0], "budget.ladder=[0.0, 1.0]: give shares"),
        ("budget__ladder", [0.5], "budget.ladder=[0.5]: give shares"),
        ("sampling__temperature", 0.0, "sampling.temperature=0.0"),
        ("sampling__temperature", float("nan"), "give a finite number"),
        ("hardware__dtype", "float16", "did you mean 'bfloat16'"),
        ("reward", "linera", "did you mean 'linear'"),
        ("decoding", ["gredy"], "did you mean 'greedy'"),
        ("decoding", [], "name greedy, sampled or both"),
        ("method__weights", [0.5, 0.6], "sum to 1, not 1.1"),
        ("method__weights", [1.5, -0.5], "0 or more"),
        ("method__weights", "uniform", "give a list of numbers"),
        ("model__path", None, "model.path is missing"),
        ("model__path", "/no/such/model", "there is no such directory"),
        ("task__data_dir", "/no/such/data", "there is no such directory"),
        ("task__data_dir", None, "task.data_dir is missing"),
        ("sede", 3, "did you mean 'seed'"),
    ],
)
def test_a_bad_value_is_named_with_its_remedy(key: str, value: Any, says: str) -> None:
    with pytest.raises(UserError) as caught:
        check(configured(**{key: value}))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_without_safetensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(UserError, match=r"no \*\.safetensors"):
        check(configured(model__path=str(tmp_path)))


class Example:
    def __init__(self, levels: int, rate: float | None = None, weights: tuple[float, ...] = ()) -> None: ...


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"levles": 3}, "method.levles=3: Example has no such key; did you mean 'levels'"),
        ({}, "method.levels is missing"),
        ({"levels": "three"}, "method.levels=three: wrong type; give a whole number"),
        ({"levels": True}, "wrong type"),
        ({"levels": 3, "rate": "fast"}, "give a number or null"),
        ({"levels": 3, "weights": [0.5, "x"]}, "give a list of numbers"),
    ],
)
def test_a_target_is_bound_to_its_signature(given: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as caught:
        check_targets({"method": {"_target_": f"{__name__}.Example", **given}})
    assert says in str(caught.value)


def test_a_target_that_fits_is_let_through_and_one_that_is_not_there_is_named() -> None:
    check_targets({"method": {"_target_": f"{__name__}.Example", "levels": 3, "rate": 1, "weights": [1, 0.0]}})
    with pytest.raises(UserError, match=r"method\._target_=baselines\.nothing\.Nothing: cannot be imported"):
        check_targets({"method": {"_target_": "baselines.nothing.Nothing"}})


@pytest.mark.parametrize("kind", ["regular", "namespace", "none"])
def test_methods_are_found_whatever_baselines_is_first_on_the_path(kind: str, tmp_path: Path) -> None:
    """As `emorl-bench` meets it in a directory with a folder of that name, or beside OpenAI's package."""
    if kind != "none":
        (tmp_path / "baselines").mkdir()
    if kind == "regular":
        (tmp_path / "baselines" / "__init__.py").write_text("")
    code = (
        "from emorl_bench.config.targets import baselines_dir, build, check_targets\n"
        "node = {'_target_': 'baselines.base.Base'}\n"
        "check_targets({'method': node})\n"
        "import sys; build(node); import baselines.base\n"
        "print(sys.modules['baselines.base'].__file__ == str(baselines_dir() / 'base.py'))"
    )
    assert ran(code, tmp_path) == "True"


def test_another_baselines_that_came_first_is_named(tmp_path: Path) -> None:
    (tmp_path / "baselines").mkdir()
    (tmp_path / "baselines" / "__init__.py").write_text("")
    code = (
        "import baselines; from emorl_bench.config.targets import check_targets\n"
        "from emorl_bench.core.errors import UserError\n"
        "try: check_targets({'method': {'_target_': 'baselines.base.Base'}})\n"
        "except UserError as error: print(error)"
    )
    said = ran(code, tmp_path)
    assert f"imported from {tmp_path / 'baselines'}; the methods are in {conf_dir().parent / 'baselines'}" in said


def ran(code: str, directory: Path) -> str:
    """What a fresh Python prints that looks for packages in ``directory`` first."""
    path = os.pathsep.join([str(directory), str(conf_dir().parent)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
