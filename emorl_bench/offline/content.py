"""Which files of a model directory decide what its model says, and one hash of all of them.

A tokenizer may read any file beside the weights, and code that comes with a model imports files of folders below. So
everything counts except what is known to decide nothing.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

NEVER_LOADED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".gguf", ".onnx", ".h5", ".msgpack", ".ot", ".pyc")
"""Weights and pickles that no loader of this project opens."""
FOR_PEOPLE = (".md", ".rst", ".png", ".jpg", ".svg", ".pdf")
TITLES = ("LICENSE", "LICENCE", "NOTICE", "README", "USE_POLICY")
BELOW = ("*.py", "*.jinja")
"""What is read from folders below: code, and further chat templates."""


def deciding(place: Path) -> list[Path]:
    """The files that can change what a model says, sorted by their path.

    Args:
        place: the model's directory.
    """
    beside = [file for file in place.iterdir() if _decides(file)]
    below = [file for pattern in BELOW for file in place.glob(f"*/**/{pattern}")]
    return sorted(file for file in (*beside, *below) if file.is_file())


def content_hash(place: Path) -> str:
    """The sha256, in hex digits, of names and content of the `deciding` files. It does not depend on the place."""
    digest = hashlib.sha256()
    for file in deciding(place):
        digest.update(file.relative_to(place).as_posix().encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _decides(file: Path) -> bool:
    name = file.name
    return not (name.startswith((".", *TITLES)) or name.lower().endswith((*NEVER_LOADED, *FOR_PEOPLE)))
