"""Assets by content: built once from code, kept under the user's cache directory, checked when loaded.

The key is a hash of the sources and of the library versions that shape the result, so a change of code is a new
directory and never a stale file. Directory of an asset: ``<cache>/<key>/<name>/``, its ``manifest.json`` holds
the sha256 of every other file. ``EMORL_BENCH_CACHE`` overrides the place.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import tokenizers
import torch
import transformers
from filelock import FileLock

from emorl_bench.core.errors import UserError, did_you_mean
from emorl_bench.core.places import cache_root as cache_root  # known by this name above too

Builder = Callable[[Mapping[str, Path]], None]  # name -> empty directory to fill, for all missing assets at once
MANIFEST = "manifest.json"
SHIPPED = Path(__file__).parent / "shipped"  # trained once, part of the package
SOURCES = ("world/*.py", "tokenizer.py", "scorer_*.py", "scoring.py", "base_models.py")  # all that a score follows from


@dataclass(frozen=True)
class Cache:
    """A directory of named assets and the function that builds those that are missing."""

    root: Path
    names: tuple[str, ...]
    build: Builder

    def dir(self, name: str) -> Path:
        """The asset's directory, built or rebuilt first where it is absent or damaged."""
        if name not in self.names:
            raise UserError(f"asset {name!r} is unknown{did_you_mean(name, self.names)}")
        self.ensure((name,))
        return self.root / name

    def ensure(self, names: tuple[str, ...]) -> None:
        if all(map(self.sound, names)):
            return
        with self._lock():
            damaged = [name for name in self.names if not self.sound(name)]  # another process may have built by now
            if damaged:
                self._build(damaged)

    def sound(self, name: str) -> bool:
        """Whether every file is there and is what it was when written."""
        manifest = self.root / name / MANIFEST
        if not manifest.is_file():
            return False
        try:
            expected = json.loads(manifest.read_text())
        except ValueError:
            return False
        return bool(expected) and file_hashes(self.root / name) == expected

    def _build(self, names: list[str]) -> None:
        """Into temporary directories first: a build that is interrupted leaves nothing that looks whole."""
        drafts = {name: self.root / f"{name}.draft" for name in names}
        for draft in drafts.values():
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)
        self.build(drafts)
        for name, draft in drafts.items():
            (draft / MANIFEST).write_text(json.dumps(file_hashes(draft), indent=1))
            shutil.rmtree(self.root / name, ignore_errors=True)
            draft.rename(self.root / name)

    def _lock(self) -> FileLock:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            return FileLock(self.root / "build.lock")
        except OSError as error:
            raise UserError(
                f"cache directory {self.root} cannot be written ({error.strerror}); "
                "set EMORL_BENCH_CACHE to one that can"
            ) from error


def file_hashes(directory: Path) -> dict[str, str]:
    files = sorted(f for f in directory.rglob("*") if f.is_file() and f.name != MANIFEST)
    return {f.relative_to(directory).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def content_key() -> str:
    """Hash of the code and the versions the assets follow from."""
    digest = hashlib.sha256()
    package = Path(__file__).parent
    for source in sorted(path for pattern in SOURCES for path in package.glob(pattern)):
        digest.update(source.relative_to(package).as_posix().encode() + b"\0" + source.read_bytes())
    for library in (torch, transformers, tokenizers):
        digest.update(library.__version__.encode())
    return digest.hexdigest()[:16]


@lru_cache(maxsize=8)
def _cache(root: Path) -> Cache:
    from emorl_bench.assets.build import BUILDERS, build_assets  # not above: build's processes import this module too

    return Cache(root / content_key(), tuple(BUILDERS), build_assets)


def asset_cache() -> Cache:
    return _cache(cache_root())


@lru_cache(maxsize=32)
def _checked(root: Path, name: str) -> Path:
    """Hashing the files once per process is enough."""
    shipped = SHIPPED / name
    return shipped if (shipped / "config.json").is_file() else _cache(root).dir(name)


def asset_dir(name: str) -> Path:
    """Directory of ``reflections/tiny_t5``, ``sums/tiny_gpt2``, ``scorers/train`` or another: shipped or built."""
    return _checked(cache_root(), name)
