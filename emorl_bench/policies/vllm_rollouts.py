"""Rollouts from vLLM (2309.06180): ``hardware.rollouts=vllm``. vLLM is an extra, and is imported here alone.

vLLM holds a base model of its own in bfloat16 (its LoRA kernels know no float32) and one LoRA adapter at a time. The
adapter is written as a directory of PEFT whenever it has changed, under a number that was never used before: vLLM keys
adapters, and the keys and values of prompts that it has read, by this number.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emorl_bench.core.errors import UserError
from emorl_bench.core.types import Sampling
from emorl_bench.decoding.rollout_engine import Answer
from emorl_bench.models.backbone import Backbone
from emorl_bench.models.lora import Adapter
from emorl_bench.policies.peft_io import save_adapter

log = logging.getLogger(__name__)

IN_PROCESS = "VLLM_ENABLE_V1_MULTIPROCESSING"  # 0: in this process, where requests are scheduled in a fixed order
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # the values of vLLM's max_lora_rank
NEVER = -100.0  # added to the logit of an id without a token: its probability is below 1e-40


def rank_that_holds(rank: int) -> int:
    """The smallest ``max_lora_rank`` of vLLM that holds adapters of this rank.

    Raises:
        UserError: none does.
    """
    for known in RANKS:
        if rank <= known:
            return known
    raise UserError(
        f"hardware.rollouts=vllm: it holds adapters up to rank {RANKS[-1]}, and a merge of all experts has rank "
        f"{rank}; lower model.adapter.rank, or say hardware.rollouts=own"
    )


@dataclass
class VllmRollouts:
    """A `decoding.rollout_engine.RolloutEngine`.

    Args:
        llm: a ``vllm.LLM`` of the backbone's model, with LoRA.
        backbone: the base model that the adapters belong to.
        rank: the largest rank of an adapter.
    """

    llm: Any
    backbone: Backbone
    rank: int
    name: str = "vllm"
    _exports: tempfile.TemporaryDirectory[str] = field(
        default_factory=lambda: tempfile.TemporaryDirectory(prefix="emorl-bench-lora-")
    )
    _number: int = 0
    _content: str = ""

    def answers(
        self, prompts: Sequence[Sequence[int]], adapter: Adapter | None, sampling: Sampling, seeds: Sequence[int]
    ) -> list[Answer]:
        """See `decoding.rollout_engine.RolloutEngine.answers`. A request has one prompt, one sample and one seed."""
        request = None if adapter is None else self._request(adapter)
        given = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        without_V = self.backbone.without_token
        banned = [] if without_V is None else without_V.nonzero().squeeze(1).tolist()
        outputs = self._asked(given, [self._sampling(sampling, seed, banned) for seed in seeds], request)
        return [_answer(output.outputs[0], bool(sampling.temperature)) for output in outputs]

    def _asked(self, prompts: list[dict[str, list[int]]], how: list[Any], request: Any) -> list[Any]:
        try:
            return list(self.llm.generate(prompts, how, lora_request=request, use_tqdm=False))
        except (ValueError, RuntimeError) as error:
            raise UserError(f"hardware.rollouts=vllm: {_first_line(error)}; say hardware.rollouts=own") from error

    def _sampling(self, sampling: Sampling, seed: int, banned: Sequence[int]) -> Any:
        """The distribution of our own sampler: nothing is cut off, and only our end tokens end an answer."""
        from vllm import SamplingParams

        return SamplingParams(
            n=1,
            temperature=sampling.temperature,
            top_p=1.0,
            seed=seed,
            max_tokens=sampling.max_new_tokens,
            ignore_eos=True,
            stop_token_ids=[self.backbone.eos, *self.backbone.other_ends],
            logprobs=0 if sampling.temperature else None,  # 0: of the sampled token, and of no other
            detokenize=False,
            logit_bias=dict.fromkeys(banned, NEVER) or None,
        )

    def _request(self, adapter: Adapter) -> Any:
        """The request for an adapter; its files are written where it differs from the last one."""
        from vllm.lora.request import LoRARequest

        tensors = adapter.tensors()
        rank = next(iter(adapter.factors.values()))[0].shape[0]
        if rank > self.rank:
            raise UserError(
                f"hardware.rollouts=vllm: an adapter of rank {rank}, where vLLM was started for {self.rank}; "
                "say hardware.rollouts=own"
            )
        content = _digest(tensors)
        last = self._place
        if content != self._content:
            self._number, self._content = self._number + 1, content
            save_adapter(self._place, tensors, self.backbone, rank=rank, scale=adapter.scale)
            _removed(last)
        return LoRARequest(str(self._number), self._number, str(self._place))

    @property
    def _place(self) -> Path:
        return Path(self._exports.name) / str(self._number)


def started(
    directory: Path, backbone: Backbone, rank: int, memory: float, tokens: int, *, trust_remote_code: bool
) -> VllmRollouts:
    """Start vLLM on the files of the base model.

    Args:
        directory: the model's directory.
        backbone: the same model, loaded.
        rank: the largest rank of an adapter or a merge.
        memory: the share of the GPU's memory that vLLM takes: weights, and keys and values.
        tokens: the largest number of tokens of a prompt and its answer.
        trust_remote_code: whether code that comes with the model may run.

    Raises:
        UserError: vLLM does not start, or holds no adapters of this rank.
    """
    os.environ.setdefault(IN_PROCESS, "0")
    from vllm import LLM

    settings = {
        "model": str(directory),
        "skip_tokenizer_init": True,  # it is given ids, and returns ids
        "dtype": "bfloat16",
        "enable_lora": True,
        "max_loras": 1,
        "max_lora_rank": rank_that_holds(rank),
        "max_model_len": tokens,
        "gpu_memory_utilization": memory,
        "logprobs_mode": "processed_logprobs",  # at the temperature, as they were sampled from
        "generation_config": "vllm",  # the defaults of the model's own file are no setting of this run
        "trust_remote_code": trust_remote_code,
        "seed": 0,
    }
    try:
        llm = LLM(**settings)
    except (ValueError, RuntimeError, TypeError, OSError) as error:
        raise UserError(
            f"hardware.rollouts=vllm: vLLM does not start ({_first_line(error)}); lower hardware.vllm_memory="
            f"{memory:g} or hardware.max_rows where memory is short, or say hardware.rollouts=own"
        ) from error
    log.info("rollouts of single policies and merges: vLLM, in bfloat16, adapters up to rank %d", rank)
    return VllmRollouts(llm, backbone, rank)


def _answer(completion: Any, sampled: bool) -> Answer:
    ids = list(completion.token_ids)
    if not sampled:
        return Answer(ids)
    rows = completion.logprobs or []
    return Answer(ids, [float(row[token].logprob) for row, token in zip(rows, ids, strict=False) if token in row])


def _digest(tensors: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _removed(place: Path) -> None:
    for file in place.glob("*") if place.is_dir() else ():
        file.unlink()
    if place.is_dir():
        place.rmdir()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
