"""The embedded models and scorers as they are shipped: files of the package, checked against the hashes in the code.

They were made once, by `emorl_bench.building`. Nothing is trained or built on a user's machine, so everybody reads the
same numbers. An asset is a directory below ``assets/shipped/``, such as ``reflections/tiny_t5`` or
``reflections/scorers``.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from emorl_bench.assets.hashes import SHA256
from emorl_bench.core.errors import UserError, did_you_mean

FAMILIES = {"tiny_t5": "seq2seq", "tiny_gpt2": "causal"}  # base models of each embedded task
SHIPPED = Path(__file__).parent / "shipped"
RESTORE = "restore it with `git checkout -- emorl_bench/assets/shipped`, or install emorl-bench again"


def asset_names() -> tuple[str, ...]:
    """The names of all shipped assets."""
    return tuple(dict.fromkeys(file.rpartition("/")[0] for file in SHA256))


@lru_cache(maxsize=32)
def asset_dir(name: str) -> Path:
    """The directory of an asset, after a check that all of its files are the shipped ones.

    Raises:
        UserError: there is no such asset, or a file of it is missing or damaged.
    """
    if name not in asset_names():
        raise UserError(f"embedded asset {name!r} is unknown{did_you_mean(name, asset_names())}")
    for file, expected in SHA256.items():
        if file.rpartition("/")[0] == name and (what := _wrong(SHIPPED / file, expected)):
            raise UserError(f"embedded asset {SHIPPED / file} {what}; {RESTORE}")
    return SHIPPED / name


def content_key() -> str:
    """A hash of all shipped files (16 hex digits). The numbers of the embedded tasks depend on these files."""
    listed = "\n".join(f"{file} {sha256}" for file, sha256 in sorted(SHA256.items()))
    return hashlib.sha256(listed.encode()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """The sha256 of a file in hex digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _wrong(path: Path, expected: str) -> str | None:
    try:
        return None if file_hash(path) == expected else "is damaged: it is not the file that was shipped"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
