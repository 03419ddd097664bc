"""What a model directory may make transformers read: plain files that lie in it, and nothing that can run.

transformers follows several names that stand in the files of a model: the shards of an index, the base model of an
adapter, the attention kernel of a configuration. Each can lead out of the directory, or to a pickle, or to code of the
hub. Here they are read first, for base models, encoders and judges alike.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from emorl_bench.core.errors import UserError

CONFIG, INDEX, ADAPTER = "config.json", "model.safetensors.index.json", "adapter_config.json"
TOKENIZER = "tokenizer_config.json"
READ = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.py", "vocab.*")
"""The files that transformers may open."""
SAFE = ".safetensors"
LAYERS = (
    "num_hidden_layers", "num_layers", "num_decoder_layers", "encoder_layers", "decoder_layers", "n_layer", "n_layers",
)  # fmt: skip
DEEPEST = 1_000  # layers that are built without a look at the weights
LONGEST_HEADER = 100_000_000  # bytes that the format of safetensors allows
ATTENTION = ("attn_implementation", "_attn_implementation")


def check_contained(place: Path, path: str, key: str = "model.path") -> None:
    """Check that a model can be loaded from its own directory, from safetensors, without code from elsewhere.

    Only regular files are opened here, so a FIFO or a device cannot make this wait.

    Args:
        place: the model's directory. A symbolic link to a regular file counts as one: the hub's cache consists of them.
        path: the directory or name as the user gave it.
        key: the key that messages name.

    Raises:
        UserError: a file is none, the index names something that is not a safetensors file of this directory, an
            adapter lies beside the model, or its configuration wants a kernel from the hub.
    """
    said = f"{key}={path}"
    _check_regular(place, said)
    for shard in shards(place) or ():
        if not _is_own_weights(shard):
            raise UserError(
                f"{said}: {INDEX} names {shard!r}, which is no {SAFE} file of this directory; weights are read from "
                "safetensors in the model's own directory only: give the original files"
            )
    if (place / ADAPTER).is_file():
        raise UserError(
            f"{said}: holds {ADAPTER}, so another model would be loaded in place of this one; give a directory with "
            f"the merged model, or delete {ADAPTER} where the model is whole without it"
        )
    config = _object(place / CONFIG)
    _check_layers(place, config, said)
    for name in ATTENTION:
        if "/" in str(config.get(name, "")):
            raise UserError(
                f"{said}: {CONFIG} wants {name}={str(config[name])[:80]!r}, a kernel of the hub, which is code; "
                f"delete {name} from it"
            )


def check_code(place: Path, path: str, key: str = "model.path") -> None:
    """Check that the code of a model, where it is trusted, lies in the model's directory.

    transformers takes a class that is named ``REPOSITORY--module.Class`` from the newest state of another repository of
    the hub, which no hash and no commit of a run covers.

    Args:
        place: the model's directory.
        path: the directory or name as the user gave it.
        key: the key that messages name.

    Raises:
        UserError: its configuration or its tokenizer names such a class.
    """
    for file in (CONFIG, TOKENIZER):
        for named in _texts(_object(place / file).get("auto_map")):
            if "--" in named:
                raise UserError(
                    f"{key}={path}: {file} takes {named[:80]!r} from another repository of the hub, so its code could "
                    "change between runs; copy that file here, and write module.Class into auto_map"
                )


def shards(place: Path) -> list[str] | None:
    """What the index of a model names, sorted; None where there is no index, or none that can be read."""
    named = _object(place / INDEX).get("weight_map")
    return sorted({str(shard) for shard in named.values()}) if isinstance(named, dict) else None


def _check_layers(place: Path, config: dict[str, Any], said: str) -> None:
    """A configuration with millions of layers would be built for hours before the first weight is looked for."""
    texts = config.get("text_config")
    for node in (config, texts if isinstance(texts, dict) else {}):
        for name in LAYERS:
            value = node.get(name)
            if isinstance(value, int) and value > DEEPEST and value > (tensors := _tensors(place)):
                raise UserError(
                    f"{said}: {CONFIG} wants {name}={value}, but its weights are {tensors} tensors; copy {CONFIG} again"
                )


def _tensors(place: Path) -> int:
    """Number of tensors by the headers of all safetensors files; a damaged one counts as empty."""
    count = 0
    for file in place.glob(f"*{SAFE}"):
        try:
            with file.open("rb") as stream:
                length = int.from_bytes(stream.read(8), "little")
                count += len(json.loads(stream.read(min(length, LONGEST_HEADER))))
        except (OSError, ValueError, RecursionError):
            continue  # the loader reports it
    return count


def _check_regular(place: Path, said: str) -> None:
    for pattern in READ:
        for file in sorted(place.glob(pattern)):
            if not file.is_file():
                raise UserError(f"{said}: {file.name} is no regular file; copy the model again, or delete it")


def _is_own_weights(shard: str) -> bool:
    plain = "/" not in shard and "\\" not in shard and "\0" not in shard
    return plain and shard.endswith(SAFE) and not shard.startswith(".")


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict | list):
        for value in node.values() if isinstance(node, dict) else node:
            yield from _texts(value)


def _object(file: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is none, because the loader reports a broken file itself."""
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
