"""The engine that decodes single policies and merges, where it is not our own decoder (``hardware.rollouts``)."""

from __future__ import annotations

from emorl_bench.config.rollouts import check_architecture, uses_vllm
from emorl_bench.config.schema import Config
from emorl_bench.decoding.rollout_engine import RolloutEngine
from emorl_bench.models.backbone import Backbone
from emorl_bench.policies import vllm_rollouts
from emorl_bench.runner.base_model import model_source
from emorl_bench.runner.memory_plan import learners_of


def rollout_engine(config: Config, backbone: Backbone) -> RolloutEngine | None:
    """The engine of `hardware.rollouts`: vLLM on the files of the base model. None is our own decoder.

    Raises:
        UserError: vLLM takes no adapters for this architecture or of this rank, or does not start.
    """
    if not uses_vllm(config):
        return None
    check_architecture(str(backbone.model.config.model_type))
    source, model = model_source(config), config["model"]
    return vllm_rollouts.started(
        source.located().directory,
        backbone,
        largest_rank(config),
        config["hardware"]["vllm_memory"],
        model["max_prompt_tokens"] + config["sampling"]["max_new_tokens"],
        trust_remote_code=source.trust_remote_code,
    )


def largest_rank(config: Config) -> int:
    """The rank of a merge of one expert for each objective; of one adapter, where only that fits and none is merged."""
    rank, learners = int(config["model"]["adapter"]["rank"]), learners_of(config)
    most = rank * max(learners, len(config["task"].get("scorers") or {}))
    return most if learners > 1 or most <= vllm_rollouts.RANKS[-1] else rank
