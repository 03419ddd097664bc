"""Adapters that were trained elsewhere, read from PEFT's files exactly or refused.

PEFT's LoRA adds ``s B A`` to the weight of a module (2106.09685, eq. 3), with ``s = alpha / r``, or ``alpha / sqrt(r)``
for rsLoRA (2312.03732); rank and alpha may differ between modules. Here all adapters of a model have one scale and one
rank. So B is multiplied by the quotient of the two scales, rows and columns of zeros fill a smaller rank, and a module
without an adapter has zeros only: the update is the same. DoRA (2402.09353) rescales the columns of the whole weight,
which is no update of low rank, and is refused, as is whatever else changes more than ``s B A``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.models.lora import Adapter
from emorl_bench.policies.peft_io import CONFIG, WEIGHTS

if TYPE_CHECKING:
    from emorl_bench.models.backbone import Backbone

NAME = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<factor>[AB])(?:\.default)?\.weight")
VARIANTS = (  # settings of PEFT's LoraConfig under which an adapter is more than ``s B A``, or acts on another model
    "use_dora", "lora_bias", "use_qalora", "use_bdlora", "alora_invocation_tokens", "arrow_config", "kasa_config",
    "monteclora_config", "layer_replication", "modules_to_save", "trainable_token_indices", "target_parameters",
)  # fmt: skip
CHANGES_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")  # initialisations that also change base weights
Factors = dict[str, tuple[Tensor, Tensor]]


def check_directory(path: str, key: str) -> None:
    """Check that a directory holds an adapter of PEFT, before a model is loaded for it.

    Raises:
        UserError: it does not.
    """
    place = Path(path).expanduser()
    for name in (CONFIG, WEIGHTS):
        if not (place / name).is_file():
            raise UserError(f"{key}: {path} has no {name} in it; give directories of PEFT LoRA adapters")


def read_adapters(paths: Sequence[str], backbone: Backbone, key: str) -> tuple[list[Adapter], list[str]]:
    """The adapters in some directories, with one rank and one scale; and those whose base could not be proved.

    Args:
        paths: directories of PEFT; `save_adapter` writes such ones too, with a hash of their base model.
        backbone: the base model, into whose layers they must fit.
        key: the configuration key that names them, for messages.

    Raises:
        UserError: a file is missing or damaged, an adapter is no plain LoRA, or it belongs to another base model.
    """
    read = [_scaled_factors(path, backbone, key) for path in paths]
    rank = max(a_RI.shape[0] for factors, _ in read for a_RI, _ in factors.values())
    scale = backbone.settings.scale
    adapters = [Adapter(_filled(factors, backbone, rank, scale), scale) for factors, _ in read]
    return adapters, [path for path, (_, proved) in zip(paths, read, strict=True) if not proved]


def _scaled_factors(path: str, backbone: Backbone, key: str) -> tuple[Factors, bool]:
    """A (r, in) and B (out, r) of each module with an adapter, B times its scale; and whether the base is proved."""
    check_directory(path, key)
    place = Path(path).expanduser()
    settings = _settings(place, f"{key}: {path}")
    tensors, base = _tensors(place / WEIGHTS, f"{key}: {path}")
    if base is not None and base != backbone.fingerprint:
        raise UserError(f"{key}: {path} was trained on another base model (its hash is {base}); set model to that one")
    halves: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        found = NAME.fullmatch(name)
        if found is None:
            raise UserError(f"{key}: {path} holds '{name}', which is no factor of LoRA; only plain LoRA can be blended")
        halves.setdefault(found["module"], {})[found["factor"]] = tensor.float()
    if not halves:
        raise UserError(f"{key}: {path} holds no factors of LoRA")
    return {module: _factors(module, of, backbone, settings, f"{key}: {path}") for module, of in halves.items()}, (
        base is not None
    )


def _factors(
    module: str, halves: Mapping[str, Tensor], backbone: Backbone, settings: Mapping[str, Any], where: str
) -> tuple[Tensor, Tensor]:
    layer = backbone.layers.get(module)
    if layer is None:
        raise UserError(
            f"{where} changes the module '{module}', which has no adapter here; it belongs to another base model, or "
            "say model.adapter.targets=null"
        )
    a_RI, b_OR = halves.get("A"), halves.get("B")
    if a_RI is None or b_OR is None:
        raise UserError(f"{where} has one factor of '{module}' without the other; copy {WEIGHTS} again")
    rank = _of(module, settings.get("rank_pattern"), settings.get("r"), where)
    if a_RI.shape != (rank, layer.in_features) or b_OR.shape != (layer.out_features, rank):
        raise UserError(
            f"{where}: the factors of '{module}' are {tuple(a_RI.shape)} and {tuple(b_OR.shape)}, not "
            f"{(rank, layer.in_features)} and {(layer.out_features, rank)}; it belongs to another base model"
        )
    if not (a_RI.isfinite().all() and b_OR.isfinite().all()):
        raise UserError(f"{where}: the factors of '{module}' are not finite; its training has failed")
    alpha = _of(module, settings.get("alpha_pattern"), settings.get("lora_alpha"), where)
    return a_RI, b_OR * (alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank))


def _filled(factors: Factors, backbone: Backbone, rank: int, scale: float) -> Factors:
    """The factors of every layer on its device: zeros where there is no adapter, and up to the rank."""
    filled = {}
    for name, layer in backbone.layers.items():
        a_RI, b_OR = torch.zeros(rank, layer.in_features), torch.zeros(layer.out_features, rank)
        if name in factors:
            a, b = factors[name]
            a_RI[: len(a)] = a
            b_OR[:, : len(a)] = b / scale
        filled[name] = a_RI.to(layer.weight.device), b_OR.to(layer.weight.device)
    return filled


def _settings(place: Path, where: str) -> dict[str, Any]:
    try:
        settings = json.loads((place / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{where}: {CONFIG} cannot be read ({str(error)[:100]}); copy it again") from error
    if not isinstance(settings, dict) or settings.get("peft_type") != "LORA":
        raise UserError(f"{where}: {CONFIG} is not that of a LoRA adapter (peft_type LORA)")
    changed = [name for name in VARIANTS if settings.get(name)] + ["bias"] * (settings.get("bias", "none") != "none")
    if changed:
        raise UserError(
            f"{where} has {changed[0]}={ascii(settings[changed[0]])[:60]}, which is more than an update of low rank; "
            "merge it into its base model, or train a plain LoRA"
        )
    start = str(settings.get("init_lora_weights")).lower()
    if start.startswith(CHANGES_THE_BASE):
        raise UserError(f"{where} has init_lora_weights={start}, which changes the base too; convert it to plain LoRA")
    return settings


def _tensors(file: Path, where: str) -> tuple[dict[str, Tensor], str | None]:
    """All tensors, and the hash of the base model where the file has it."""
    try:
        with safe_open(file, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}, (  # noqa: SIM118 (no mapping)
                opened.metadata() or {}
            ).get("base_fingerprint")
    except (OSError, SafetensorError) as error:
        raise UserError(f"{where}: {WEIGHTS} cannot be read ({str(error)[:100]}); copy it again") from error


def _of(module: str, pattern: Any, default: Any, where: str) -> Any:
    """What a pattern (rank or alpha) of PEFT says of a module: the value of the first expression that ends its name."""
    try:
        found = [value for key, value in (pattern or {}).items() if re.match(rf"(.*\.)?({key})$", module)]
    except (re.error, AttributeError) as error:
        raise UserError(f"{where}: rank_pattern or alpha_pattern in {CONFIG} is broken ({error})") from error
    value = found[0] if found else default
    if not isinstance(value, int | float) or not 0 < value < math.inf:
        raise UserError(f"{where}: {CONFIG} has {ascii(value)[:40]} as a rank or alpha; it must be a number above 0")
    return value
