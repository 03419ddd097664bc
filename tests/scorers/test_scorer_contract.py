"""Every scorer of conf/scorer: its keys bind, and it scores within bounds, in any batch and order, whatever is said."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from support.ready_scorers import models, numbers  # noqa: F401 - models is a fixture
from support.small_corpora import data, encoder  # noqa: F401 - fixtures

from emorl_bench.config.compose import conf_dir
from emorl_bench.config.targets import check_targets
from emorl_bench.core.types import Example

ODD = ["Zoë’s naïve 🦊 résumé — ‮abc‬ \u0000?", "", "ﬀ ½ 漢字 مرحبا \ufeff", "w4 w5 w6", "plain words, twice. " * 30]
ODD += ["4 + 7 + 8 ="]  # what applies to sums alone
ODD += ["since i lost my job, i drink every night. i feel guilty. i want to have some peace, but it calms me down."]
SAID = ["w5 w6 👩‍👩‍👧 ok", "It is hard for you. #### 7", "", "   ", "w7 " * 60, "You feel alone, and that hurts."]
GIVEN = {
    "fluency": {"model": "causal", "held_out_model": "other"},
    "specificity": {"model": "encoder"},
    "reward_model": {"model": "chat"},
    "python": {"function": "test_scorers.share_of_vowels"},
    "proxy": {"members": 2, "pairs": 16, "epochs": 1},
}
FAST = {"epochs": 1, "batch": 8, "freeze_layers": 0, "max_tokens": 32, "dtype": "float32"}
SMALL = {"coherence": {"corpora": ["pair"]}, "sentiment": {"test_file": None, "limit": 40, "judge_limit": 30}}


def declared(option: str) -> dict[str, Any]:
    config = OmegaConf.to_container(OmegaConf.load(conf_dir() / "scorer" / f"{option}.yaml"), resolve=False)
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


OPTIONS = sorted(path.stem for path in (conf_dir() / "scorer").glob("*.yaml"))
TRAINED = [option for option in OPTIONS if "data_dir" in declared(option)]


@lru_cache(maxsize=1)
def grid() -> tuple[list[Example], list[str]]:
    pairs = [(Example("", p, answer="7"), r) for p in ODD for r in SAID]
    return [e for e, _ in pairs], [r for _, r in pairs]


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_binds_to_its_class(option: str) -> None:
    check_targets(declared(option), f"task.scorers.{option}")


@pytest.mark.parametrize("option", [option for option in OPTIONS if option not in TRAINED])
def test_every_ready_scorer_keeps_the_contract(option: str, request: pytest.FixtureRequest) -> None:
    paths = request.getfixturevalue("models")
    changes = {key: paths.get(value, value) for key, value in GIVEN.get(option, {}).items()}
    keeps_the_contract(instantiate(declared(option) | changes, _convert_="object"))


@pytest.mark.parametrize("option", TRAINED)
def test_every_trained_scorer_keeps_the_contract(
    option: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMORL_BENCH_CACHE", str(tmp_path))
    places = {"encoder": request.getfixturevalue("encoder"), "data_dir": request.getfixturevalue("data")}
    changes = {**places, **FAST, **SMALL.get(option, {})}
    keeps_the_contract(instantiate(declared(option) | changes, _convert_="object"))


def keeps_the_contract(scorer: Any) -> None:
    """Bounds, shape, purity; equal bits alone and in any batch, in any order; silence and odd text are scored."""
    given, said = grid()
    for judge in (scorer, scorer.held_out()):
        judge.prepare()
        assert judge.name == scorer.name
        low, high = judge.bounds
        whole = numbers(judge.score(given, said))
        assert whole.shape == (len(said),)
        known = whole[~np.isnan(whole)]
        assert len(known)
        assert ((known >= low) & (known <= high)).all()
        for indices in gatherings(len(said)):
            some = numbers(judge.score([given[i] for i in indices], [said[i] for i in indices]))
            np.testing.assert_array_equal(some, whole[indices])
        assert judge.fingerprint() == judge.fingerprint()
        assert judge.on(torch.device("cpu")).bounds == (low, high)


def gatherings(count: int) -> Iterator[list[int]]:
    """The texts again, in another order, each alone, and in sets of 2, 3, 5 and 7 with other neighbours."""
    yield list(range(count))
    for size in (count, 1, 2, 3, 5, 7):
        order = np.random.default_rng(size).permutation(count).tolist()
        yield from (order[start : start + size] for start in range(0, count, size))
