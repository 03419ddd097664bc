"""From a path in a configuration to a directory on this machine, or to the message where there is none.

A path is a directory, ``offline:NAME`` (`packages`), or a name on the hub (`hub`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from emorl_bench.core.errors import UserError
from emorl_bench.offline.fetching import directory
from emorl_bench.offline.hub import Unreachable, Wanted, snapshot
from emorl_bench.offline.packages import PACKAGES

OFFLINE = "offline:"


@dataclass(frozen=True)
class Located:
    """A model's directory and where it came from. ``source`` is directory, offline package or hub."""

    directory: Path
    asked: str
    source: str
    detail: str = ""
    commit: str | None = None
    """The commit of a hub's snapshot."""

    def __str__(self) -> str:
        """For logs."""
        return f"{self.asked}, from {self.source}{f' ({self.detail})' if self.detail else ''}"

    def record(self) -> dict[str, str | None]:
        """For a run's provenance."""
        return {"path": self.asked, "source": self.source, "commit": self.commit, "detail": self.detail or None}


def resolve(path: str) -> str:
    """The directory of ``offline:NAME``; every other path as it is.

    Raises:
        UserError: there is no such name, or it is not fetched yet.
    """
    return str(directory(path.removeprefix(OFFLINE))) if path.startswith(OFFLINE) else path


@lru_cache(maxsize=32)  # a job calls this several times and must get the same answer
def locate(
    path: str, revision: str | None = None, fallback: str | None = None, code: bool = False, key: str = "model.path"
) -> Located:
    """The directory of a model. Its content is checked elsewhere (`model_files`).

    Args:
        path: a directory, ``offline:NAME`` or a name on the hub.
        revision: a revision on the hub.
        fallback: ``offline:NAME``, used where the hub cannot be reached.
        code: whether the model's own code is wanted as well.
        key: the key that messages name.

    Raises:
        UserError: there is no such directory, package or name, or it cannot be fetched and there is no fallback.
    """
    if path.startswith(OFFLINE):
        return _packaged(path, path)
    if is_local(path):
        place = Path(path).expanduser()
        if not place.is_dir():
            raise UserError(f"{key}={path}: there is no such directory; give a model directory or a name on the hub")
        return Located(place, path, "directory")
    try:
        place = snapshot(Wanted(path, revision, code, key))
        return Located(place, path, "hub", f"commit {place.name}", place.name)
    except Unreachable as error:
        if fallback is None or not _serves(fallback, path):
            raise UserError(_no_hub(path, revision, key, error)) from error
        try:
            return _packaged(path, fallback, f"instead of the hub, {error}")
        except UserError as missing:
            raise UserError(f"{_no_hub(path, revision, key, error)} ({missing})") from error


def _serves(fallback: str, path: str) -> bool:
    """Whether a fallback is the model of this path. An unknown name is left to `directory`."""
    package = PACKAGES.get(fallback.removeprefix(OFFLINE))
    return package is None or package.model == path


def is_local(path: str) -> bool:
    """Whether a path can only be a directory. Otherwise it may be a name on the hub."""
    place = Path(path).expanduser()
    return place.exists() or path[:1] in (".", "/", "~", "") or path.count("/") > 1 or place.is_absolute()


def _packaged(asked: str, path: str, why: str = "") -> Located:
    place, package = Path(resolve(path)), PACKAGES[path.removeprefix(OFFLINE)]
    named = "" if asked == package.model else f"{package.model} of "
    detail = "; ".join(filter(None, (f"{named}{package.pin}: {package.stored}", why)))
    return Located(place, asked, "offline package", detail)


def _no_hub(path: str, revision: str | None, key: str, why: Exception) -> str:
    pin = f" --revision {revision}" if revision else ""
    return (
        f"{key}={path}: is no directory here, and the hub could not be asked for it ({why}); where there is one run: "
        f"hf download {path}{pin}, then go on with HF_HUB_OFFLINE=1; without one: "
        "emorl-assets fetch smollm2_135m and model=smollm2_135m, or the embedded model=tiny_t5 and model=tiny_gpt2"
    )
