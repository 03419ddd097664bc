"""What vLLM is started with, from the configuration."""

from __future__ import annotations

import pytest
from conftest import make_bank
from support.composing import composed

from emorl_bench.config import rollouts as named
from emorl_bench.config.compose import plain
from emorl_bench.core.errors import UserError
from emorl_bench.policies import vllm_rollouts
from emorl_bench.runner.rollouts import largest_rank, rollout_engine

CHOSEN = ("model=tiny_gpt2", "hardware=cpu", "hardware.rollouts=vllm", "hardware.vllm_memory=0.25")


def test_it_is_started_on_the_files_of_the_base_model(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []
    monkeypatch.setattr(vllm_rollouts, "started", lambda *a, **k: given.extend([*a, k]))
    monkeypatch.setattr(named, "WITH_ADAPTERS", ("gpt2",))
    config = plain(composed(*CHOSEN, "method=emorl"))
    bank = make_bank("gpt2")
    rollout_engine(config, bank.backbone)
    directory, backbone, rank, memory, tokens, more = given
    assert (directory / "config.json").is_file()  # type: ignore[operator]
    assert backbone is bank.backbone
    assert rank == 3 * config["model"]["adapter"]["rank"]
    assert (memory, more) == (0.25, {"trust_remote_code": False})
    assert tokens == config["model"]["max_prompt_tokens"] + config["sampling"]["max_new_tokens"]
    assert rollout_engine(plain(composed("hardware=cpu")), bank.backbone) is None


def test_an_architecture_without_adapters_is_refused_when_the_model_is_there() -> None:
    with pytest.raises(UserError, match="takes no adapters for 'gpt2'"):
        rollout_engine(plain(composed(*CHOSEN)), make_bank("gpt2").backbone)


@pytest.mark.parametrize(
    ("method", "rank", "wanted"),
    [("weighted_ppo", 8, 24), ("weighted_ppo", 256, 256), ("emorl", 8, 24), ("emorl", 256, 768), ("pareto_set", 8, 24)],
)
def test_the_largest_rank_is_that_of_a_merge_where_there_may_be_one(method: str, rank: int, wanted: int) -> None:
    assert largest_rank(plain(composed(*CHOSEN, f"method={method}", f"model.adapter.rank={rank}"))) == wanted
