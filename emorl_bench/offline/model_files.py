"""What a model directory must hold before transformers reads it; one line for each thing that is missing.

Only safetensors are ever loaded: a pickle can run code when it is opened, and a GGUF is quantised.
"""

from __future__ import annotations

import json
from pathlib import Path

from emorl_bench.core.errors import UserError
from emorl_bench.offline.containment import ADAPTER, CONFIG, INDEX, check_contained

TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "*.model", "vocab.*")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def check_files(place: Path, path: str, key: str = "model.path", *, hub: bool = False) -> None:
    """Check the files of the model in ``place``, which the user has named ``path`` under ``key``.

    For a name on the ``hub`` only safetensors were fetched, so its other files cannot be seen.

    Raises:
        UserError: the first thing that is missing, or what `check_contained` refuses.
    """
    check_config(place, path, key)
    check_contained(place, path, key)
    missing = missing_weights(place)
    if missing and (pickles := _present(place, PICKLES)):
        raise UserError(
            f"{key}={path}: no *.safetensors in it; {pickles[0]} is a pickle, which can run code and is never loaded; "
            f"{conversion(path)}"
        )
    if missing and (quantised := _present(place, ("*.gguf",))):
        raise UserError(f"{key}={path}: no *.safetensors in it; {quantised[0]} is a GGUF, give the original model")
    if missing and hub:
        raise UserError(f"{key}={path}: no {', '.join(missing[:3])} on the hub; {conversion(path)}")
    if missing:
        raise UserError(
            f"{key}={path}: no {', '.join(missing[:3])} in it; the download was cut short, or copy the rest"
        )
    if not _present(place, TOKENIZERS):
        raise UserError(f"{key}={path}: no tokenizer in it; copy tokenizer.json and tokenizer_config.json there")


def conversion(path: str) -> str:
    """What to do about a pickled checkpoint."""
    return f"convert a pytorch_model.bin once with emorl-assets convert {path} NEW_DIRECTORY"


def check_config(place: Path, path: str, key: str) -> None:
    """Check that the directory holds the configuration of a model.

    Raises:
        UserError: it does not.
    """
    file = place / CONFIG
    if not file.is_file() and (place / ADAPTER).is_file():
        raise UserError(f"{key}={path}: is an adapter of PEFT, not a model; give its base model (docs/models.md)")
    if not file.is_file():
        raise UserError(f"{key}={path}: no {CONFIG} in it; give the directory of a transformers model")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{key}={path}: {CONFIG} cannot be read ({error}); copy it again") from error
    if not isinstance(config, dict) or "model_type" not in config:
        raise UserError(f"{key}={path}: {CONFIG} names no model_type; it is not the configuration of a model")


def whole(place: Path) -> bool:
    """Whether the directory has a configuration, a tokenizer, and all safetensors that it should have."""
    return (place / CONFIG).is_file() and bool(_present(place, TOKENIZERS)) and not missing_weights(place)


def missing_weights(place: Path) -> list[str]:
    """Files of weights that a directory should have but has not; ``*.safetensors`` where it has none at all."""
    if not (place / INDEX).is_file():
        return [] if _present(place, ("*.safetensors",)) else ["*.safetensors"]
    try:
        shards = set(json.loads((place / INDEX).read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError):
        return [f"readable {INDEX}"]
    return sorted(str(shard) for shard in shards if not (place / str(shard)).is_file())


def _present(place: Path, patterns: tuple[str, ...]) -> list[str]:
    return sorted(file.name for pattern in patterns for file in place.glob(pattern) if file.is_file())
