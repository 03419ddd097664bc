"""Whether the base model of a configuration may be kept in 4 or 8 bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emorl_bench.config.extras import check_installed
from emorl_bench.core.errors import UserError

KINDS = ("4bit", "8bit")
TRL = "baselines.trl.trl_policy.TrlPolicy"


def check_quantisation(config: Mapping[str, Any]) -> None:
    """Check ``model.quantisation`` against what else is asked for.

    Raises:
        UserError: the model is no decoder-only one, computes in float64, is divided among processes or is trained by
            TRL; or bitsandbytes is not installed.
    """
    model, hardware = config["model"], config["hardware"]
    if (kind := model["quantisation"]) is None:
        return
    key = f"model.quantisation={kind}"
    if model["family"] != "causal":
        raise UserError(f"{key}: only decoder-only models can be quantised here; say null")
    if (model["dtype"] or hardware["dtype"]) == "float64":
        raise UserError(f"{key}: its weights cannot be unpacked to float64; say hardware.dtype=float32 or bfloat16")
    if hardware["shard_base"]:
        raise UserError(f"{key}: packed weights cannot be divided among processes; say hardware.shard_base=false")
    if config["method"].get("_target_") == TRL:
        raise UserError(f"{key}: TRL would add its own adapters to plain layers; say null, or take another method")
    check_installed(key, "bitsandbytes", ("bitsandbytes",))
