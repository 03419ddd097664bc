"""What ``hardware.rollouts=vllm`` can do, checked before anything is loaded. vLLM itself is looked for in `extras`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emorl_bench.core.errors import UserError
from emorl_bench.offline.locating import resolve

OWN, VLLM = "own", "vllm"
WITH_ADAPTERS = ("gemma", "llama", "mistral", "phi3", "qwen2", "qwen3")
"""Architectures (``model_type``) for which vLLM takes LoRA adapters on every linear layer; it takes none for GPT-2."""
OF_FULL_RANK = tuple(f"baselines.{name}" for name in ("dare.Dare", "ram.Ram", "ties.Ties"))
"""Aggregators whose merges have full rank; vLLM holds low ones."""
SAY_OWN = "say hardware.rollouts=own"


def uses_vllm(config: Mapping[str, Any]) -> bool:
    """Whether answers of single policies and merges come from vLLM. Earlier runs have no such key."""
    return bool((config.get("hardware") or {}).get("rollouts", OWN) == VLLM)


def check_rollouts(config: Mapping[str, Any], processes: int) -> None:
    """Check what vLLM is asked to do.

    Args:
        config: a plain, resolved configuration.
        processes: how many processes share the run.

    Raises:
        UserError: it cannot do it.
    """
    if not uses_vllm(config):
        return
    model, hardware, method = config["model"], config["hardware"], config["method"]
    if model["family"] != "causal":
        raise UserError(f"hardware.rollouts=vllm: decodes no model.family={model['family']}; {SAY_OWN}")
    if model.get("quantisation"):
        raise UserError(f"hardware.rollouts=vllm: not with model.quantisation={model['quantisation']}; {SAY_OWN}")
    check_architecture(_architecture(model["path"]))
    if hardware["sampler_correction"] == "none":
        raise UserError(
            "hardware.sampler_correction=none: vLLM's log-probabilities are not those of the training pass; "
            "say recompute or importance"
        )
    if processes > 1:
        raise UserError(f"hardware.rollouts=vllm: not for a run of {processes} processes; {SAY_OWN}")
    if str(method.get("_target_", "")).startswith("baselines.trl."):
        raise UserError(f"hardware.rollouts=vllm: TRL samples by itself in method={method['_target_']}; {SAY_OWN}")
    if dense := next((target for target in _targets(method) if target in OF_FULL_RANK), None):
        raise UserError(f"hardware.rollouts=vllm: merges of {dense} have full rank, and it holds low ones; {SAY_OWN}")


def check_architecture(kind: str | None) -> None:
    """Check that vLLM takes adapters for a ``model_type``; None is not known yet.

    Raises:
        UserError: it does not.
    """
    if kind is not None and kind not in WITH_ADAPTERS:
        known = ", ".join(WITH_ADAPTERS)
        raise UserError(f"hardware.rollouts=vllm: takes no adapters for '{kind}', only for {known}; {SAY_OWN}")


def _architecture(path: str | None) -> str | None:
    """The ``model_type`` at a path, where its file is here."""
    if path is None or path.startswith("embedded:"):
        return None
    try:
        read = json.loads((Path(resolve(path)).expanduser() / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return str(read["model_type"]) if isinstance(read, dict) and "model_type" in read else None


def _targets(node: Any) -> list[str]:
    if isinstance(node, list):
        return [target for value in node for target in _targets(value)]
    if not isinstance(node, Mapping):
        return []
    below = [target for value in node.values() for target in _targets(value)]
    return [str(node["_target_"]), *below] if "_target_" in node else below
