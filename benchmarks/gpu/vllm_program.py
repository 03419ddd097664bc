"""Greedy decodes by vLLM with one LoRA adapter, in a process of its own: ``python -m benchmarks.gpu.vllm_program JOB``.

A process of its own gives the card's memory back when it ends, and an engine that hangs can be stopped. JOB is a JSON
file; what was measured is written beside it.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

RESULT = "result.json"


def main(path: Path) -> None:
    """Run a job.

    Args:
        path: the job: ``model`` and ``adapter`` (directories), ``dtype``, ``rank``, ``longest`` (tokens of prompt and
            answer), ``new_tokens``, ``memory`` (share of the card) and ``batches`` (rows -> batches of prompts' ids).
    """
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest

    job = json.loads(path.read_text())
    started = time.perf_counter()
    engine = LLM(
        model=job["model"], dtype=job["dtype"], skip_tokenizer_init=True, max_model_len=job["longest"],
        gpu_memory_utilization=job["memory"], enable_prefix_caching=False, enable_lora=True, max_loras=1,
        max_lora_rank=job["rank"], seed=0,
    )  # fmt: skip
    found: dict[str, Any] = {"start_s": time.perf_counter() - started, "rows": {}}
    greedy = SamplingParams(temperature=0.0, max_tokens=job["new_tokens"], ignore_eos=True, detokenize=False)
    adapter = LoRARequest("policy", 1, job["adapter"])
    for rows, batches in job["batches"].items():
        seconds, said = [], []
        for batch in batches:
            asked = [{"prompt_token_ids": prompt} for prompt in batch]
            begun = time.perf_counter()
            outputs = engine.generate(asked, greedy, lora_request=adapter, use_tqdm=False)
            seconds.append(time.perf_counter() - begun)
            said = [list(output.outputs[0].token_ids) for output in outputs]
        found["rows"][rows] = {"seconds": seconds, "said": said}
        (path.parent / RESULT).write_text(
            json.dumps(found)
        )  # after every number of rows, so a stop loses the rest only


if __name__ == "__main__":
    main(Path(sys.argv[1]))
