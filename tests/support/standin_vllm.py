"""A stand-in for vLLM: its interface, as far as it is used, and numerics of its own.

Like vLLM it keys adapters by ``lora_int_id`` and never reads one again, ends an answer with a stop token that it
returns, samples each request from its own seed, and gives log-probabilities at the temperature. It knows no argument
that is not listed here. ``COMPUTES`` is the type that it computes in.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

COMPUTES = torch.bfloat16


@dataclass
class SamplingParams:
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    max_tokens: int | None = 16
    ignore_eos: bool = False
    stop_token_ids: list[int] | None = None
    logprobs: int | None = None
    detokenize: bool = True
    logit_bias: dict[int, float] | None = None


@dataclass
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str


@dataclass
class Logprob:
    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


@dataclass
class CompletionOutput:
    index: int
    text: str
    token_ids: list[int]
    logprobs: list[dict[int, Logprob]] | None
    finish_reason: str


@dataclass
class RequestOutput:
    outputs: list[CompletionOutput]


@dataclass
class LLM:
    model: str
    skip_tokenizer_init: bool = False
    dtype: str = "auto"
    enable_lora: bool = False
    max_loras: int = 1
    max_lora_rank: int = 16
    max_model_len: int | None = None
    gpu_memory_utilization: float = 0.9
    logprobs_mode: str = "raw_logprobs"
    generation_config: str = "auto"
    trust_remote_code: bool = False
    seed: int = 0
    requests: list[LoRARequest | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.loaded = AutoModelForCausalLM.from_pretrained(self.model, dtype=COMPUTES).eval()
        self.base = {name: w.detach().clone() for name, w in self.loaded.named_parameters()}
        self.adapters: dict[int, dict[str, Tensor]] = {}

    @torch.no_grad()
    def generate(self, prompts, sampling_params, *, use_tqdm: bool = True, lora_request=None) -> list[RequestOutput]:
        assert self.logprobs_mode == "processed_logprobs"
        assert len(prompts) == len(sampling_params)
        self.requests.append(lora_request)
        self._use(lora_request)
        rows = [list(prompt["prompt_token_ids"]) for prompt in prompts]
        if max(map(len, rows)) >= self.max_model_len:
            raise ValueError(
                f"The prompt is longer than the maximum model length of {self.max_model_len}.\nSecond line"
            )
        rngs = [torch.Generator().manual_seed(p.seed) for p in sampling_params]
        ids: list[list[int]] = [[] for _ in rows]
        scores: list[list[float]] = [[] for _ in rows]
        going = list(range(len(rows)))
        while going:
            logits = self._last_logits([rows[i] + ids[i] for i in going])
            still = []
            for i, logits_V in zip(going, logits, strict=True):
                p = sampling_params[i]
                for token, bias in (p.logit_bias or {}).items():
                    logits_V[token] += bias
                logps_V = (logits_V / (p.temperature or 1.0)).log_softmax(-1)
                token = int(logps_V.argmax())
                if p.temperature:
                    token = int(torch.multinomial(logps_V.exp(), 1, generator=rngs[i]))
                ids[i].append(token)
                scores[i].append(float(logps_V[token]))
                if token not in p.stop_token_ids and len(ids[i]) < p.max_tokens:
                    still.append(i)
            going = still
        outputs = []
        for own, logprobs, p in zip(ids, scores, sampling_params, strict=True):
            tops = [{token: Logprob(lp)} for token, lp in zip(own, logprobs, strict=True)]
            stopped = "stop" if own[-1] in p.stop_token_ids else "length"
            outputs.append(RequestOutput([CompletionOutput(0, "", own, None if p.logprobs is None else tops, stopped)]))
        return outputs

    def _last_logits(self, rows: list[list[int]]) -> Tensor:
        width = max(map(len, rows))
        ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        places = (mask.cumsum(1) - 1).clamp_min(0)
        exact = torch.promote_types(COMPUTES, torch.float32)
        return self.loaded(input_ids=ids, attention_mask=mask, position_ids=places).logits[:, -1].to(exact)

    def _use(self, request: LoRARequest | None) -> None:
        for name, weight in self.loaded.named_parameters():
            weight.copy_(self.base[name])
        if request is None:
            return
        if request.lora_int_id not in self.adapters:
            self.adapters[request.lora_int_id] = self._read(Path(request.lora_path))
        for name, delta in self.adapters[request.lora_int_id].items():
            weight = dict(self.loaded.named_parameters())[name]
            weight.copy_((weight.double() + delta).to(COMPUTES))

    def _read(self, place: Path) -> dict[str, Tensor]:
        settings = json.loads((place / "adapter_config.json").read_text())
        if settings["r"] > self.max_lora_rank:
            raise ValueError(f"LoRA rank {settings['r']} is greater than max_lora_rank {self.max_lora_rank}.")
        factors = load_file(place / "adapter_model.safetensors")
        found = {}
        for name in [name for name in factors if ".lora_A." in name]:
            module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            delta = factors[name.replace("lora_A", "lora_B")].double() @ factors[name].double()
            delta *= settings["lora_alpha"] / settings["r"]
            found[f"{module}.weight"] = delta.T if settings["fan_in_fan_out"] else delta
        return found


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``import vllm`` find the stand-in."""
    request, vllm, lora = (ModuleType(name) for name in ("vllm.lora.request", "vllm", "vllm.lora"))
    named: dict[str, Any] = {"LLM": LLM, "SamplingParams": SamplingParams}
    vllm.__dict__.update(named)
    request.__dict__["LoRARequest"] = LoRARequest
    for module in (vllm, lora, request):
        module.__spec__ = ModuleSpec(module.__name__, None)
        monkeypatch.setitem(sys.modules, module.__name__, module)
